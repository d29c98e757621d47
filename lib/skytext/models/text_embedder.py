"""Embed descriptions and queries as unit vectors with sentence-transformers."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from skytext.config.embedding import EmbedConfig
from skytext.errors import ModelError
from skytext.models.checkpoints import ModelIdentity
from skytext.models.precision import native_precision
from skytext.models.torchvision_ops import declare_missing_ops


@dataclass(frozen=True, slots=True)
class EmbedderInfo:
    """Device and precision of an embedder.

    The device and the precision are stored in every row. They are not part of the fingerprint.
    """

    device: str
    precision: str


@dataclass(frozen=True, slots=True)
class Embeddings:
    """Vectors of some texts.

    Attributes:
        vectors: float32, shape (texts, dim), unit length.
        truncated: bool, shape (texts,). A value is true if the text has more tokens than the model
            accepts.
    """

    vectors: NDArray[np.float32]
    truncated: NDArray[np.bool_]

    @property
    def finite(self) -> NDArray[np.bool_]:
        """One value for each vector: true if the vector is finite. Bool, shape (texts,)."""
        return np.asarray(np.isfinite(self.vectors).all(axis=1))


class Embedder(Protocol):
    """A model that embeds texts as unit vectors."""

    info: EmbedderInfo
    dim: int

    def embed_documents(self, texts: Sequence[str]) -> Embeddings:
        """Embed descriptions."""

    def embed_queries(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Return the vectors of queries: float32, shape (texts, dim), unit length."""


class SentenceEmbedder:
    """A sentence-transformers model.

    The query prompt and the document prompt of the model are used.

    Raises:
        ModelError: the model cannot be loaded.
    """

    def __init__(self, config: EmbedConfig, model: ModelIdentity) -> None:
        self._model, self.info = load_sentence_transformer(
            model, config.num_gpus_per_actor, config.dtype
        )
        self._batch_size = config.batch_size
        self.dim = int(self._model.get_embedding_dimension())

    def embed_documents(self, texts: Sequence[str]) -> Embeddings:
        """Embed descriptions. The result also shows which descriptions were truncated."""
        if not texts:
            return Embeddings(self._no_vectors(), np.zeros(0, dtype=np.bool_))
        vectors = self._model.encode_document(list(texts), **self._options())
        return Embeddings(to_unit(vectors), self._truncated(texts))

    def embed_queries(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Return the vectors of queries: float32, shape (texts, dim), unit length."""
        if not texts:
            return self._no_vectors()
        return to_unit(self._model.encode_query(list(texts), **self._options()))

    def _no_vectors(self) -> NDArray[np.float32]:
        return np.zeros((0, self.dim), dtype=np.float32)

    def _options(self) -> dict[str, Any]:
        return {
            "batch_size": self._batch_size,
            "normalize_embeddings": True,
            "convert_to_numpy": True,
            "show_progress_bar": False,
        }

    def _truncated(self, texts: Sequence[str]) -> NDArray[np.bool_]:
        limit = self._model.max_seq_length
        if limit is None:
            return np.zeros(len(texts), dtype=np.bool_)
        ids = self._model.tokenizer(list(texts), truncation=False, verbose=False)["input_ids"]
        return np.array([len(tokens) > limit for tokens in ids], dtype=np.bool_)


def load_sentence_transformer(
    model: ModelIdentity, num_gpus: float, dtype: str
) -> tuple[Any, EmbedderInfo]:
    """Load a model with sentence-transformers.

    Return the loaded model, its device and its precision.

    Args:
        model: the model.
        num_gpus: the number of GPUs that the caller may use. With 0, the model runs on the CPU.
        dtype: ``auto``, or the name of a floating-point type of torch.

    Raises:
        ModelError: the model cannot be loaded.
    """
    if model.is_local:
        os.environ.setdefault("HF_HUB_OFFLINE", "1")
    declare_missing_ops()
    from sentence_transformers import SentenceTransformer
    from transformers.utils import logging as transformers_logging

    # Loading takes a short time, so a progress bar is not useful.
    transformers_logging.disable_progress_bar()
    device = _device(num_gpus)
    precision = native_precision(device) if dtype == "auto" else dtype
    try:
        loaded = SentenceTransformer(
            model.source,
            device=device,
            revision=None if model.is_local else model.revision,
            model_kwargs={"dtype": precision},
        )
    except (OSError, ValueError, TypeError, KeyError) as error:
        message = " ".join(str(error).split())[:300]
        raise ModelError(f"cannot load the embedding model {model.name!r}: {message}") from error
    return loaded, EmbedderInfo(device=device, precision=precision)


def to_unit(vectors: NDArray[Any]) -> NDArray[np.float32]:
    """Return the vectors with unit length: float32, shape (N, dim)."""
    # A bfloat16 model normalises its vectors in bfloat16, which is not exact. Therefore normalise
    # the vectors again in float32.
    vectors = np.asarray(vectors, dtype=np.float32)
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    unit: NDArray[np.float32] = vectors / np.maximum(norms, np.finfo(np.float32).tiny)
    return unit


def _device(num_gpus: float) -> str:
    import torch

    return "cuda" if num_gpus > 0 and torch.cuda.is_available() else "cpu"
