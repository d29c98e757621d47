"""What a report says, whatever the format: sections of text, tables and images."""

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
        rows: cells as texts; those that are numbers stand on the right.
        num_texts: so many columns, the first ones, are texts; the others are numbers.
    """

    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    num_texts: int = 1


@dataclass(frozen=True, slots=True)
class Card:
    """An image and what is said of it.

    Attributes:
        name: of the image.
        lines: labels, empty for none, and texts.
        picture: a WebP file; None where the image cannot be shown.
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
        link: the name of a file beside the report; empty for none.
    """

    title: str
    texts: Sequence[str] = ()
    grid: Grid | None = None
    cards: Sequence[Card] = ()
    link: str = ""

    @property
    def is_empty(self) -> bool:
        """Whether it says nothing."""
        return not (self.texts or self.cards or self.link or (self.grid and self.grid.rows))


@dataclass(frozen=True, slots=True)
class Page:
    """A report.

    Attributes:
        title: of the report.
        outcome: how the run ended.
        facts: the most important figures: labels and values.
        problem: what is wrong, in one line; empty where nothing is.
        sections: in order; empty ones are left out.
    """

    title: str
    outcome: Outcome
    facts: Sequence[tuple[str, str]]
    problem: str = ""
    sections: Sequence[Section] = field(default=())

    @property
    def shown(self) -> list[Section]:
        """The sections that say something."""
        return [section for section in self.sections if not section.is_empty]
