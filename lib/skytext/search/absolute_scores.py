"""Compute the displayed score of an image. It is a cosine that does not depend on other images.

The results are sorted by a different score. The score for sorting can depend on the best image in
the results, or can be computed from ranks. It has no meaning for a single image, so it is not
displayed.
"""

from __future__ import annotations

import numpy as np

from skytext.search.ranking_inputs import Question, Ranking, Searched
from skytext.search.retrievers.vectors import cosines_of
from skytext.table.queries.caption_queries import Floats


def variant_cosines(served: Searched, question: Question, ranking: Ranking) -> list[Floats]:
    """Return one array for each image.

    The array contains, for each variant of the image, the cosine of the variant and the nearest
    query.
    """
    if not len(ranking.ids):
        return []
    scored = ranking.variants or served.variants(ranking.ids)
    images = scored.of_rows(ranking.ids)
    best = cosines_of(question.vectors, np.concatenate(images)).max(axis=0)
    return np.split(best, np.cumsum([len(vectors) for vectors in images])[:-1])


def absolute_scores(ranking: Ranking, cosines: list[Floats]) -> Floats:
    """Return the displayed score of each image, float32, shape (images,).

    In modes that compare image vectors, the score is the cosine of the query and the image vector.
    An image without an image vector gets NaN. In other modes, the score is the cosine of the query
    and the best variant.

    Args:
        ranking: the images.
        cosines: the result of `variant_cosines`.
    """
    if "images" in ranking.parts:
        return ranking.parts["images"]
    return np.array([of_image.max() for of_image in cosines], np.float32)
