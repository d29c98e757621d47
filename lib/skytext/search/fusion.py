"""Make one score an image of its variants' scores, and one ranking of several (NumPy alone).

Searches and evaluations rank by these same functions. Scores are higher where better. They stand
in arrays of any leading shape, the last axis being variants or images, so that one query and a
block of queries are the same call.

*Pooling* makes an image's score of its variants' cosines:

* ``max``: the best variant's, the rule of TRSLLaVA (arXiv 2512.10596);
* ``mean``: the cosine with the mean of the variants' vectors;
* ``max+mean``: the mean of those two;
* ``max+mean-z``: the mean of their z-scores among the images scored.

*Fusion* makes one score of several rankings of the same images:

* ``rrf``: reciprocal ranks, ``1 / (60 + rank)`` (Cormack et al., SIGIR 2009);
* ``z``, ``minmax``: sums of scores brought to mean 0 and deviation 1, or to 0 … 1;
* ``floor``: sums of scores divided by the best one, both taken from the scale's own lower end
  (Bruch et al., TOIS 2023: "theoretical minimum"): what stands at the end of a list that was cut
  off somewhere does not decide what its beginning is worth.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

Pooling = Literal["max", "mean", "max+mean", "max+mean-z"]
Fusion = Literal["rrf", "z", "minmax", "floor"]
POOLINGS: tuple[Pooling, ...] = get_args(Pooling)
FUSIONS: tuple[Fusion, ...] = get_args(Fusion)

RRF_CONSTANT = 60.0
"""What is added to a rank before it is turned over; the constant of the method's paper."""
_SHORTEST = 1e-4
"""Below it a mean vector is rounding noise of variants that cancel out: it points nowhere."""

Floats = NDArray[np.float32]
Indices = NDArray[np.intp]


def mean_lengths(vectors: Floats, offsets: Indices) -> Floats:
    """Return the length of each image's mean vector, which `pool` needs for ``mean``.

    Args:
        vectors: float32, shape (variants, dim), unit length, those of one image together.
        offsets: shape (images,), where each image's variants start; every image has one at least.
    """
    sums = np.add.reduceat(vectors, offsets, axis=0)
    lengths = np.linalg.norm(sums, axis=1) / _counts(offsets, len(vectors))
    return np.asarray(lengths, np.float32)


def pool(
    scores: Floats, offsets: Indices, pooling: Pooling, lengths: Floats | None = None
) -> Floats:
    """Return one score an image: float32, shape (…, images).

    Args:
        scores: cosines of queries and variants, shape (…, variants), those of one image together.
        offsets: shape (images,), where each image's variants start.
        pooling: how.
        lengths: of the images' mean vectors (`mean_lengths`); ``max`` does without.

    Raises:
        ValueError: no lengths where they are needed.
    """
    if pooling == "max":
        return _max(scores, offsets)
    if lengths is None:
        raise ValueError(f"pooling {pooling} needs the lengths of the mean vectors")
    # The mean of the cosines is the product with the mean vector: divided by its length, a cosine.
    sums = np.add.reduceat(scores, offsets, axis=-1)
    divisor = _counts(offsets, scores.shape[-1]) * np.maximum(lengths, _SHORTEST)
    mean = np.asarray(sums / divisor, np.float32)
    if pooling == "mean":
        return mean
    highest = _max(scores, offsets)
    if pooling == "max+mean":
        return np.asarray((highest + mean) / 2, np.float32)
    return fuse([highest, mean], "z")


