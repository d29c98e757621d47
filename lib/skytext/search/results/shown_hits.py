"""Make the hits of a page from a ranking."""

from __future__ import annotations

import math

import numpy as np

from skytext.search.absolute_scores import absolute_scores, variant_cosines
from skytext.search.ranking_inputs import Question, Ranking, Searched
from skytext.search.request import Kind
from skytext.search.results.hits import Hit
from skytext.table.queries.caption_queries import Floats
from skytext.table.queries.hit_column import HitRow


def make_hits(
    served: Searched, question: Question, ranking: Ranking, places: list[tuple[int, list[int]]]
) -> tuple[Hit, ...]:
    """Return the hits of a page.

    Args:
        served: the searched tables.
        question: the converted search request.
        ranking: the ranking for this request.
        places: a pair for each hit: its index in the ranking, and the indices of its
            near-duplicates.
    """
    if not places:
        return ()
    behind = ranking.ids[[place for _, others in places for place in others]]
    name_of: dict[int, str] = {}
    if len(behind):
        name_of = dict(zip(behind.tolist(), served.values(behind, "image_id"), strict=True))
    duplicates = [
        tuple(name_of[int(ranking.ids[other])] for other in others) for _, others in places
    ]
    shown = ranking.at(np.array([place for place, _ in places], np.intp))
    rows = served.hits(shown.ids)
    cosines = variant_cosines(served, question, shown)
    scores = absolute_scores(shown, cosines)
    tables = served.tables(shown.ids)
    return tuple(
        _hit(row, of_image, float(scores[i]), shown, i, duplicates[i], tables[i])
        for i, (row, of_image) in enumerate(zip(rows, cosines, strict=True))
    )


def _hit(
    row: HitRow,
    cosines: Floats,
    score: float,
    shown: Ranking,
    i: int,
    duplicates: tuple[str, ...],
    table: str | None,
) -> Hit:
    """Return the hit for the image at index ``i`` in ``shown``."""
    variant = int(np.argmax(cosines))
    one_sentence, feature, caption = row.captions[variant]
    return Hit(
        image_id=row.image_id,
        score=None if math.isnan(score) else score,
        rank_score=float(shown.scores[i]),
        uri=row.uri,
        variant=variant,
        cosine=float(cosines[variant]),
        bm25=_part(shown, "words", i),
        image_cosine=_part(shown, "images", i),
        one_sentence=one_sentence,
        feature=feature,
        caption=caption,
        datetime=row.datetime,
        bbox=row.bbox,
        gsd=row.gsd,
        collection=row.collection,
        duplicates=duplicates,
        table=table,
    )


def _part(shown: Ranking, kind: Kind, i: int) -> float | None:
    """Return the score that a retriever gave to an image, or None if it gave no score."""
    score = float(shown.parts[kind][i]) if kind in shown.parts else math.nan
    return None if math.isnan(score) else score
