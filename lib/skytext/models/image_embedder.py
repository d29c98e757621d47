"""Embed images and text queries as unit vectors in the same vector space.

Any model with an image tower and a text tower can be used. The library sentence-transformers loads
the models. It can load its own CLIP models. It can also load models of the library transformers, if
these models have the methods ``get_image_features`` and ``get_text_features`` (CLIP, SigLIP and
similar models).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from skytext.config.embedding import ImageEmbedConfig
from skytext.errors import ModelError
from skytext.models.checkpoints import ModelIdentity
from skytext.models.text_embedder import EmbedderInfo, load_sentence_transformer, to_unit

_TOWERS = ("image", "text")


class ImageEmbedder(Protocol):
    """A model that embeds images and text queries in the same vector space."""

    info: EmbedderInfo
    dim: int

    def embed_images(self, images: Sequence[Image.Image]) -> NDArray[np.float32]:
        """Return the vectors of RGB images: float32, shape (images, dim), unit length."""

    def embed_queries(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Return the vectors of queries: float32, shape (texts, dim), unit length."""


class ClipEmbedder:
    """A model similar to CLIP, which sentence-transformers runs.

    The preprocessing and the query prompt of the model are used.

    Args:
        config: how to run the model.
        model: the model.

    Raises:
        ModelError: the model cannot be loaded, it has no image tower, or it has no text tower.
    """

    def __init__(self, config: ImageEmbedConfig, model: ModelIdentity) -> None:
        self._model, self.info = load_sentence_transformer(
            model, config.num_gpus_per_actor, config.dtype
        )
        missing = [tower for tower in _TOWERS if tower not in self._model.modalities]
        if missing:
            raise ModelError(
                f"the model {model.name!r} has no tower for {' and '.join(missing)}: use a "
                "model similar to CLIP, which embeds images and texts in the same vector "
                "space, e.g. sentence-transformers/clip-ViT-B-32"
            )
        self._batch_size = config.batch_size
        self.dim = int(self._model.get_embedding_dimension())

    def embed_images(self, images: Sequence[Image.Image]) -> NDArray[np.float32]:
        """Return the vectors of RGB images: float32, shape (images, dim), unit length."""
        if not images:
            return np.zeros((0, self.dim), dtype=np.float32)
        return to_unit(self._model.encode(list(images), **self._options()))

    def embed_queries(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Return the vectors of queries: float32, shape (texts, dim), unit length.

        If a query has more tokens than the text tower accepts, the query is truncated.
        """
        if not texts:
            return np.zeros((0, self.dim), dtype=np.float32)
        return to_unit(self._model.encode_query(list(texts), **self._options()))

    def _options(self) -> dict[str, Any]:
        return {
            "batch_size": self._batch_size,
            "convert_to_numpy": True,
            "show_progress_bar": False,
        }
