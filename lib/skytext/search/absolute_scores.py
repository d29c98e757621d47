"""The score that people see: a cosine, which says how well an image fits by itself.

Scores that order a ranking may be relative to its best image, or sums of ranks: these say nothing
of a single image.
"""

from __future__ import annotations

import numpy as np

from skytext.search.ranking_inputs import Question, Ranking, Searched
from skytext.search.retrievers.vectors import cosines_of
from skytext.table.queries.caption_queries import Floats


def variant_cosines(served: Searched, question: Question, ranking: Ranking) -> list[Floats]:
    """Return for each image the cosine of each variant with the query that it fits best."""
    if not len(ranking.ids):
        return []
    scored = ranking.variants or served.variants(ranking.ids)
    images = scored.of_rows(ranking.ids)
    best = cosines_of(question.vectors, np.concatenate(images)).max(axis=0)
    return np.split(best, np.cumsum([len(vectors) for vectors in images])[:-1])


def absolute_scores(ranking: Ranking, cosines: list[Floats]) -> Floats:
    """Return the score of each image that people see, float32, shape (images,).

    It is the cosine with the image's own vector in modes that compare these (NaN where an image has
    none), and the cosine of the best variant in all others.

    Args:
        ranking: the images.
        cosines: of `variant_cosines`.
    """
    if "images" in ranking.parts:
        return ranking.parts["images"]
    return np.array([of_image.max() for of_image in cosines], np.float32)
