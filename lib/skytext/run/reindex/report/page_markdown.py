"""Write a report as Markdown, without images."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from skytext.run.reindex.report.page import Grid, Page, Section

_SPECIAL = re.compile(r"([\\`*_\[\]<>|#])")


def to_markdown(page: Page) -> str:
    """Return a report as Markdown."""
    lines = [f"# {_plain(page.title)}", "", f"**{page.outcome}**"]
    lines += ["", f"**{_plain(page.problem)}**"] if page.problem else []
    lines += ["", *(f"- {_plain(label)}: {_plain(value)}" for label, value in page.facts)]
    for section in page.shown:
        lines += ["", f"## {_plain(section.title)}", *_section(section)]
    return "\n".join(lines) + "\n"


def _section(section: Section) -> Iterator[str]:
    for text in section.texts:
        yield from ("", _plain(text))
    if section.grid is not None and section.grid.rows:
        yield from ("", *_grid(section.grid))
    if section.link:
        yield from ("", f"[{section.link}]({section.link})")
    for card in section.cards:
        yield from ("", f"- **{_plain(card.name)}**")
        for label, text in card.lines:
            yield f"  - {_plain(f'{label}: {text}' if label else text)}"


def _grid(grid: Grid) -> Iterator[str]:
    yield _row(grid.head)
    yield _row(["---" if i < grid.num_texts else "--:" for i in range(len(grid.head))])
    for row in grid.rows:
        yield _row([_plain(cell) for cell in row])


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _plain(text: str) -> str:
    """Return a text as one line, and escape the special characters of Markdown."""
    return _SPECIAL.sub(r"\\\1", " ".join(text.split()))
