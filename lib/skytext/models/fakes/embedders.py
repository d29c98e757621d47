"""Fake embedders, which make unit vectors from words and colours."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from skytext.models.fakes.options import FakeOptions, pixel_digest
from skytext.models.text_embedder import EmbedderInfo, Embeddings, to_unit


class FakeEmbedder:
    """A fake embedder that gives each word a fixed random direction.

    Texts with the same words have similar vectors.
    """

    info = EmbedderInfo(device="cpu", precision="float32")
    max_words = 256

    def __init__(self, dim: int | None = None) -> None:
        self.dim = dim or 16

    def embed_documents(self, texts: Sequence[str]) -> Embeddings:
        """Embed descriptions."""
        truncated = np.array([len(text.split()) > self.max_words for text in texts], dtype=np.bool_)
        return Embeddings(self.embed_queries(texts), truncated)

    def embed_queries(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Return the vectors of queries: float32, shape (texts, dim), unit length."""
        vectors = np.array([self._sum_of_words(text) for text in texts]).reshape(-1, self.dim)
        return to_unit(vectors)

    def _sum_of_words(self, text: str) -> NDArray[np.float64]:
        # A text without words also needs a direction, because a zero vector cannot be scaled to
        # length 1.
        total = np.full(self.dim, 1e-6)
        for word in text.lower().split()[: self.max_words]:
            seed = int(hashlib.sha256(word.strip(".,:;").encode()).hexdigest()[:8], 16)
            total += np.random.default_rng(seed).normal(size=self.dim)
        return total


class FakeImageEmbedder:
    """A fake embedder that embeds images by their mean colour.

    The vector of a red image is similar to the vector of the word "red". Green and blue images have
    the same property.

    Args:
        options: only three options are used: ``delay_s`` (seconds for each image), ``journal`` (one
            line for each image, with the digest of the pixels) and ``dim``.
    """

    info = EmbedderInfo(device="cpu", precision="float32")
    _colours = ("red", "green", "blue")

    def __init__(self, options: FakeOptions | None = None) -> None:
        self._options = options or FakeOptions()
        self.dim = self._options.dim or 8

    def embed_images(self, images: Sequence[Image.Image]) -> NDArray[np.float32]:
        """Return the vectors of RGB images: float32, shape (images, dim), unit length."""
        rows = [self._of_image(image) for image in images]
        return to_unit(np.array(rows).reshape(-1, self.dim))

    def embed_queries(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Return the vectors of queries: float32, shape (texts, dim), unit length."""
        rows = [self._of_text(text) for text in texts]
        return to_unit(np.array(rows).reshape(-1, self.dim))

    def _of_image(self, image: Image.Image) -> NDArray[np.float64]:
        time.sleep(self._options.delay_s)
        digest = pixel_digest(image)
        if self._options.journal:
            with open(self._options.journal, "a", encoding="ascii") as journal:
                journal.write(f"{digest}\n")
        colour = np.asarray(image, dtype=np.float64).mean(axis=(0, 1)) / 255
        # Two images with the same mean colour get slightly different vectors.
        rest = np.random.default_rng(int(digest[:8], 16)).normal(size=self.dim - 3)
        return np.concatenate([colour - colour.mean() + 1e-3, 0.02 * rest])

    def _of_text(self, text: str) -> NDArray[np.float64]:
        words = [word.strip(".,:;") for word in text.lower().split()]
        counts = np.array([words.count(colour) for colour in self._colours], dtype=np.float64)
        return np.concatenate([counts - counts.mean() + 1e-3, np.zeros(self.dim - 3)])
