from __future__ import annotations

import datetime as dt
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import settings as no_deadline
from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError

from skytext.config.captioning import CaptionConfig
from skytext.config.settings import Config, dump_yaml, load_config
from skytext.config.yaml_text import parse_yaml
from skytext.errors import ConfigError


def fields(model: BaseModel, prefix: str = "") -> Iterator[tuple[str, Any, str | None]]:
    """Yield the dotted name, the default and the description of every setting."""
    for name, info in type(model).model_fields.items():
        value = getattr(model, name)
        if isinstance(value, BaseModel):
            yield from fields(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value, info.description


ALL = {name: (default, description) for name, default, description in fields(Config())}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "skytext.yaml"


def refused(settings: dict[str, Any], path: Path | None = None) -> str:
    """Check that these settings are refused. Return the message, which has one line."""
    with pytest.raises(ConfigError) as caught:
        load_config(path, settings)
    message = str(caught.value)
    assert "\n" not in message
    return message


@pytest.mark.parametrize("name", ALL)
def test_every_setting_is_described(name: str) -> None:
    description = ALL[name][1]
    assert description is not None
    assert len(description) >= 10
    assert description[-1] in ".…"


@pytest.mark.parametrize("name", ALL)
def test_every_default_holds_when_it_is_written_out(name: str) -> None:
    assert load_config(None, {name: ALL[name][0]}) == Config()


def test_every_section_has_a_description() -> None:
    for info in Config.model_fields.values():
        if isinstance(info.annotation, type) and issubclass(info.annotation, BaseModel):
            assert info.annotation.__doc__


@pytest.mark.parametrize(
    "name",
    [
        "nothing",
        "caption.modle",
        "caption.engine.gpus",
        "embed.engine.dtype",
        "job.readers_",
        "a.b",
    ],
)
def test_an_unknown_setting_is_named(name: str) -> None:
    message = refused({name: 1})
    # The message names the outermost missing part.
    assert re.search(r"wrong setting: [\w.]+: unknown setting", message)
    assert message.split(": ")[1] in name
    assert "skytext config show" in message


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("images.max_pixels", 0),
        ("images.min_side_px", -1),
        ("images.max_side_px", 0),
        ("caption.num_variants", 0),
        ("caption.num_variants", 33),
        ("caption.num_variants", "five"),
        ("caption.num_variants", 2.5),
        ("caption.temperature", -0.1),
        ("caption.temperature", 2.1),
        ("caption.temperature", float("nan")),
        ("caption.top_p", 0),
        ("caption.top_p", 1.01),
        ("caption.max_tokens", 0),
        ("caption.max_attempts", 0),
        ("caption.max_attempts", 11),
        ("caption.variants_by", "luck"),
        ("caption.model", ""),
        ("caption.structured_output", "perhaps"),
        ("caption.seed", "x"),
        ("caption.engine.num_engines", 0),
        ("caption.engine.num_gpus_per_engine", -1),
        ("caption.engine.num_cpus_per_engine", 0),
        ("caption.engine.tensor_parallel_size", 0),
        ("caption.engine.gpu_memory_utilization", 1.5),
        ("caption.engine.options", [1]),
        ("embed.model", ""),
        ("embed.dtype", "float8"),
        ("embed.batch_size", 0),
        ("embed.num_gpus_per_actor", -0.5),
        ("job.unit_images", 0),
        ("job.unit_images", 4097),
        ("job.units_in_flight", 1),
        ("job.commit_images", 0),
        ("job.commit_interval_s", 0),
        ("job.commit_interval_s", float("inf")),
        ("caption.engine.num_cpus_per_engine", float("inf")),
        ("caption.engine.start_timeout_s", float("nan")),
        ("embed.num_gpus_per_actor", float("inf")),
        ("job.read_cpus", 2),
        ("job.max_failure_rate", 0),
        ("job.max_failure_rate", 1.01),
        ("job.failure_rate_after", 0),
        ("job.max_attempts", 0),
        ("job.stall_timeout_s", 0),
        ("job.drain_s", -1),
        ("job.lease_s", 0),
        ("job.cost_per_engine_hour", -0.5),
        ("job.readers", 0),
        ("index.vector", "sometimes"),
        ("index.exact_below_rows", -1),
        ("index.nprobes", 0),
        ("index.refine_factor", 0),
        ("images.bands", []),
        ("images.bands", [4, 3]),
        ("images.bands", [1, 2, 3, 4]),
        ("images.bands", "BGR"),
        ("archive", ["a"]),
        ("caption", 5),
        ("job", "fast"),
    ],
)
def test_a_value_out_of_range_is_named_with_its_field(name: str, value: object) -> None:
    message = refused({name: value})
    assert message.startswith(f"wrong setting: {name}: ")
    assert repr(value) in message


