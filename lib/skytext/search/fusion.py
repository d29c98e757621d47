"""Combine variant scores into one score per image, and several rankings into one (NumPy only).

Search and evaluation use these same functions. Higher scores are better. Arrays may have any
leading shape; the last axis is variants or images. So one query and a block of queries use the same
call.

*Pooling* turns the cosines of an image's variants into one score:

* ``max``: that of the best variant, the rule of TRSLLaVA (arXiv 2512.10596);
* ``mean``: the cosine with the mean of the variants' vectors;
* ``max+mean``: the mean of the two;
* ``max+mean-z``: the mean of their z-scores over the scored images.

*Fusion* combines several rankings of the same images into one score:

* ``rrf``: reciprocal ranks, ``1 / (60 + rank)`` (Cormack et al., SIGIR 2009);
* ``z``, ``minmax``: sums of scores normalised to mean 0 and deviation 1, or to 0 … 1;
* ``floor``: sums of scores divided by the best score, both measured from the lowest possible score
  (Bruch et al., TOIS 2023: "theoretical minimum"). So the place where a list was cut off does not
  change the values at its beginning.
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
"""Added to a rank before the reciprocal; the constant of the method's paper."""
_SHORTEST = 1e-4
"""A shorter mean vector is rounding noise of variants that cancel each other."""

Floats = NDArray[np.float32]
Indices = NDArray[np.intp]


def mean_lengths(vectors: Floats, offsets: Indices) -> Floats:
    """Return the length of each image's mean vector; `pool` needs it for ``mean``.

    Args:
        vectors: float32, shape (variants, dim), unit length, grouped by image.
        offsets: shape (images,), the start of each image's variants; each image has at least one.
    """
    sums = np.add.reduceat(vectors, offsets, axis=0)
    lengths = np.linalg.norm(sums, axis=1) / _counts(offsets, len(vectors))
    return np.asarray(lengths, np.float32)


def pool(
    scores: Floats, offsets: Indices, pooling: Pooling, lengths: Floats | None = None
) -> Floats:
    """Return one score per image: float32, shape (…, images).

    Args:
        scores: cosines of queries and variants, shape (…, variants), grouped by image.
        offsets: shape (images,), the start of each image's variants.
        pooling: the method.
        lengths: of the images' mean vectors (`mean_lengths`); not needed for ``max``.

    Raises:
        ValueError: the lengths are needed but missing.
    """
    if pooling == "max":
        return _max(scores, offsets)
    if lengths is None:
        raise ValueError(f"pooling {pooling} needs the lengths of the mean vectors")
    # The mean of the cosines is the product with the mean vector; divided by its length: a cosine.
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

    NaN marks an image that a ranking does not contain. With ``rrf`` such an image gets 0 from this
    ranking. With the other methods it gets the lowest score in the ranking, or ``floors``. A
    ranking without images is ignored.

    Args:
        scores: of each ranking, shape (…, images), the same for all.
        fusion: the method.
        weights: of the rankings, at least 0, and one above 0; None for equal weights. The result
            is divided by their sum.
        floors: lowest possible score of each ranking (cosine −1, BM25 0); required by ``floor``.

    Raises:
        ValueError: no rankings, shapes or numbers that do not match, or an invalid weight.
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
    """Convert one ranking's scores to the scale on which ``fusion`` adds them; see `fuse`."""
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
    # All scores are equal: the ranking has no preference.
    flat = ~some | (width <= 1e-12)
    return np.where(flat, 0.0, (full - low) / np.where(flat, 1.0, width))


def best(scores: NDArray[Any], keys: Sequence[str] | NDArray[Any], k: int) -> Indices:
    """Return the indices of the ``k`` best scores, best first; ties by key, ascending.

    The result does not depend on the order of the images, so pages and processes agree.

    Args:
        scores: shape (images,); NaN is left out.
        keys: shape (images,), one unique key per image.
        k: the maximum number.
    """
    order: Indices = np.lexsort((np.asarray(keys), -scores))
    return order[: min(k, int(np.count_nonzero(~np.isnan(scores))))]


def _reciprocal_ranks(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    """Ties share the best of their ranks; missing images (NaN) get 0."""
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