def fuse(
    scores: Sequence[NDArray[Any]],
    fusion: Fusion,
    weights: Sequence[float] | None = None,
    floors: Sequence[float] | None = None,
) -> Floats:
    """Return one score an image of several rankings: float32, shape (…, images).

    An image that a ranking does not have is NaN there. It gets nothing by ``rrf``; by the others it
    stands with the last of those that the ranking has, or with ``floors``. A ranking without any
    image counts for nothing.

    Args:
        scores: of each ranking, shape (…, images), all alike.
        fusion: how.
        weights: of the rankings, not negative, one positive at least; all alike where None. The
            result is divided by their sum.
        floors: lowest score that each ranking's scale has (cosine −1, BM25 0), which ``floor``
            needs.

    Raises:
        ValueError: nothing to fuse, shapes or numbers that do not agree, or a wrong weight.
    """
    weights = [1.0] * len(scores) if weights is None else list(weights)
    if not scores or len(weights) != len(scores) or any(s.shape != scores[0].shape for s in scores):
        raise ValueError("fusion needs rankings of the same images, and one weight for each")
    if not all(np.isfinite(weights)) or min(weights) < 0 or sum(weights) == 0:
        raise ValueError(f"weights must be 0 or more, and not all 0 (given: {weights})")
    if fusion == "floor" and (floors is None or len(floors) != len(scores)):
        raise ValueError("fusion floor needs the lower end of every ranking's scale")
    total = np.zeros(scores[0].shape)
    for i, ranking in enumerate(scores):
        floor = None if floors is None else floors[i]
        total += weights[i] * normalise(np.asarray(ranking, np.float64), fusion, floor)
    return (total / sum(weights)).astype(np.float32)


def normalise(
    scores: NDArray[np.float64], fusion: Fusion, floor: float | None
) -> NDArray[np.float64]:
    """Bring one ranking's scores to the scale on which ``fusion`` adds them; see `fuse`."""
    if fusion == "rrf":
        return _reciprocal_ranks(scores)
    there = ~np.isnan(scores)
    some = there.any(axis=-1, keepdims=True)
    lowest = np.min(scores, axis=-1, keepdims=True, where=there, initial=np.inf)
    highest = np.max(scores, axis=-1, keepdims=True, where=there, initial=-np.inf)
    lowest, highest = np.where(some, lowest, 0.0), np.where(some, highest, 0.0)
    full = np.where(there, scores, lowest if floor is None else floor)
    if fusion == "z":
        num = np.maximum(there.sum(axis=-1, keepdims=True), 1)
        mean = np.sum(scores, axis=-1, keepdims=True, where=there) / num
        spread = np.sum((scores - mean) ** 2, axis=-1, keepdims=True, where=there) / num
        low, width = mean, np.sqrt(spread)
    elif fusion == "minmax":
        low, width = lowest, highest - lowest
    else:
        low, width = np.full_like(lowest, floor or 0.0), highest - (floor or 0.0)
    # All alike: the ranking prefers none.
    flat = ~some | (width <= 1e-12)
    return np.where(flat, 0.0, (full - low) / np.where(flat, 1.0, width))


def best(scores: NDArray[Any], keys: Sequence[str] | NDArray[Any], k: int) -> Indices:
    """Return the places of the ``k`` best scores, best first; equals go by their keys, ascending.

    The order does not depend on that of the images, so pages and processes agree on it.

    Args:
        scores: shape (images,); NaN is left out.
        keys: shape (images,), one for each image, all different.
        k: how many at most.
    """
    order: Indices = np.lexsort((np.asarray(keys), -scores))
    return order[: min(k, int(np.count_nonzero(~np.isnan(scores))))]


def _reciprocal_ranks(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    """Equals share the best of their ranks; what is not there (NaN) gets 0."""
    flat = scores.reshape(math.prod(scores.shape[:-1]), scores.shape[-1])
    found = np.zeros_like(flat)
    for i, row in enumerate(flat):
        there = ~np.isnan(row)
        ascending = np.sort(row[there])
        better = len(ascending) - np.searchsorted(ascending, row[there], side="right")
        found[i, there] = 1.0 / (RRF_CONSTANT + 1 + better)
    return found.reshape(scores.shape)


def _max(scores: Floats, offsets: Indices) -> Floats:
    highest: Floats = np.maximum.reduceat(scores, offsets, axis=-1)
    return highest


def _counts(offsets: Indices, num_variants: int) -> Indices:
    counts: Indices = np.diff(offsets, append=num_variants)
    return counts