def test_all_wrong_settings_are_reported_at_once() -> None:
    message = refused({"caption.num_variants": 0, "embed.batch_size": -1, "nothing": 1})
    assert "caption.num_variants" in message
    assert "embed.batch_size" in message
    assert "nothing" in message


def test_equal_samples_are_refused() -> None:
    message = refused({"caption.temperature": 0})
    assert message.startswith("wrong setting: caption: temperature 0 makes all samples equal")
    assert "num_variants to 1" in message


@pytest.mark.parametrize(
    "way_out", [{"caption.num_variants": 1}, {"caption.variants_by": "one_request"}]
)
def test_temperature_0_is_right_where_one_answer_is_wanted(way_out: dict[str, Any]) -> None:
    assert load_config(None, {"caption.temperature": 0, **way_out}).caption.temperature == 0


def test_options_override_the_file_and_the_file_overrides_defaults(file: Path) -> None:
    file.write_text("caption:\n  num_variants: 3\n  top_p: 0.5\narchive: fields\n")
    config = load_config(file, {"caption.num_variants": 2, "job.readers": 7, "caption.seed": None})
    assert config.caption.num_variants == 2
    assert config.caption.top_p == 0.5
    assert config.caption.max_tokens == CaptionConfig().max_tokens
    assert config.archive == "fields"
    assert config.job.readers == 7


def test_file_and_options_override_settings_of_an_earlier_run(file: Path) -> None:
    earlier = load_config(None, {"caption.num_variants": 3, "job.readers": 5, "archive": "fields"})
    base = earlier.model_dump(mode="json")
    assert load_config(None, None, base) == earlier
    file.write_text("caption: {top_p: 0.5}\njob: {readers: 6}\n")
    config = load_config(file, {"caption.seed": 7, "job.writers": 3}, base)
    assert (config.archive, config.caption.num_variants) == ("fields", 3)
    assert (config.caption.top_p, config.caption.seed) == (0.5, 7)
    assert (config.job.readers, config.job.writers) == (6, 3)
    # The argument of the caller is not changed.
    assert base == earlier.model_dump(mode="json")


def test_an_explicit_null_is_a_value(file: Path) -> None:
    file.write_text("archive: fields\ncaption: {seed: 7, prompt: demo-1, num_variants: 3}\n")
    config = load_config(file, {"archive": None, "caption.seed": None, "caption.prompt": None})
    assert (config.archive, config.caption.seed, config.caption.prompt) == (None, None, None)
    assert config.caption.num_variants == 3


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("caption.modle", "unknown setting"),
        ("job.unit_images", "given: None"),
        ("job", "given: None"),
    ],
)
def test_a_null_is_checked_like_any_value(name: str, words: str) -> None:
    message = refused({name: None})
    assert message.startswith(f"wrong setting: {name}: ")
    assert words in message


def test_no_file_and_no_overrides_are_the_defaults(file: Path) -> None:
    assert load_config() == Config()
    file.write_text("")
    assert load_config(file) == Config()
    file.write_text("# nothing yet\n")
    assert load_config(file, {}) == Config()


def test_a_wrong_setting_of_a_file_names_the_file(file: Path) -> None:
    file.write_text("caption:\n  num_variants: 99\n")
    message = refused({}, file)
    assert message.startswith(f"wrong setting in {file}: caption.num_variants: ")
    assert "99" in message


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("caption: [", "is not YAML"),
        ("a: b: c", "is not YAML"),
        ("caption: *nobody", "is not YAML"),
        ("!!python/object:os.system {}", "is not YAML"),
        (
            "caption: {seed: 1}\njob: {}\ncaption: {}",
            "line 3 contains the key 'caption' a second time",
        ),
        ("job:\n  readers: 1\n  readers: 2", "line 3 contains the key 'readers' a second time"),
        ("archive: 2024-13-45", "is not YAML"),
        ("just words", "must have sections such as 'caption:'"),
        ("- caption", "must have sections"),
        ("3", "must have sections"),
        ("1: 2", "1: Keys should be strings"),
        ("caption:", "caption: Input should be a valid dictionary"),
        ("archive: 2024", "archive: Input should be a valid string"),
    ],
)
def test_a_file_of_another_form_is_refused(file: Path, content: str, words: str) -> None:
    file.write_text(content)
    message = refused({}, file)
    assert words in message
    assert str(file) in message


