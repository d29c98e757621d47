"""Recall at k, with ties at their expected value or as a sort leaves them.

A query hits at k when any of the things that it should find (its image, or any caption of its
image) is among the first k. Things of equal score have no order of their own: a sort gives them
one, by accident of names and of the algorithm. Their expected value over all orders is exact and
depends on nothing: of ``tied`` equals, ``own`` of them right, ``r`` still fit among the first k,
and none of the right ones is there with probability C(tied - own, r) / C(tied, r).
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
"""Scores this near are equal: one text embedded in two batches differs by some 1e-7."""

Floats = NDArray[np.float32]
Indices = NDArray[np.intp]
ScoreRows = Callable[[int, int], Floats]


@dataclass(frozen=True, slots=True)
class Placings:
    """Where each query's best right answer stands.

    Attributes:
        better: wrong answers that score higher.
        tied: answers, right and wrong, of the score of the best right one.
        own: right ones among them.
        sorted_position: of the first right answer in the reversed ``numpy.argsort``, from 0.
    """

    better: Indices
    tied: Indices
    own: Indices
    sorted_position: Indices

    def hits(self, k: int, ties: Ties = "expected") -> NDArray[np.float64]:
        """Return each query's chance (0 or 1 with ``sort``) to hit within the first ``k``."""
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
    """Find where the right answers of some queries stand.

    Args:
        score_rows: scores of queries first to last (excluded) against every answer.
        relevant: of each query, the indices of its right answers, at least one.
        rows_at_once: queries in memory together.
        score_row: one query's scores exactly as the sort shall see them.
        tolerance: scores this near are equal.
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
        placings: of the queries.
        unit: of each query, the image (a number) that it belongs to: what the bootstrap draws.
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

    Images are drawn with replacement, each with all of its queries, for all directions together;
    what they are searched among stays as it is. Equal seeds draw equal images, so that two ways to
    rank the same images are compared sample by sample.
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
    """Return the percentiles between which a share ``confidence`` of the samples lies: (2, …)."""
    ends = [50.0 * (1 - confidence), 50.0 * (1 + confidence)]
    return np.asarray(np.percentile(drawn, ends, axis=0))
