"""The content of a report in any format: sections of text, tables and images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

Outcome = Literal["done", "partial", "failed"]


@dataclass(frozen=True, slots=True)
class Grid:
    """A table.

    Attributes:
        head: names of the columns.
        rows: cells as texts; numbers are aligned right.
        num_texts: the first columns, so many, are texts; the others are numbers.
    """

    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    num_texts: int = 1


@dataclass(frozen=True, slots=True)
class Card:
    """An image with its texts.

    Attributes:
        name: of the image.
        lines: pairs of a label, which may be empty, and a text.
        picture: a WebP file; None if the image cannot be shown.
        note: why it cannot be shown.
    """

    name: str
    lines: Sequence[tuple[str, str]]
    picture: bytes | None = None
    note: str = ""


@dataclass(frozen=True, slots=True)
class Section:
    """A part of a report.

    Attributes:
        title: of the part.
        texts: paragraphs.
        grid: a table; None for none.
        cards: images.
        link: the name of a file in the report's folder; empty for none.
    """

    title: str
    texts: Sequence[str] = ()
    grid: Grid | None = None
    cards: Sequence[Card] = ()
    link: str = ""

    @property
    def is_empty(self) -> bool:
        """Whether the section has no content."""
        return not (self.texts or self.cards or self.link or (self.grid and self.grid.rows))


@dataclass(frozen=True, slots=True)
class Page:
    """A report.

    Attributes:
        title: of the report.
        outcome: how the run ended.
        facts: the most important figures: labels and values.
        problem: the problem in one line; empty without one.
        sections: in order; empty ones are left out.
    """

    title: str
    outcome: Outcome
    facts: Sequence[tuple[str, str]]
    problem: str = ""
    sections: Sequence[Section] = field(default=())

    @property
    def shown(self) -> list[Section]:
        """The sections with content."""
        return [section for section in self.sections if not section.is_empty]