def test_a_binary_file_is_refused(file: Path) -> None:
    file.write_bytes(b"archive: M\xfcnchen")
    assert "is not YAML" in refused({}, file)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_a_file_of_any_unicode_encoding_is_read(file: Path, encoding: str) -> None:
    file.write_text("archive: München\n", encoding=encoding)
    assert load_config(file).archive == "München"


def test_a_missing_file_and_a_folder_are_refused(file: Path) -> None:
    assert refused({}, file) == f"cannot read the configuration {file}: No such file or directory"
    assert "Is a directory" in refused({}, file.parent)


def test_a_setting_cannot_be_used_as_a_section(file: Path) -> None:
    file.write_text("caption:\n  model: demo\n")
    assert "section 'model'" in refused({"caption.model.name": "x"}, file)


def test_the_callers_overrides_are_not_changed() -> None:
    overrides = {"caption.num_variants": 2}
    load_config(None, overrides)
    assert overrides == {"caption.num_variants": 2}


def test_a_dump_round_trips(file: Path) -> None:
    config = load_config(
        None,
        {
            "archive": "Ackerland – süd: 'x' #1",
            "caption.seed": 7,
            "caption.engine.options": {"a": [1, 2.5, None, True], "b": {"c": "on"}},
            "caption.engine.cpu_cores": "0-3",
            "embed.revision": "1e5",
        },
    )
    file.write_text(dump_yaml(config), encoding="utf-8")
    assert load_config(file) == config


def test_a_dump_is_plain_yaml_with_every_setting() -> None:
    assert yaml.safe_load(dump_yaml(Config())) == Config().model_dump(mode="json")


@no_deadline(deadline=None)  # The machine may be busy.
@given(
    st.fixed_dictionaries(
        {},
        optional={
            "archive": st.text(),
            "caption.model": st.text(min_size=1),
            "caption.num_variants": st.integers(1, 32),
            "caption.temperature": st.floats(0.01, 2),
            "caption.top_p": st.floats(0.01, 1),
            "caption.seed": st.integers(),
            "caption.variants_by": st.sampled_from(["samples", "one_request"]),
            "caption.engine.num_gpus_per_engine": st.floats(0, 8),
            "caption.engine.options": st.dictionaries(
                st.text(), st.none() | st.booleans() | st.integers() | st.text()
            ),
            "job.commit_interval_s": st.floats(0.001, 1e9),
            "index.vector": st.sampled_from(["auto", "always", "never"]),
        },
    )
)
def test_any_configuration_survives_its_yaml(settings: dict[str, Any]) -> None:
    config = load_config(None, settings)
    assert Config.model_validate(yaml.safe_load(dump_yaml(config))) == config


@pytest.mark.parametrize(
    "section", [None, "images", "caption", "caption.engine", "embed", "job", "index"]
)
def test_a_configuration_cannot_be_changed(section: str | None) -> None:
    model: Any = Config()
    for name in section.split(".") if section else ():
        model = getattr(model, name)
    field = next(iter(type(model).model_fields))
    with pytest.raises(ValidationError, match="frozen"):
        setattr(model, field, getattr(model, field))


def test_settings_come_from_no_environment_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("CAPTION__MODEL", "SKYTEXT_CAPTION__MODEL", "SKYTEXT_CAPTION_MODEL", "ARCHIVE"):
        monkeypatch.setenv(name, "other")
    assert load_config() == Config()


def test_dates_are_dates_after_any_import(monkeypatch: pytest.MonkeyPatch) -> None:
    constructors = yaml.SafeLoader.yaml_constructors
    text = constructors["tag:yaml.org,2002:str"]
    monkeypatch.setitem(constructors, "tag:yaml.org,2002:timestamp", text)
    assert yaml.safe_load("2024-01-02") == "2024-01-02"
    assert parse_yaml("2024-01-02") == dt.date(2024, 1, 2)
