from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from skytext.cli.options import parse_settings
from skytext.config.settings import Config
from skytext.errors import ConfigError
from tests.cli.conftest import Skytext


def test_show_prints_the_defaults_as_yaml(skytext: Skytext) -> None:
    called = skytext("config", "show")
    assert (called.status, called.err) == (0, "")
    assert Config.model_validate(yaml.safe_load(called.out)) == Config()


def test_the_output_of_show_is_a_valid_file(skytext: Skytext, tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    settings = ["--set", "caption.num_variants=3", "--set", "archive=fields"]
    file.write_text(skytext("config", "show", *settings).out)
    called = skytext("config", "validate", file)
    assert (called.status, called.err) == (0, "")
    assert called.out == f"{file}: all settings are known and in range\n"
    shown = skytext("config", "show", "--config", file)
    assert shown.out == file.read_text()
    assert yaml.safe_load(shown.out)["caption"]["num_variants"] == 3


def test_show_and_validate_print_json(skytext: Skytext, tmp_path: Path) -> None:
    shown = skytext("config", "show", "--json", "--set", "caption.seed=7")
    assert shown.out.count("\n") == 1
    assert json.loads(shown.out)["caption"]["seed"] == 7
    assert Config.model_validate(json.loads(shown.out)).caption.seed == 7
    file = tmp_path / "mine.yaml"
    file.write_text("archive: fields\n")
    called = skytext("config", "validate", file, "--json")
    assert json.loads(called.out) == {"file": str(file), "valid": True}


def test_options_override_the_file(skytext: Skytext, tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("caption: {num_variants: 3, top_p: 0.5}\n")
    called = skytext(
        "config", "show", "--json", "--config", file, "--set", "caption.num_variants=4"
    )
    caption = json.loads(called.out)["caption"]
    assert (caption["num_variants"], caption["top_p"]) == (4, 0.5)


def test_the_last_of_two_settings_wins(skytext: Skytext) -> None:
    called = skytext("config", "show", "--json", "--set", "archive=a", "--set", "archive=b")
    assert json.loads(called.out)["archive"] == "b"


def test_the_reference_names_every_setting(skytext: Skytext) -> None:
    called = skytext("config", "reference")
    assert called.status == 0
    for name in ("archive", "caption.num_variants", "caption.engine.options", "index.nprobes"):
        assert f"| `{name}` |" in called.out


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("a=1", 1),
        ("a=0.5", 0.5),
        ("a=true", True),
        ("a=", None),
        ("a=null", None),
        ("a=words and more", "words and more"),
        ("a='1'", "1"),
        ("a=[1, 2]", [1, 2]),
        ("a={b: c}", {"b": "c"}),
        ("a=b=c", "b=c"),
        ("a=s3://bucket/path", "s3://bucket/path"),
    ],
)
def test_a_settings_value_is_yaml(setting: str, value: object) -> None:
    assert parse_settings([setting]) == {"a": value}


@pytest.mark.parametrize("setting", ["", "a", "=1", "="])
def test_a_setting_without_a_name_or_a_value_is_refused(setting: str) -> None:
    with pytest.raises(ConfigError, match="must be NAME=VALUE"):
        parse_settings([setting])


def test_a_null_option_overrides_the_file(skytext: Skytext, tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("archive: fields\ncaption: {seed: 7}\n")
    nulls = ["--set", "caption.seed=null", "--set", "archive="]
    shown = json.loads(skytext("config", "show", "--json", "--config", file, *nulls).out)
    assert (shown["archive"], shown["caption"]["seed"]) == (None, None)
    called = skytext("config", "show", "--set", "caption.sead=null")
    assert (called.status, called.out) == (2, "")
    assert "caption.sead: unknown setting" in called.err
