"""Compare standing queries with the images in a table version. No index is used."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from skytext.search.fusion import pool
from skytext.search.retrievers.vectors import cosines_of
from skytext.table.images_dataset import ImagesTable
from skytext.table.queries.caption_queries import Floats, Pictures, pictures, take_variants
from skytext.table.queries.shape_rows import bind, shape_rows
from skytext.table.standing.standing_queries import StandingQuery

_IMAGES_AT_ONCE = 1_024


class Matches(NamedTuple):
    """Images that match a query. The image with the highest score is first.

    Attributes:
        pictures: the images.
        scores: the displayed score of each image, float32, shape (images,).
    """

    pictures: Pictures
    scores: Floats


def unseen_pictures(
    table: ImagesTable,
    query: StandingQuery,
    fragments: Sequence[int],
    seen: NDArray[np.bytes_],
) -> Pictures:
    """Return the unseen images that match the query's filter. Only some fragments are scanned.

    Args:
        table: the version of the table.
        query: the standing query.
        fragments: ids of the fragments to scan.
        seen: keys of the images that must not be returned.

    Raises:
        CallError: the comparison of images with a geometry in the filter takes too long.
    """
    if not fragments:
        return pictures(table, fragments=fragments)
    where = None if query.where is None else bind(query.where, partial(shape_rows, table))
    found = pictures(table, where, fragments)
    is_new = ~np.isin(found.keys, seen)
    return Pictures(found.ids[is_new], found.keys[is_new])


def matching_pictures(
    table: ImagesTable, candidates: Pictures, vector: Floats, min_score: float
) -> Matches:
    """Return the images with a score of at least ``min_score``, best image first.

    The score of an image is the cosine of the query and the best variant of the image.

    Args:
        table: the version of the table.
        candidates: images in this version.
        vector: the query vector, float32, shape (dim,), unit length.
        min_score: minimum score of an image.
    """
    scores = np.full(len(candidates.ids), -np.inf, np.float32)
    for start in range(0, len(scores), _IMAGES_AT_ONCE):
        some = slice(start, start + _IMAGES_AT_ONCE)
        variants = take_variants(table, candidates.ids[some])
        cosines = cosines_of(vector[None], variants.vectors)
        has_vectors = np.isin(candidates.ids[some], variants.ids)
        scores[some][has_vectors] = pool(cosines, variants.offsets, "max")[0]
    order = np.lexsort((candidates.ids, -scores))
    order = order[scores[order] >= min_score]
    return Matches(Pictures(candidates.ids[order], candidates.keys[order]), scores[order])
