"""Test that the commands, settings and links in the documents exist."""

from __future__ import annotations

import ast
import importlib.util
import re
import tomllib
from functools import cache
from pathlib import Path
from typing import Any

import click
import pytest
import typer
import yaml

from skytext.cli import app
from skytext.config.settings import Config, load_config, reference
from skytext.table.schema import ROW, RUNS
from tests.documents import (
    PAGES,
    ROOT,
    anchors,
    blocks,
    inline_codes,
    links,
    module_calls,
    page_name,
    shell_commands,
    skytext_calls,
)

# These texts look like settings, but are names of files or events of the webhook.
_NO_SETTING = re.compile(
    r"\.(md|py|yaml|yml|json|jsonl|tar|jpg|lance|png)$|^reindex\.(done|partial|failed)$"
)
_GROUPS = ("config", "keys", "watch")


@cache
def command_of(name: str) -> click.Command:
    """Return a ``skytext`` command by its words, for example ``keys add``."""
    command: Any = typer.main.get_command(app)
    for word in name.split():
        assert word in command.commands, f"there is no command skytext {name}"
        command = command.commands[word]
    return command


def split_call(words: list[str]) -> tuple[str, list[str]]:
    """Return the command and the arguments of a call."""
    size = 2 if words[0] in _GROUPS else 1
    return " ".join(words[:size]), words[size:]


@cache
def setting(name: str) -> Any:
    """Return the default value of a setting. Fail if the setting does not exist."""
    value: Any = load_config().model_dump()
    for part in name.split("."):
        assert part in value, f"there is no setting {name}"
        value = value[part]
    return value


@pytest.mark.parametrize(
    ("page", "words"),
    [
        pytest.param(page, words, id=f"{page_name(page)}: {' '.join(words)}")
        for page in PAGES
        for words in skytext_calls(page)
    ],
)
def test_the_command_line_accepts_every_command(page: Path, words: list[str]) -> None:
    name, arguments = split_call(words)
    command_of(name).make_context(name, arguments, obj={})
    for i, word in enumerate(arguments):
        if word == "--set":
            setting(arguments[i + 1].partition("=")[0])


@pytest.mark.parametrize("page", PAGES, ids=page_name)
def test_every_command_within_a_sentence_exists_with_its_options(page: Path) -> None:
    for code in inline_codes(page):
        words = code.split()
        if words[0] != "skytext" or len(words) == 1 or not re.match(r"[a-z-]+$", words[1]):
            continue
        name, arguments = split_call(words[1:])
        known = {opt for parameter in command_of(name).params for opt in parameter.opts}
        given = {word.split("=")[0] for word in arguments if re.match(r"--?[a-z]", word)}
        assert given <= known | {"--help"}, code


@pytest.mark.parametrize("page", PAGES, ids=page_name)
def test_every_python_module_exists_with_its_options(page: Path) -> None:
    for module, options in module_calls(page):
        spec = importlib.util.find_spec(module)
        assert spec is not None, module
        folder = Path(str(spec.origin)).parent
        if not folder.is_relative_to(ROOT) or module.startswith("jobs."):
            continue
        source = "\n".join(file.read_text(encoding="utf-8") for file in folder.glob("*.py"))
        for option in options:
            name = option.removeprefix("--no-").removeprefix("--")
            assert re.search(rf"\b{name}\b|\b{name.replace('-', '_')}\b", source), (module, option)


@pytest.mark.parametrize("page", PAGES, ids=page_name)
def test_every_setting_exists(page: Path) -> None:
    sections = "|".join(Config.model_fields)
    for code in inline_codes(page):
        found = re.match(rf"(?:--set )?((?:{sections})(?:\.\w+)+)", code)
        if found and not _NO_SETTING.search(found.group(1)):
            setting(found.group(1))


@pytest.mark.parametrize("page", PAGES, ids=page_name)
def test_every_block_of_settings_is_valid(page: Path) -> None:
    for language, text in blocks(page):
        loaded = yaml.safe_load(text) if language == "yaml" else None
        if isinstance(loaded, dict) and loaded.keys() <= Config.model_fields.keys():
            load_config(base=loaded)


@pytest.mark.parametrize("page", PAGES, ids=page_name)
def test_every_make_target_exists(page: Path) -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for words in [*shell_commands(page), *(code.split() for code in inline_codes(page))]:
        if words[0] == "make" and words[1:]:
            assert re.search(rf"^{words[1]}:", makefile, re.M), words


@pytest.mark.parametrize("page", PAGES, ids=page_name)
def test_every_extra_exists(page: Path) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    for extra in re.findall(r"skytext\[(\w+)\]", page.read_text(encoding="utf-8")):
        assert extra in project["optional-dependencies"]


@pytest.mark.parametrize("page", PAGES, ids=page_name)
def test_every_python_block_is_valid_and_imports_names_that_exist(page: Path) -> None:
    for language, text in blocks(page):
        if language != "python":
            continue
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.ImportFrom) and str(node.module).startswith("skytext"):
                # The module is not imported, because the import of some modules takes seconds.
                spec = importlib.util.find_spec(str(node.module))
                assert spec is not None, node.module
                assert spec.origin is not None, node.module
                source = Path(spec.origin).read_text(encoding="utf-8")
                for name in () if "import *" in source else node.names:
                    assert re.search(rf"\b{name.name}\b", source), (node.module, name.name)


@pytest.mark.parametrize(
    ("page", "link"),
    [
        pytest.param(page, link, id=f"{page_name(page)}: {link}")
        for page in PAGES
        for link in sorted(set(links(page)))
    ],
)
def test_the_target_of_every_link_exists(page: Path, link: str) -> None:
    name, _, anchor = link.partition("#")
    target = page.parent / name if name else page
    assert target.exists()
    assert not anchor or anchor in anchors(target)


def test_the_configuration_page_is_the_one_that_the_command_prints() -> None:
    page = (ROOT / "docs" / "reference" / "configuration.md").read_text(encoding="utf-8")
    assert page == reference(), "run: skytext config reference > docs/reference/configuration.md"


def command_names(group: Any, prefix: str = "skytext") -> list[str]:
    """Return the names of all commands of a group and of its subgroups."""
    names = []
    for name, command in group.commands.items():
        words = f"{prefix} {name}"
        names += command_names(command, words) if hasattr(command, "commands") else [words]
    return names


def test_the_reference_lists_every_command() -> None:
    page = (ROOT / "docs" / "reference" / "commands.md").read_text(encoding="utf-8")
    names = command_names(typer.main.get_command(app))
    assert len(names) > 20
    assert [name for name in names if f"`{name}" not in page] == []


def test_the_reference_lists_every_column_of_the_table() -> None:
    page = (ROOT / "docs" / "reference" / "table.md").read_text(encoding="utf-8")
    columns = [name for name in (*ROW.names, *RUNS.names) if f"`{name}`" not in page]
    assert columns == []
