"""Format an evaluation as lines for a terminal, as Markdown for papers, or as JSON for programs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from skytext.evaluation.annotations import Query
from skytext.evaluation.published_results import NUM_TEST_IMAGES, REFERENCES, Reference
from skytext.evaluation.recall import KS, TIE_TOLERANCE, Ties
from skytext.evaluation.recall_intervals import Measured, by_k, mean_of, other_ties

_DIRECTIONS = {"image_to_text": "I2T", "text_to_image": "T2I"}
_TIES: dict[Ties, str] = {
    "expected": "ties at their expected value",
    "sort": "ties in the order of numpy.argsort",
}

_SHORT: dict[Ties, str] = {"expected": "expected", "sort": "by sort"}


@dataclass(frozen=True, slots=True)
class Evaluation:
    """All measurements for one set of annotations or queries."""

    what: str
    benchmark: str | None
    split: str | None
    num_images: int
    num_queries: int
    num_missing: int
    num_empty_captions: int
    ties: Ties
    rows: tuple[Measured, ...]
    is_text_only: bool = False
    queries: tuple[Query, ...] = ()

    @property
    def references(self) -> tuple[Reference, ...]:
        """The published results for this benchmark, or () for a text-only evaluation."""
        return () if self.is_text_only else REFERENCES.get(self.benchmark or "", ())

    def caveats(self) -> list[str]:
        """Return warnings about the results."""
        notes = []
        if self.num_missing:
            notes.append(f"{self.num_missing:,} annotated images are missing and were ignored")
        if self.num_empty_captions:
            notes.append(f"{self.num_empty_captions:,} empty captions were ignored")
        wanted = NUM_TEST_IMAGES.get(self.benchmark or "")
        if self.references and self.num_images != wanted:
            notes.append(
                f"the published rows are for the test split with {wanted:,} images, but the "
                f"other rows are for {self.num_images:,} images: do not compare the published "
                "rows with the other rows"
            )
        if self.is_text_only:
            notes.append(
                "images are represented by human captions instead of descriptions: do not "
                "compare these rows with rows for descriptions"
            )
        return notes

    def to_json(self) -> dict[str, Any]:
        """Return the object for ``evaluate --json``."""
        return {
            "what": self.what,
            "benchmark": self.benchmark,
            "split": self.split,
            "num_images": self.num_images,
            "num_queries": self.num_queries,
            "num_missing": self.num_missing,
            "num_empty_captions": self.num_empty_captions,
            "ties": self.ties,
            "tie_tolerance": TIE_TOLERANCE,
            "results": [row.to_json() for row in self.rows],
            "caveats": self.caveats(),
            "references": [
                {
                    "method": row.method,
                    "kind": row.kind,
                    "image_to_text": row.image_to_text and by_k(row.image_to_text),
                    "text_to_image": row.text_to_image and by_k(row.text_to_image),
                    "mean_recall": row.mean_recall,
                    "source": row.source,
                }
                for row in self.references
            ],
        }

    def lines(self) -> list[str]:
        """Return the lines of the table for a terminal."""
        head, *body = self._cells()
        widths = [max(len(row[i]) for row in [head, *body]) for i in range(len(head))]
        lines = [self.headline(), ""]
        for row in [head, *body]:
            cells = [row[0].ljust(widths[0]), row[1].ljust(widths[1])]
            cells += [cell.rjust(width) for cell, width in zip(row[2:], widths[2:], strict=True)]
            lines.append("  ".join(cells).rstrip())
        return [*lines, "", *self._notes()]

    def markdown(self) -> str:
        """Return the same table as Markdown."""
        head, *body = self._cells()
        rule = ["---", "---", *["--:"] * (len(head) - 2)]
        table = "\n".join("| " + " | ".join(row) + " |" for row in [head, rule, *body])
        notes = "\n".join(f"- {note}" for note in self._notes())
        return f"{self.headline()}\n\n{table}\n\n{notes}\n"

    def headline(self) -> str:
        """Return a one-line description of the measurement."""
        name = self.benchmark.upper() if self.benchmark else "own data"
        split = f", split {self.split}" if self.split else ""
        return (
            f"{name}{split}: {self.num_images:,} images, {self.num_queries:,} queries, recall in "
            f"percent, {_TIES[self.ties]}"
        )

    def _notes(self) -> list[str]:
        sources = "; ".join(dict.fromkeys(row.source for row in self.references))
        other = other_ties(self.ties)
        paired = any(row.difference is not None for row in self.rows)
        differ = any(row.other_ties is not None for row in self.rows)
        return [
            "± is half the width of the 95 % interval, which is computed by bootstrap over images",
            *(
                [
                    "Δ is the mean recall minus the mean recall of the first row with the same "
                    "queries"
                ]
                if paired
                else []
            ),
            *([f"{_SHORT[other]}: {_TIES[other]}"] if differ else []),
            *self.caveats(),
            *([f"sources: {sources}"] if sources else []),
        ]

    def _cells(self) -> list[list[str]]:
        keys = [key for key in _DIRECTIONS if key in self.rows[0].recall]
        head = ["method", "kind"]
        head += [f"{_DIRECTIONS[key]} R@{k}" for key in keys for k in KS]
        paired = any(row.difference is not None for row in self.rows)
        table = [[*head, "mR", *(["Δ"] if paired else [])]]
        usual = "captions" if self.is_text_only else "training-free"
        for row in self.rows:
            kind = str(row.setup.get("kind", usual))
            table.append([row.name, kind, *_values(row.recall, keys)])
            half = (row.mean_interval[1] - row.mean_interval[0]) / 2
            table[-1].append(f"{row.mean_recall:.2f} ± {half:.1f}")
            if row.difference is not None:
                less, (low, high) = row.difference
                table[-1].append(f"{less:+.2f} ± {(high - low) / 2:.1f}")
            if row.other_ties is not None:
                cells = [f"{row.name}, {_SHORT[other_ties(self.ties)]}", kind]
                cells += _values(row.other_ties, keys)
                table.append([*cells, f"{mean_of(row.other_ties):.2f}"])
        for published in self.references:
            both = {
                "image_to_text": published.image_to_text,
                "text_to_image": published.text_to_image,
            }
            cells = [published.method, published.kind]
            for key in keys:
                values = both[key]
                cells += [f"{value:.2f}" for value in values] if values else ["–"] * len(KS)
            table.append([*cells, f"{published.mean_recall:.2f}"])
        return [[*cells, *([""] * (len(table[0]) - len(cells)))] for cells in table]


def _values(recall: Mapping[str, Sequence[float]], keys: Sequence[str]) -> list[str]:
    return [f"{value:.2f}" for key in keys for value in recall[key]]
