from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path

import pytest

from skytext.captions.prompts import Prompt, available, load_prompt
from skytext.errors import ConfigError

# A used prompt is never edited, because existing tables contain its id. A new wording gets a new
# file, a new id and a new line here.
SHA256 = {
    "demo-1": "9c51c4798a66dd1e5f389b4f8995cb46c851a6d94c669805e6a5ba27ca43a51d",
    "rsrt-1": "3e98ac0fc96db2b446fb6dcb732e926a4a07666fe790fac685ad8c468fd13ac9",
}


def test_every_packaged_prompt_is_pinned() -> None:
    assert available() == sorted(SHA256)


@pytest.mark.parametrize("name", SHA256)
def test_a_used_prompt_is_never_edited(name: str) -> None:
    assert load_prompt(name).sha256 == SHA256[name]


@pytest.mark.parametrize("name", SHA256)
def test_a_packaged_prompt_has_both_wordings(name: str) -> None:
    prompt = load_prompt(name)
    assert prompt.prompt_id == name
    assert "remote sensing image" in prompt.one
    assert prompt.all is not None
    assert "{num_variants}" in prompt.all
    assert prompt.one == prompt.one.strip()


@pytest.mark.parametrize("name", SHA256)
@pytest.mark.parametrize("num_variants", [2, 5, 32])
def test_the_wording_for_all_names_their_number(name: str, num_variants: int) -> None:
    text = load_prompt(name).all_text(num_variants)
    assert str(num_variants) in text
    assert "num_variants" not in text
    assert not re.search(r"\{\{|\}\}", text)


def test_the_json_in_the_wording_for_all_has_single_braces() -> None:
    text = load_prompt("rsrt-1").all_text(3)
    found = re.search(r"\{.*\}", text)
    assert found is not None
    assert json.loads(found.group().replace("...", "")) == {"variants": []}


@pytest.mark.parametrize("name", ["rsrt-1"])
@pytest.mark.parametrize("field", ["one_sentence", "feature", "caption"])
def test_the_general_wording_names_every_field(name: str, field: str) -> None:
    prompt = load_prompt(name)
    assert f'"{field}":' in prompt.one
    assert f'"{field}":' in prompt.all_text(5)


def test_a_prompt_of_your_own_is_read_from_its_file(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    content = b"id: mine-3\none: Describe it.\nall: Describe it {num_variants} times.\n"
    path.write_bytes(content)
    assert load_prompt(str(path)) == Prompt(
        prompt_id="mine-3",
        one="Describe it.",
        all="Describe it {num_variants} times.",
        sha256=hashlib.sha256(content).hexdigest(),
    )


def test_a_changed_byte_is_another_prompt(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("id: mine\none: Describe it.\n")
    before = load_prompt(str(path)).sha256
    path.write_text("id: mine\none: Describe it!\n")
    assert load_prompt(str(path)).sha256 != before


def test_one_request_for_all_needs_a_wording(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("id: mine\none: Describe it.\n")
    prompt = load_prompt(str(path))
    assert prompt.all is None
    with pytest.raises(ConfigError, match=r"prompt 'mine' has no key 'all'.*variants_by"):
        prompt.all_text(5)


@pytest.mark.parametrize("name", ["rsrt-9", "missing/p.yaml", ""])
def test_an_unknown_prompt_gets_the_list_of_prompts(name: str) -> None:
    with pytest.raises(ConfigError, match=r"demo-1, rsrt-1") as caught:
        load_prompt(name)
    assert repr(name) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_folder_is_refused_as_a_prompt(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"Is a directory"):
        load_prompt(str(tmp_path))


@pytest.mark.parametrize(
    "content",
    [
        "",
        "just words",
        "- id: a\n- one: b\n",
        "id: a\n",
        "one: b\n",
        "id: ''\none: b\n",
        "id: a\none: ''\n",
        "id: 3\none: b\n",
        "id: a\none: [b]\n",
        "id: a\none: b\nall: 3\n",
        "id: a\none: b\nextra: c\n",
        "id: a\none: b\n3: c\n",
    ],
)
def test_a_prompt_file_of_another_form_is_refused(tmp_path: Path, content: str) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(content)
    with pytest.raises(ConfigError, match=r"must have the keys 'id' and 'one'") as caught:
        load_prompt(str(path))
    assert "mine.yaml" in str(caught.value)


def test_an_invalid_yaml_prompt_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("id: [a\none: b\n")
    with pytest.raises(ConfigError, match=r"mine.yaml' is not YAML"):
        load_prompt(str(path))


def test_a_bad_prompt_file_is_reported_in_one_line(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    for content in (b"id: [a\none: b\n", b"id: a\n  one: b\n\t- c\n", b"\xff\xfe\x00"):
        path.write_bytes(content)
        with pytest.raises(ConfigError, match="is not YAML") as caught:
            load_prompt(str(path))
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "wording",
    [
        'Answer with {"variants": [...]} of {num_variants} objects.',
        "{num_variants} of {anything} {} {0} {{twice}} {num_variants!r} } {",
        "No number at all.",
    ],
)
def test_braces_in_a_wording_are_plain_text(tmp_path: Path, wording: str) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(f"id: mine\none: Describe {{it}}.\nall: |-\n  {wording}\n")
    prompt = load_prompt(str(path))
    assert prompt.one == "Describe {it}."
    assert prompt.all_text(3) == wording.replace("{num_variants}", "3")
