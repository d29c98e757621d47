"""The interface of a retriever. A retriever proposes candidates and scores images."""

from __future__ import annotations

from typing import NamedTuple, Protocol

import numpy as np

from skytext.table.queries.caption_queries import Floats, RowIds, Variants


class Candidates(NamedTuple):
    """The images that a retriever proposes.

    Attributes:
        ids: row ids, shape (images,), without duplicates.
        exact: true if every matching image was scored.
        complete: true if the candidates are all images that this retriever can score.
        scores: scores of the candidates, shape (queries, images). None if the retriever did not
            score the candidates. The last digits of a score can differ from the last digits in the
            result of `Retriever.scores`.
    """

    ids: RowIds
    exact: bool
    complete: bool
    scores: Floats | None = None


class Retriever(Protocol):
    """Finds the images for one search request.

    A retriever is made for one request and its filter. It stores intermediate results for later
    calls.
    """

    lowest: float
    """The lowest possible score."""

    @property
    def num_scanned(self) -> int | None:
        """The number of matching images if all of them are scored. None if an index is used."""

    @property
    def fetched(self) -> Variants | None:
        """The vectors of the images that were passed to the most recent call of `scores`.

        None if the retriever has not read any vectors.
        """

    def candidates(self, num: int) -> Candidates:
        """Return at least the best ``num`` images for each query."""

    def scores(self, ids: RowIds) -> Floats:
        """Score the given images. The score of an image does not depend on the other images.

        Args:
            ids: row ids, shape (images,), without duplicates.

        Returns:
            float32, shape (queries, images). NaN means that an image cannot be scored.
        """


def in_places(ids: RowIds, known: RowIds, scores: Floats, missing: float = np.nan) -> Floats:
    """Return scores in the order of ``ids``.

    Args:
        ids: the row ids of the images, shape (images,), without duplicates.
        known: the row ids of the images that have a score, shape (rows,), without duplicates.
        scores: the scores of the images in ``known``, shape (…, rows).
        missing: the score of each image that is not in ``known``.
    """
    placed = np.full((*scores.shape[:-1], len(ids)), missing, np.float32)
    _, here, there = np.intersect1d(ids, known, assume_unique=True, return_indices=True)
    placed[..., here] = scores[..., there]
    return placed
