"""What every retriever offers: candidates, and the score of any image."""

from __future__ import annotations

from typing import NamedTuple, Protocol

import numpy as np

from skytext.table.queries.caption_queries import Floats, RowIds, Variants


class Candidates(NamedTuple):
    """The images that a retriever proposes.

    Attributes:
        ids: row ids, shape (images,), each once.
        exact: every image that matches was scored.
        complete: every image that this retriever can score is here.
        scores: shape (queries, images), where every image was scored to choose these: they may
            differ in the last digits from `Retriever.scores`. None elsewhere.
    """

    ids: RowIds
    exact: bool
    complete: bool
    scores: Floats | None = None


class Retriever(Protocol):
    """Looks for the images of one question.

    A question, with its filter, is given when a retriever is made: what it has found out about the
    question serves all further calls.
    """

    lowest: float
    """The lower end of the scale of its scores."""

    @property
    def num_scanned(self) -> int | None:
        """How many images match, where each one is looked at; None where an index chooses."""

    @property
    def fetched(self) -> Variants | None:
        """The vectors that were scored last; None where there are none."""

    def candidates(self, num: int) -> Candidates:
        """Return the best ``num`` images of each query, or more."""

    def scores(self, ids: RowIds) -> Floats:
        """Score images, whoever found them.

        The score of an image does not depend on the other images.

        Args:
            ids: row ids, shape (images,), each once.

        Returns:
            float32, shape (queries, images); NaN where an image has nothing to score.
        """


def in_places(ids: RowIds, known: RowIds, scores: Floats, missing: float = np.nan) -> Floats:
    """Return the scores of ``known`` rows where they stand in ``ids``, and ``missing`` elsewhere.

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
