"""Compute recall at k. For ties, use the expected value or the order of a sort.

A query is a hit at k if the first k results contain a correct result. If the query is a text, each
expected image is a correct result. If the query is an image, each caption of this image is a
correct result.

Results with equal scores are ties. A sort puts ties in an arbitrary order, which depends on the
names and on the sort algorithm. The expected value is the mean over all orders, so it does not
depend on the names or the algorithm. Example: ``tied`` results have the same score, and ``own`` of
these results are correct. Of the first k ranks, ``r`` ranks are not used by results with higher
scores. Then the probability that no correct result is among the first k results is C(tied - own, r)
/ C(tied, r).
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
"""Two scores are equal if their difference is not larger than this value.

If a text is embedded twice in different batches, the two scores differ by about 1e-7.
"""

Floats = NDArray[np.float32]
Indices = NDArray[np.intp]
ScoreRows = Callable[[int, int], Floats]


@dataclass(frozen=True, slots=True)
class Placings:
    """The ranks of the best correct results, one for each query.

    Attributes:
        better: for each query, the number of results with a higher score than the best correct
            result.
        tied: for each query, the number of results (correct or not) that have the same score as the
            best correct result.
        own: for each query, the number of correct results among the tied results.
        sorted_position: for each query, the index of the first correct result in the reversed
            ``numpy.argsort``.
    """

    better: Indices
    tied: Indices
    own: Indices
    sorted_position: Indices

    def hits(self, k: int, ties: Ties = "expected") -> NDArray[np.float64]:
        """Return, for each query, the probability of a hit at ``k`` (0 or 1 with ``sort``)."""
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
    """For each query, find the rank of the best correct result.

    Args:
        score_rows: a function with the arguments ``first`` and ``last``. It returns the scores of
            all results for the queries ``first`` to ``last - 1``.
        relevant: for each query, the indices of the correct results. Each query must have at least
            one correct result.
        rows_at_once: maximum number of queries whose scores are in memory at the same time.
        score_row: a function that returns the exact scores of one query. The results are sorted by
            these scores. If None, the results are sorted by the scores of ``score_rows``.
        tolerance: two scores are equal if their difference is not larger than this value.
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
    """The results of all queries in one direction: text to image, or image to text.

    Attributes:
        placings: for each query, the rank of the best correct result.
        unit: for each query, the index of the unit that the bootstrap draws. If the query is a
            caption, the unit is the image of the caption. If the query is a user's own query, the
            unit is the query itself.
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
    """Return the recall of each bootstrap sample in percent, shape (samples, directions × ks).

    The bootstrap draws images with replacement. If an image is drawn, all of its queries are used.
    A sample uses the same images in all directions. The searched images and captions are the same
    in all samples. With the same seed, the same images are drawn. Therefore two rankings of the
    same images can be compared sample by sample.
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
    """Return the lower end and the upper end of the confidence interval of samples.

    ``confidence`` is the share of the samples that are in the interval. The shares of samples below
    and above the interval are equal. The result has shape (2, …). The first row has the lower ends,
    and the second row has the upper ends.
    """
    ends = [50.0 * (1 - confidence), 50.0 * (1 + confidence)]
    return np.asarray(np.percentile(drawn, ends, axis=0))
