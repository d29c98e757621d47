"""What the documents say is what the package does."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from skytext.cli import app
from skytext.config.settings import load_config, reference

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def readme_commands() -> list[list[str]]:
    """Return the words of every ``skytext`` command that the README shows."""
    blocks = re.findall(r"```console\n(.*?)```", README, flags=re.DOTALL)
    lines = "\n".join(blocks).replace("\\\n", " ").splitlines()
    found = []
    for line in lines:
        match = re.search(r"(?:^|/)skytext (.+)", line.strip())
        if match and not line.strip().startswith("pip"):
            found.append(match.group(1).split())
    return found


def test_the_configuration_page_is_the_one_that_the_command_prints() -> None:
    page = (ROOT / "docs" / "configuration.md").read_text(encoding="utf-8")
    assert page == reference(), "run: skytext config reference > docs/configuration.md"


@pytest.mark.parametrize("words", readme_commands(), ids=" ".join)
def test_every_command_of_the_readme_exists_with_its_options(words: list[str]) -> None:
    names = [words[0]] if words[0] != "config" else words[:2]
    shown = CliRunner().invoke(app, [*names, "--help"])
    assert shown.exit_code == 0, shown.output
    for option in (word for word in words if word.startswith("--")):
        assert option in shown.output


@pytest.mark.parametrize("name", re.findall(r"--set ([\w.]+)=", README))
def test_every_setting_of_the_readme_exists(name: str) -> None:
    settings = load_config().model_dump()
    for part in name.split("."):
        assert part in settings
        settings = settings[part]


@pytest.mark.parametrize(
    "name",
    sorted(
        set(
            re.findall(
                r"`((?:caption|embed|job)\.[\w.]+)",
                (ROOT / "docs" / "gpu.md").read_text(encoding="utf-8"),
            )
        )
    ),
)
def test_every_setting_of_the_gpu_page_exists(name: str) -> None:
    settings = load_config().model_dump()
    for part in name.split("."):
        assert part in settings
        settings = settings[part]


@pytest.mark.parametrize("target", sorted(set(re.findall(r"(?:`|^)make (\w+)", README, re.M))))
def test_every_make_target_of_the_readme_exists(target: str) -> None:
    assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(), flags=re.MULTILINE)


def links() -> list[tuple[str, str]]:
    """Return every link of a document to a file or a heading of ours, with the document."""
    found = set()
    for page in (ROOT / "README.md", *(ROOT / "docs").glob("*.md")):
        for link in re.findall(r"\]\((?!\w+:)([^)\s]+)\)", page.read_text(encoding="utf-8")):
            found.add((str(page.relative_to(ROOT)), link))
    return sorted(found)


def anchors(page: Path) -> set[str]:
    """Return what the headings of a page are linked by."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize(("page", "link"), links())
def test_what_a_page_links_is_there(page: str, link: str) -> None:
    name, _, anchor = link.partition("#")
    target = (ROOT / page).parent / name if name else ROOT / page
    assert target.exists()
    assert not anchor or anchor in anchors(target)
