"""Measure the scores of the best images for unrelated questions.

No image answers an unrelated question, but its best image still has a score. If the best image of a
search scores no higher than most of these, it is a match by chance: no image fits well.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from skytext.table.commit_conflicts import repeat_on_conflict
from skytext.table.images_dataset import ImagesTable
from skytext.table.index_facts import ChanceScore, store_chance_score
from skytext.table.indexes.index_recall import Column
from skytext.table.indexes.measured_columns import ImageVectors, VariantVectors
from skytext.table.queries.caption_queries import Floats
from skytext.table.vector_columns import VectorKind

QUANTILE = 0.95
"""Share of the unrelated questions that score lower; docs/background/ranking.md has figures."""

_COLUMNS: dict[VectorKind, Callable[[ImagesTable], Column]] = {
    VectorKind.TEXT: VariantVectors,
    VectorKind.IMAGE: ImageVectors,
}


def measure_chance_scores(
    table: ImagesTable, questions: Mapping[VectorKind, Floats]
) -> dict[VectorKind, ChanceScore]:
    """Measure the scores of unrelated questions, and store them in the latest version.

    Every image is scored, one batch in memory at a time.

    Args:
        table: any version of the table.
        questions: float32, shape (questions, dim), unit length, for each kind of vector.

    Returns:
        The stored scores; a kind without any vectors is omitted.
    """
    latest = ImagesTable.open(table.location)
    found = {}
    for kind, vectors in questions.items():
        best = [scores.max(axis=1) for scores in _COLUMNS[kind](latest).scores(vectors)]
        if best:
            highest = np.max(best, axis=0)
            score = round(float(np.quantile(highest, QUANTILE)), 4)
            found[kind] = ChanceScore(score, QUANTILE, len(vectors))
    for kind, chance in found.items():
        (column,) = (c for c in (latest.text_column, latest.image_column) if c and c.kind == kind)
        _store(latest, column.name, chance)
    return found


@repeat_on_conflict
def _store(table: ImagesTable, column: str, chance: ChanceScore) -> None:
    store_chance_score(ImagesTable.open(table.location).dataset, column, chance)
