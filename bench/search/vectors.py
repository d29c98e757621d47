"""Generate vectors with the statistics of caption vectors. A seed always gives the same vectors.

The vector of a caption is the sum of four parts. The sum is scaled to unit length::

    mean + scene + image + wording

All images of the same kind of place have the same part *scene*. All variants of an image have the
same part *image*. Each variant has a different part *wording*. The values of these three parts have
a Gaussian distribution. The program `bench.search.fit` writes their variances along the principal
axes of real caption vectors to ``caption_statistics.json``. This file also contains the spreads of
the variances. As in a real model, a random rotation mixes the axes.

The vector of a query has the parts *scene* and *image* of an image in the table, and a new part
*wording*. A query is never a stored variant.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

STATISTICS = Path(__file__).with_name("caption_statistics.json")
BLOCK_IMAGES = 10_000
"""Number of images in a block. Each block has its own random generator."""

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class CaptionStatistics:
    """The statistics of real caption vectors.

    Attributes:
        mean: mean of all captions, along the principal axes, shape (dim,).
        scene: variance between kinds of places along the axes, shape (dim,).
        image: variance between the images of one kind of place along the axes, shape (dim,).
        wording: variance between the captions of one image along the axes, shape (dim,).
        image_spread: each kind of place has a random factor, which scales the part *image* of its
            images. ``image_spread`` is the standard deviation of the logarithm of this factor.
        wording_spread: each image has a random factor, which scales the part *wording* of its
            captions. ``wording_spread`` is the standard deviation of the logarithm of this factor.
        caption_spread: each caption has a random factor, which scales its part *wording*.
            ``caption_spread`` is the standard deviation of the logarithm of this factor.
        num_scenes: number of kinds of places that ``num_images`` images show.
        num_images: number of images from which the statistics were computed.
    """

    mean: Floats
    scene: Floats
    image: Floats
    wording: Floats
    image_spread: float
    wording_spread: float
    caption_spread: float
    num_scenes: int
    num_images: int

    @classmethod
    def load(cls, path: Path = STATISTICS) -> CaptionStatistics:
        """Read a file that `save` wrote."""
        found = json.loads(path.read_text(encoding="utf-8"))
        for name in ("mean", "scene", "image", "wording"):
            found[name] = np.array(found[name], dtype=np.float32)
        return cls(**found)

    def save(self, path: Path = STATISTICS) -> None:
        """Write the statistics as JSON. The numbers in arrays have five significant digits."""
        found = asdict(self)
        for name, value in found.items():
            if isinstance(value, np.ndarray):
                found[name] = [float(f"{number:.5g}") for number in value]
        lines = ",\n".join(f'"{name}": {json.dumps(value)}' for name, value in found.items())
        path.write_text(f"{{\n{lines}\n}}\n", encoding="utf-8")

    @property
    def dim(self) -> int:
        """Length of a vector."""
        return len(self.mean)

    def scenes_among(self, num_images: int) -> int:
        """Return the number of different kinds of places that ``num_images`` images show.

        This number grows with the square root of the number of images, like the vocabulary of a
        growing text (Heaps' law).
        """
        return max(1, round(self.num_scenes * (num_images / self.num_images) ** 0.5))


@dataclass(frozen=True)
class CaptionVectors:
    """The vectors of a generated archive, which are generated in blocks.

    Attributes:
        num_images: number of images in the archive.
        num_variants: number of vectors of each image.
        seed: seed of the archive.
        statistics: the statistics of the vectors.
    """

    num_images: int
    num_variants: int
    seed: int
    statistics: CaptionStatistics

    def blocks(self) -> Iterator[Floats]:
        """Yield blocks of unit vectors, shape (images, variants, dim).

        A block has at most `BLOCK_IMAGES` images.
        """
        for block in range(self.num_blocks):
            yield self._wordings(block, self.num_variants, "stored")

    @property
    def num_blocks(self) -> int:
        """Number of blocks."""
        return -(-self.num_images // BLOCK_IMAGES)

    def queries(self, num_queries: int) -> Floats:
        """Return the vectors of queries for evenly spaced images, shape (queries, dim)."""
        wanted = np.linspace(0, self.num_images - 1, num_queries).astype(int)
        found = np.empty((num_queries, self.statistics.dim), dtype=np.float32)
        for block in np.unique(wanted // BLOCK_IMAGES):
            here = wanted // BLOCK_IMAGES == block
            held_out = self._wordings(int(block), 1, "asked")
            found[here] = held_out[wanted[here] % BLOCK_IMAGES, 0]
        return found

    def _wordings(self, block: int, count: int, purpose: str) -> Floats:
        """Generate ``count`` captions for each image of a block.

        The parts *scene* and *image* of an image are the same in every call.
        """
        known = self.statistics
        rng = self._rng("images", block)
        size = min(BLOCK_IMAGES, self.num_images - block * BLOCK_IMAGES)
        scene = rng.choice(len(self._scene_weights), size=size, p=self._scene_weights)
        deviation = rng.standard_normal((size, known.dim), dtype=np.float32) * np.sqrt(known.image)
        centre = self._scene_centres[scene] + deviation * self._scene_factors[scene, None]
        image_factor = _factors(rng, known.wording_spread, size)
        rng = self._rng(purpose, block)
        factor = image_factor[:, None] * _factors(rng, known.caption_spread, (size, count))
        vectors = rng.standard_normal((size, count, known.dim), dtype=np.float32)
        vectors *= np.sqrt(known.wording)
        vectors *= factor[:, :, None]
        vectors += centre[:, None, :]
        vectors /= np.linalg.norm(vectors, axis=2, keepdims=True)
        rotated: Floats = vectors.reshape(-1, known.dim) @ self._rotation
        return rotated.reshape(size, count, known.dim)

    def _rng(self, purpose: str, number: int = 0) -> np.random.Generator:
        place = ("scenes", "rotation", "images", "stored", "asked").index(purpose)
        return np.random.default_rng([self.seed, place, number])

    @cached_property
    def _scene_weights(self) -> NDArray[np.float64]:
        # The weights follow Zipf's law. A few kinds of places are common, and most kinds are rare.
        ranks = np.arange(1, self.statistics.scenes_among(self.num_images) + 1)
        weights = 1.0 / (ranks + 10.0)
        return weights / weights.sum()

    @cached_property
    def _scene_centres(self) -> Floats:
        known = self.statistics
        shape = (len(self._scene_weights), known.dim)
        drawn = self._rng("scenes").standard_normal(shape, dtype=np.float32)
        centres: Floats = known.mean + drawn * np.sqrt(known.scene)
        return centres

    @cached_property
    def _scene_factors(self) -> Floats:
        spread = self.statistics.image_spread
        return _factors(self._rng("scenes", 1), spread, len(self._scene_weights))

    @cached_property
    def _rotation(self) -> Floats:
        dim = self.statistics.dim
        drawn = self._rng("rotation").standard_normal((dim, dim))
        return np.linalg.qr(drawn)[0].astype(np.float32)


def _factors(rng: np.random.Generator, spread: float, shape: int | tuple[int, int]) -> Floats:
    """Draw random log-normal factors. The mean of their squares is one."""
    return np.exp(rng.normal(-(spread**2), spread, shape)).astype(np.float32)
