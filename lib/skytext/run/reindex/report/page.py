"""The content of a report, independent of its file format."""

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
        rows: the cells of each row, as strings.
        num_texts: number of text columns. The text columns come first and are aligned left. All
            other columns contain numbers and are aligned right.
    """

    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    num_texts: int = 1


@dataclass(frozen=True, slots=True)
class Card:
    """An image and the texts that are shown below the image.

    Attributes:
        name: name of the image.
        lines: pairs of a label and a text. The label may be empty.
        picture: the image as a WebP file; None if the image cannot be shown.
        note: the reason why the image cannot be shown; otherwise empty.
    """

    name: str
    lines: Sequence[tuple[str, str]]
    picture: bytes | None = None
    note: str = ""


@dataclass(frozen=True, slots=True)
class Section:
    """A part of a report.

    Attributes:
        title: title of the section.
        texts: paragraphs of the section.
        grid: table of the section; None if the section has no table.
        cards: images of the section.
        link: name of a file in the folder of the report. The section contains a link to this file.
            The name is empty if the section has no link.
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
        title: title of the report.
        outcome: outcome of the run.
        facts: the most important figures, as pairs of a label and a value.
        problem: error message in one line; empty if the run had no error.
        sections: all sections in order. Sections without content are not shown.
    """

    title: str
    outcome: Outcome
    facts: Sequence[tuple[str, str]]
    problem: str = ""
    sections: Sequence[Section] = field(default=())

    @property
    def shown(self) -> list[Section]:
        """The sections that have content."""
        return [section for section in self.sections if not section.is_empty]
