"""The displayed score of an image: a cosine that does not depend on other images.

The scores that order a ranking can depend on its best image, or can be sums of ranks. These scores
have no meaning for a single image, so they are not displayed.
"""

from __future__ import annotations

import numpy as np

from skytext.search.ranking_inputs import Question, Ranking, Searched
from skytext.search.retrievers.vectors import cosines_of
from skytext.table.queries.caption_queries import Floats


def variant_cosines(served: Searched, question: Question, ranking: Ranking) -> list[Floats]:
    """Return the cosine of each variant and its nearest query, as one array for each image."""
    if not len(ranking.ids):
        return []
    scored = ranking.variants or served.variants(ranking.ids)
    images = scored.of_rows(ranking.ids)
    best = cosines_of(question.vectors, np.concatenate(images)).max(axis=0)
    return np.split(best, np.cumsum([len(vectors) for vectors in images])[:-1])


def absolute_scores(ranking: Ranking, cosines: list[Floats]) -> Floats:
    """Return the displayed score of each image, float32, shape (images,).

    In modes that compare image vectors, the score is the cosine of the query and the image vector
    (NaN for an image without a vector). In other modes, it is the cosine of the best variant.

    Args:
        ranking: the images.
        cosines: the result of `variant_cosines`.
    """
    if "images" in ranking.parts:
        return ranking.parts["images"]
    return np.array([of_image.max() for of_image in cosines], np.float32)
