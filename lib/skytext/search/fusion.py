"""Pool variant scores into one score per image, and fuse several rankings into one (NumPy only).

Search and evaluation use the same functions. Higher scores are better. The last axis of each array
contains variants or images. The other axes are arbitrary, so one call can process one query or many
queries.

*Pooling* turns the cosines of an image's variants into one score:

* ``max``: the cosine of the best variant, which is the rule of TRSLLaVA (arXiv 2512.10596);
* ``mean``: the cosine of the query and the mean vector of the image's variants;
* ``max+mean``: the mean of the scores ``max`` and ``mean``;
* ``max+mean-z``: the mean of the z-score of ``max`` and the z-score of ``mean``. The z-scores are
  computed over all scored images.

*Fusion* combines several rankings of the same images into one score:

* ``rrf``: reciprocal ranks, ``1 / (60 + rank)`` (Cormack et al., SIGIR 2009);
* ``z``: the sum of scores that are normalised to mean 0 and standard deviation 1;
* ``minmax``: the sum of scores that are normalised to the range 0 … 1;
* ``floor``: the sum of scores that are divided by the best score of the ranking. Before the
  division, the lowest possible score is subtracted from the score and from the best score (Bruch et
  al., TOIS 2023, "theoretical minimum"). The results do not depend on the number of images in a
  ranking.
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
"""The number that is added to a rank before the reciprocal is computed, as in Cormack et al."""
_SHORTEST = 1e-4
"""Minimum length of a mean vector.

If a mean vector is shorter, the variants cancel each other out, and only rounding noise remains.
"""

Floats = NDArray[np.float32]
Indices = NDArray[np.intp]


def mean_lengths(vectors: Floats, offsets: Indices) -> Floats:
    """Return the length of the mean vector of each image: float32, shape (images,).

    `pool` needs these lengths for every method except ``max``.

    Args:
        vectors: the vectors of the variants, float32, shape (variants, dim), unit length, grouped
            by image.
        offsets: the index of the first variant of each image, shape (images,). Each image has at
            least one variant.
    """
    sums = np.add.reduceat(vectors, offsets, axis=0)
    lengths = np.linalg.norm(sums, axis=1) / _counts(offsets, len(vectors))
    return np.asarray(lengths, np.float32)


def pool(
    scores: Floats, offsets: Indices, pooling: Pooling, lengths: Floats | None = None
) -> Floats:
    """Combine the scores of each image's variants into one score: float32, shape (…, images).

    Args:
        scores: cosines of queries and variants, shape (…, variants), grouped by image.
        offsets: the index of the first variant of each image, shape (images,).
        pooling: the pooling method.
        lengths: the result of `mean_lengths`. The method ``max`` does not need the lengths.

    Raises:
        ValueError: the method needs ``lengths``, but ``lengths`` is None.
    """
    if pooling == "max":
        return _max(scores, offsets)
    if lengths is None:
        raise ValueError(f"pooling {pooling} needs the lengths of the mean vectors")
    # The mean of the cosines is the dot product of the query and the mean vector. Divide it by the
    # length of the mean vector to get the cosine of the query and the mean vector.
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
    """Combine several rankings into one score per image: float32, shape (…, images).

    The score of an image is NaN in a ranking that does not contain the image. With ``rrf``, this
    ranking adds 0 to the fused score of the image. With other methods, the image gets the lowest
    possible score of the ranking from ``floors``. If ``floors`` is None, the image gets the lowest
    score that occurs in the ranking. A ranking without images is ignored.

    Args:
        scores: the scores of each ranking. All arrays have the same shape (…, images).
        fusion: the fusion method.
        weights: the weight of each ranking. No weight is negative, and at least one weight is above
            0. None means equal weights. The result is divided by the sum of the weights.
        floors: the lowest possible score of each ranking (−1 for cosines, 0 for BM25). The method
            ``floor`` requires these scores.

    Raises:
        ValueError: there are no rankings, the arrays have different shapes, the number of weights
            or floors is not the number of rankings, or a weight is invalid.
    """
    weights = [1.0] * len(scores) if weights is None else list(weights)
    if not scores or len(weights) != len(scores) or any(s.shape != scores[0].shape for s in scores):
        raise ValueError(
            "fusion needs rankings of the same images, and one weight for each ranking"
        )
    if not all(np.isfinite(weights)) or min(weights) < 0 or sum(weights) == 0:
        raise ValueError(
            f"weights must be 0 or more, and at least one must be above 0 (given: {weights})"
        )
    if fusion == "floor" and (floors is None or len(floors) != len(scores)):
        raise ValueError("the fusion method floor needs the lowest possible score of every ranking")
    total = np.zeros(scores[0].shape)
    for i, ranking in enumerate(scores):
        floor = None if floors is None else floors[i]
        total += weights[i] * normalise(np.asarray(ranking, np.float64), fusion, floor)
    return (total / sum(weights)).astype(np.float32)


def normalise(
    scores: NDArray[np.float64], fusion: Fusion, floor: float | None
) -> NDArray[np.float64]:
    """Normalise the scores of one ranking with the method ``fusion``; see `fuse`.

    Args:
        scores: the scores, shape (…, images). NaN means that the ranking does not contain the
            image.
        fusion: the fusion method.
        floor: the lowest possible score. The method ``floor`` requires this score.
    """
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
    # If all scores of a ranking are equal, the ranking does not affect the fused scores.
    flat = ~some | (width <= 1e-12)
    return np.where(flat, 0.0, (full - low) / np.where(flat, 1.0, width))


def best(scores: NDArray[Any], keys: Sequence[str] | NDArray[Any], k: int) -> Indices:
    """Return the indices of the ``k`` best scores, best score first.

    Equal scores are ordered by ascending key. So the result does not depend on the order of the
    images in ``scores``. All pages and all processes get the same result.

    Args:
        scores: the score of each image, shape (images,). Images with NaN are not returned.
        keys: a unique key of each image, shape (images,).
        k: maximum number of indices.
    """
    order: Indices = np.lexsort((np.asarray(keys), -scores))
    return order[: min(k, int(np.count_nonzero(~np.isnan(scores))))]


def _reciprocal_ranks(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return reciprocal ranks. Equal scores share the best of their ranks. NaN scores get 0."""
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
