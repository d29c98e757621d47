"""The interface of a retriever: it proposes candidates and scores any image."""

from __future__ import annotations

from typing import NamedTuple, Protocol

import numpy as np

from skytext.table.queries.caption_queries import Floats, RowIds, Variants


class Candidates(NamedTuple):
    """The images that a retriever proposes.

    Attributes:
        ids: row ids, shape (images,), each once.
        exact: whether every matching image was scored.
        complete: whether these are all images that this retriever can score.
        scores: shape (queries, images); None if not every image was scored. The last digits may
            differ from those of `Retriever.scores`.
    """

    ids: RowIds
    exact: bool
    complete: bool
    scores: Floats | None = None


class Retriever(Protocol):
    """Finds the images of one question.

    A retriever is made for one question and its filter. It keeps intermediate results for later
    calls.
    """

    lowest: float
    """The lowest possible score."""

    @property
    def num_scanned(self) -> int | None:
        """The number of matching images if each one is examined; None if an index chooses."""

    @property
    def fetched(self) -> Variants | None:
        """The vectors that were scored last; None if there are none."""

    def candidates(self, num: int) -> Candidates:
        """Return the best ``num`` images of each query, or more."""

    def scores(self, ids: RowIds) -> Floats:
        """Score any images.

        The score of an image does not depend on the other images.

        Args:
            ids: row ids, shape (images,), each once.

        Returns:
            float32, shape (queries, images); NaN for an image that cannot be scored.
        """


def in_places(ids: RowIds, known: RowIds, scores: Floats, missing: float = np.nan) -> Floats:
    """Return the scores of ``known`` rows in the order of ``ids``, and ``missing`` for others.

    Args:
        ids: shape (images,), each once.
        known: shape (rows,), each once.
        scores: shape (…, rows).
        missing: the score of an image that is not known.
    """
    placed = np.full((*scores.shape[:-1], len(ids)), missing, np.float32)
    _, here, there = np.intersect1d(ids, known, assume_unique=True, return_indices=True)
    placed[..., here] = scores[..., there]
    return placed
