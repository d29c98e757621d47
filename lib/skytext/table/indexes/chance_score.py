"""Measure the scores that images get by chance, with queries that fit no image.

An unrelated query fits no image of the archive. But for every unrelated query, one image has the
highest score. This module measures these highest scores. If the highest score in a search is not
above most of these scores, the found images may match by chance.
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
"""Share of the unrelated queries whose best score is below the chance score.

See docs/background/ranking.md.
"""

_COLUMNS: dict[VectorKind, Callable[[ImagesTable], Column]] = {
    VectorKind.TEXT: VariantVectors,
    VectorKind.IMAGE: ImageVectors,
}


def measure_chance_scores(
    table: ImagesTable, questions: Mapping[VectorKind, Floats]
) -> dict[VectorKind, ChanceScore]:
    """Measure the best scores for unrelated queries, and store them in the latest version.

    Every image is scored. Only one batch of images is in memory at a time.

    Args:
        table: any version of the table.
        questions: maps each kind of vector to the vectors of the unrelated queries. The vectors are
            float32, shape (queries, dim), unit length.

    Returns:
        The stored scores. If the table has no vectors of a kind, this kind is omitted.
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
