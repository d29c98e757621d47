"""Compute the ground truth. Every vector is scored for all queries, in one pass over the table."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from bench.search.vectors import Floats

Rows = NDArray[np.int64]
"""Row numbers in the table, shape (queries, k), best first.

A number is -1 if fewer than k images match.
"""


def nearest_rows(
    queries: Floats, blocks: Iterable[Floats], k: int, keep: NDArray[np.bool_] | None = None
) -> Rows:
    """Return the ``k`` best images of each query.

    The score of an image is the score of its best vector.

    Args:
        queries: unit vectors, shape (queries, dim).
        blocks: unit vectors of the images in the order of the table. Each block has the shape
            (images, variants, dim).
        k: number of images.
        keep: for each image, true if the image matches the filter. None if there is no filter.
    """
    best_scores = np.full((len(queries), k), -np.inf, dtype=np.float32)
    best_rows = np.full((len(queries), k), -1, dtype=np.int64)
    first = 0
    for block in blocks:
        count, variants, dim = block.shape
        here = np.arange(first, first + count)
        first += count
        if keep is not None:
            block, here = block[keep[here]], here[keep[here]]
            count = len(here)
        if count == 0:
            continue
        scores = (queries @ block.reshape(-1, dim).T).reshape(len(queries), count, variants)
        scores = scores.max(axis=2)
        top = np.argpartition(-scores, min(k, count - 1), axis=1)[:, :k]
        best_scores = np.hstack([best_scores, np.take_along_axis(scores, top, axis=1)])
        best_rows = np.hstack([best_rows, here[top]])
        order = np.argsort(-best_scores, axis=1, kind="stable")[:, :k]
        best_scores = np.take_along_axis(best_scores, order, axis=1)
        best_rows = np.take_along_axis(best_rows, order, axis=1)
    return best_rows


def recall(found: list[NDArray[np.int64]], truth: Rows) -> float:
    """Return the recall, which is the mean share of the correct images that were found."""
    parts = []
    for rows, right in zip(found, truth, strict=True):
        right = right[right >= 0]
        parts.append(len(np.intersect1d(rows, right)) / max(len(right), 1))
    return float(np.mean(parts))
