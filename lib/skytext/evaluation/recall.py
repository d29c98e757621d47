"""Recall at k, with ties at their expected value or in sort order.

A query is a hit at k if any right answer (its image, or any caption of its image) is among the
first k. Equal scores have no order of their own: a sort orders them arbitrarily, by names and
algorithm. The expected value over all orders is exact and independent of both. Let ``tied`` answers
have equal scores, ``own`` of them right, with ``r`` places left among the first k. Then no right
one is among the first k with probability C(tied - own, r) / C(tied, r).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Ties = Literal["expected", "sort"]
KS = (1, 5, 10)
TIE_TOLERANCE = 1e-6
"""Scores this close are equal: the same text embedded in two batches differs by about 1e-7."""

Floats = NDArray[np.float32]
Indices = NDArray[np.intp]
ScoreRows = Callable[[int, int], Floats]


@dataclass(frozen=True, slots=True)
class Placings:
    """The rank of each query's best right answer.

    Attributes:
        better: number of wrong answers with a higher score.
        tied: number of answers, right and wrong, with the score of the best right one.
        own: number of right answers among these.
        sorted_position: index of the first right answer in the reversed ``numpy.argsort``.
    """

    better: Indices
    tied: Indices
    own: Indices
    sorted_position: Indices

    def hits(self, k: int, ties: Ties = "expected") -> NDArray[np.float64]:
        """Return each query's probability (0 or 1 with ``sort``) of a hit at ``k``."""
        if ties == "sort":
            return (self.sorted_position < k).astype(np.float64)
        room = np.clip(k - self.better, 0, self.tied)
        missed = np.ones(len(self.better))
        for j in range(int(self.own.max(initial=0))):
            left = np.maximum(self.tied - room - j, 0) / np.maximum(self.tied - j, 1)
            missed *= np.where(j < self.own, left, 1.0)
        return 1.0 - missed


def place(
    score_rows: ScoreRows,
    relevant: Sequence[Indices],
    *,
    rows_at_once: int = 256,
    score_row: Callable[[int], Floats] | None = None,
    tolerance: float = TIE_TOLERANCE,
) -> Placings:
    """Find the ranks of the right answers of some queries.

    Args:
        score_rows: returns the scores of queries first to last (excluded) for every answer.
        relevant: indices of the right answers of each query, at least one.
        rows_at_once: number of queries in memory at a time.
        score_row: returns the scores of one query exactly as the sort uses them.
        tolerance: scores this close are equal.
    """
    num_rows = len(relevant)
    better, tied, own, position = (np.zeros(num_rows, dtype=np.intp) for _ in range(4))
    for first in range(0, num_rows, rows_at_once):
        last = min(first + rows_at_once, num_rows)
        scores = score_rows(first, last)
        for i in range(first, last):
            row, right = scores[i - first], relevant[i]
            best = row[right].max()
            better[i] = np.count_nonzero(row > best + tolerance)
            tied[i] = np.count_nonzero(row >= best - tolerance) - better[i]
            own[i] = np.count_nonzero(row[right] >= best - tolerance)
            position[i] = better[i]
            if tied[i] > own[i]:
                seen = row if score_row is None else score_row(i)
                position[i] = _position_in_sort(seen, right)
    return Placings(better, tied, own, position)


def _position_in_sort(scores: Floats, right: Indices) -> int:
    order = np.argsort(scores)[::-1]
    return int(np.flatnonzero(np.isin(order, right))[0])


@dataclass(frozen=True, slots=True)
class Direction:
    """The queries of one direction.

    Attributes:
        placings: ranks of the queries.
        unit: index of each query's image, which the bootstrap draws.
    """

    placings: Placings
    unit: Indices

    def recall(self, ties: Ties, ks: Sequence[int] = KS) -> list[float]:
        """Return recall at each k, in percent."""
        return [100.0 * float(self.placings.hits(k, ties).mean()) for k in ks]


def resampled(
    directions: Sequence[Direction],
    ties: Ties,
    ks: Sequence[int] = KS,
    *,
    num_resamples: int = 1000,
    seed: int = 0,
) -> NDArray[np.float64]:
    """Return recalls of bootstrap samples, in percent: shape (samples, directions × ks).

    The bootstrap draws images with replacement, each with all of its queries, for all directions
    together. The gallery stays the same. Equal seeds draw equal images, so two rankings of the same
    images are compared sample by sample.
    """
    num_units = 1 + max(int(direction.unit.max()) for direction in directions)
    sums = []
    counts = []
    for direction in directions:
        counts.append(np.bincount(direction.unit, minlength=num_units).astype(np.float64))
        for k in ks:
            hits = direction.placings.hits(k, ties)
            sums.append(np.bincount(direction.unit, weights=hits, minlength=num_units))
    by_unit, num_by_unit = np.stack(sums, axis=1), np.stack(counts, axis=1)
    drawn = np.empty((num_resamples, len(sums)))
    rng = np.random.default_rng(seed)
    for i in range(num_resamples):
        weights = np.bincount(rng.integers(num_units, size=num_units), minlength=num_units)
        total = np.maximum(weights @ num_by_unit, 1.0)
        drawn[i] = 100.0 * (weights @ by_unit) / np.repeat(total, len(ks))
    return drawn


def interval(drawn: NDArray[np.float64], confidence: float = 0.95) -> NDArray[np.float64]:
    """Return the two percentiles around a share ``confidence`` of the samples: (2, …)."""
    ends = [50.0 * (1 - confidence), 50.0 * (1 + confidence)]
    return np.asarray(np.percentile(drawn, ends, axis=0))
