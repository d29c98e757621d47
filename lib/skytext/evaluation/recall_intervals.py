"""Compute the recall of setups, confidence intervals, and differences between setups."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from skytext.evaluation.recall import (
    KS,
    Direction,
    Ties,
    interval,
    resampled,
)

Interval = tuple[float, float]
CURVE_KS = (1, 2, 3, 5, 7, 10, 15, 20, 30, 50, 70, 100)
"""The values of k for the plots."""


@dataclass(frozen=True, slots=True)
class Measured:
    """One row of measurements, in percent.

    Attributes:
        name: name of the setup.
        setup: the setup as a JSON object.
        recall: recall at 1, 5 and 10 in each direction.
        mean_recall: mean of all values in ``recall``.
        intervals: 95 % interval of each value in ``recall``.
        mean_interval: 95 % interval of ``mean_recall``.
        other_ties: recall if ties are counted with the other value of `Ties`. None if this recall
            is equal to ``recall``.
        curves: recall at each of `CURVE_KS` in each direction.
        difference: the mean recall of this row minus the mean recall of the reference row, and the
            95 % interval of this difference. The reference row is the first row with the same
            queries and images. None if this row is the reference row.
        directions: for each direction, the ranks of all queries.
    """

    name: str
    setup: Mapping[str, Any]
    recall: Mapping[str, Sequence[float]]
    mean_recall: float
    intervals: Mapping[str, Sequence[Interval]]
    mean_interval: Interval
    other_ties: Mapping[str, Sequence[float]] | None
    curves: Mapping[str, Sequence[float]]
    difference: tuple[float, Interval] | None
    directions: Mapping[str, Direction]

    def to_json(self) -> dict[str, Any]:
        """Return the row as a JSON object."""
        other = self.other_ties
        return {
            "name": self.name,
            "setup": dict(self.setup),
            **{direction: by_k(values) for direction, values in self.recall.items()},
            "mean_recall": self.mean_recall,
            "confidence_95": {
                **{direction: by_k(values) for direction, values in self.intervals.items()},
                "mean_recall": self.mean_interval,
            },
            "other_ties": other
            and {
                **{direction: by_k(values) for direction, values in other.items()},
                "mean_recall": mean_of(other),
            },
            "curves": {
                direction: {str(k): value for k, value in zip(CURVE_KS, values, strict=True)}
                for direction, values in self.curves.items()
            },
            "difference_to_first": self.difference
            and {"mean_recall": self.difference[0], "confidence_95": self.difference[1]},
        }


class Found(NamedTuple):
    """The ranks that one setup gives in each direction, with the name and the JSON of the setup."""

    name: str
    setup: Mapping[str, Any]
    directions: Mapping[str, Direction]


def measure(found: Sequence[Found], ties: Ties) -> tuple[Measured, ...]:
    """Make one row for each setup.

    A row also has the difference to the first row with the same queries.
    """
    rows: list[Measured] = []
    firsts: list[tuple[Found, NDArray[np.float64]]] = []
    for one in found:
        drawn = resampled(list(one.directions.values()), ties)
        first = next((other for other in firsts if _same_queries(one, other[0])), None)
        if first is None:
            firsts.append((one, drawn))
        before = None if first is None else first[1]
        rows.append(_measured(one, ties, drawn, before, first and mean_of(_recall(first[0], ties))))
    return tuple(rows)


def _measured(
    found: Found,
    ties: Ties,
    drawn: NDArray[np.float64],
    first_drawn: NDArray[np.float64] | None,
    first_mean: float | None,
) -> Measured:
    recall, other = _recall(found, ties), _recall(found, other_ties(ties))
    ends = interval(drawn)
    pairs = [(float(low), float(high)) for low, high in ends.T]
    difference = None
    if first_drawn is not None and first_mean is not None:
        less = interval(drawn.mean(axis=1) - first_drawn.mean(axis=1))
        difference = mean_of(recall) - first_mean, (float(less[0]), float(less[1]))
    mean = interval(drawn.mean(axis=1))
    return Measured(
        name=found.name,
        setup=found.setup,
        recall=recall,
        mean_recall=mean_of(recall),
        intervals={
            key: pairs[i * len(KS) : (i + 1) * len(KS)] for i, key in enumerate(found.directions)
        },
        mean_interval=(float(mean[0]), float(mean[1])),
        other_ties=other if _differ(recall, other) else None,
        curves={key: one.recall(ties, CURVE_KS) for key, one in found.directions.items()},
        difference=difference,
        directions=found.directions,
    )


def _recall(found: Found, ties: Ties) -> dict[str, list[float]]:
    return {key: direction.recall(ties) for key, direction in found.directions.items()}


def _same_queries(one: Found, other: Found) -> bool:
    """Return whether two setups have the same queries and images."""
    regimes = [
        (found.setup.get("repeats_removed"), found.setup.get("num_images"))
        for found in (one, other)
    ]
    return regimes[0] == regimes[1] and all(
        np.array_equal(one.directions[key].unit, other.directions[key].unit)
        for key in one.directions
    )


def other_ties(ties: Ties) -> Ties:
    """Return the value of `Ties` that is not ``ties``."""
    return "sort" if ties == "expected" else "expected"


def by_k(values: Sequence[Any]) -> dict[str, Any]:
    """Return three values as a dictionary with the keys R@1, R@5 and R@10."""
    return {f"R@{k}": value for k, value in zip(KS, values, strict=True)}


def mean_of(recall: Mapping[str, Sequence[float]]) -> float:
    """Return the mean of all recalls in all directions."""
    values = [value for part in recall.values() for value in part]
    return sum(values) / len(values)


def _differ(one: Mapping[str, Sequence[float]], two: Mapping[str, Sequence[float]]) -> bool:
    return any(abs(a - b) > 1e-9 for key in one for a, b in zip(one[key], two[key], strict=True))
