"""The displayed score: a cosine that is valid for one image alone.

Scores that order a ranking may be relative to its best image, or sums of ranks. Such scores have no
meaning for a single image.
"""

from __future__ import annotations

import numpy as np

from skytext.search.ranking_inputs import Question, Ranking, Searched
from skytext.search.retrievers.vectors import cosines_of
from skytext.table.queries.caption_queries import Floats


def variant_cosines(served: Searched, question: Question, ranking: Ranking) -> list[Floats]:
    """Return for each image the cosine of each variant with its best query."""
    if not len(ranking.ids):
        return []
    scored = ranking.variants or served.variants(ranking.ids)
    images = scored.of_rows(ranking.ids)
    best = cosines_of(question.vectors, np.concatenate(images)).max(axis=0)
    return np.split(best, np.cumsum([len(vectors) for vectors in images])[:-1])


def absolute_scores(ranking: Ranking, cosines: list[Floats]) -> Floats:
    """Return the displayed score of each image, float32, shape (images,).

    In modes that compare image vectors it is the cosine with the image's own vector (NaN without
    one); in all other modes the cosine of the best variant.

    Args:
        ranking: the images.
        cosines: from `variant_cosines`.
    """
    if "images" in ranking.parts:
        return ranking.parts["images"]
    return np.array([of_image.max() for of_image in cosines], np.float32)
