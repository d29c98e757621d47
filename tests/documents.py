"""Read the code blocks, commands, settings and links in the documents of the project."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parent.parent
PAGES = (
    ROOT / "README.md",
    *sorted((ROOT / "docs").rglob("*.md")),
    ROOT / "tests" / "README.md",
    ROOT / "bench" / "gpu" / "README.md",
)
_SHELL_OPERATORS = frozenset("|&;<>()")


def page_name(page: Path) -> str:
    """Return the path of a page below the repository's root."""
    return str(page.relative_to(ROOT))


def blocks(page: Path) -> list[tuple[str, str]]:
    """Return the language and the text of every fenced block of a page."""
    return re.findall(r"^```(\w*)\n(.*?)^```", page.read_text(encoding="utf-8"), re.M | re.S)


def inline_codes(page: Path) -> list[str]:
    """Return every text of a page that is in single backticks."""
    prose = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.M | re.S)
    return [" ".join(code.split()) for code in re.findall(r"`([^`]+)`", prose)]


def shell_commands(page: Path) -> Iterator[list[str]]:
    """Yield the words of every command in the fenced blocks that are not Python or JSON."""
    for language, text in blocks(page):
        if language in ("python", "json", "nginx"):
            continue
        for line in text.replace("\\\n", " ").splitlines():
            yield from _commands_of_line(line)


def _commands_of_line(line: str) -> Iterator[list[str]]:
    lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    try:
        words = list(lexer)
    except ValueError:
        # This line is output and no command. It contains an unpaired apostrophe or quotation mark.
        return
    command: list[str] = []
    for word in [*words, ";"]:
        if not set(word) <= _SHELL_OPERATORS:
            command.append(word)
        elif command:
            yield command
            command = []


def skytext_calls(page: Path) -> Iterator[list[str]]:
    """Yield the arguments of every ``skytext …`` and ``python -m jobs.…`` command of a page."""
    for words in shell_commands(page):
        for i, word in enumerate(words):
            is_argument = i > 0 and words[i - 1].startswith("-")
            if re.search(r"(?:^|[/=])skytext$", word) and words[i + 1 :] and not is_argument:
                yield words[i + 1 :]
            elif word == "-m" and words[i + 1].startswith("jobs."):
                yield [words[i + 1].removeprefix("jobs.").replace("_", "-"), *words[i + 2 :]]


def module_calls(page: Path) -> Iterator[tuple[str, list[str]]]:
    """Yield the module and the option names of every ``python -m MODULE …`` of a page."""
    inline = [code.split() for code in inline_codes(page)]
    for words in [*shell_commands(page), *inline]:
        for i, word in enumerate(words[:-1]):
            if word == "-m" and words[i - 1].endswith(("python", "python3.11")):
                options = [o.split("=")[0] for o in words[i + 2 :] if o.startswith("--")]
                yield words[i + 1], options


def links(page: Path) -> list[str]:
    """Return every link of a page to a file or a heading of the repository."""
    return re.findall(r"\]\((?!\w+:)([^)\s]+)\)", page.read_text(encoding="utf-8"))


def anchors(page: Path) -> set[str]:
    """Return the names that links use for the headings of a page."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
