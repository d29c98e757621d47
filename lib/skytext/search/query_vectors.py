"""Convert a search request to query vectors and words."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from skytext.config.search import SearchConfig
from skytext.errors import CallError
from skytext.models.text_embedder import Embedder
from skytext.search.ranking_inputs import Question, Searched
from skytext.search.request import RETRIEVERS, Example, SearchRequest
from skytext.table.queries.caption_queries import Floats, RowIds
from skytext.table.vector_columns import VectorKind
from skytext_client.search_fields import Mode

# The best Rocchio weights according to Salton and Buckley ("Improving retrieval performance by
# relevance feedback", JASIS 41(4), 1990). The weight of the query is 1.
_POSITIVE, _NEGATIVE = 0.75, 0.25
_SHORTEST = 1e-3

Named = dict[str, list[int]]
"""The row ids of each image that a request names.

An image has one row id for each table that contains the image.
"""


class QueryEmbedder(Protocol):
    """Embeds queries. The vectors can be compared with the vectors of one column."""

    dim: int

    def embed_queries(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Embed queries. Return float32, shape (texts, dim), unit length."""


class QuerySpace:
    """Converts requests to query vectors that can be compared with one vector column.

    Args:
        served: the searched tables. They contain the images that requests name.
        embedder: the model that embedded the column.
        kind: the kind of vectors in the column.
    """

    def __init__(self, served: Searched, embedder: QueryEmbedder, kind: VectorKind) -> None:
        self._served = served
        self._embedder = embedder
        self._kind = kind

    def vectors(
        self, request: SearchRequest, named: Named, described: Floats | None = None
    ) -> Floats:
        """Return a unit vector for each query, shape (queries, dim).

        Args:
            request: the request.
            named: the result of `find_named` for the request.
            described: the mean vector of the texts in `SearchRequest.described`, shape (1, dim), or
                None.

        Raises:
            CallError: a named image has no vector in the column, or the queries and examples cancel
                each other out (the sum of their vectors is nearly zero).
        """
        found = [self._embedder.embed_queries(list(request.all_texts))]
        found += [self._image(image_id, named) for image_id in request.like]
        found += [] if described is None else [described]
        vectors = self._moved(np.concatenate(found), request, named)
        if request.combine == "mean" and len(vectors) > 1:
            vectors = unit(vectors.mean(axis=0, keepdims=True), "the queries")
        return vectors

    def _moved(self, queries: Floats, request: SearchRequest, named: Named) -> Floats:
        """Move queries towards positive examples and away from negative ones (Rocchio 1971)."""
        if not request.positive and not request.negative:
            return queries
        towards = self._mean(request.positive, named)
        if not len(queries):
            # Without queries, use the mean vector of the positive examples as the query.
            queries, towards = towards, np.zeros_like(towards)
        away = self._mean(request.negative, named)
        return unit(
            queries + _POSITIVE * towards - _NEGATIVE * away, "the queries and the examples"
        )

    def _mean(self, examples: Sequence[Example], named: Named) -> Floats:
        """Return the mean vector of the examples, shape (1, dim), or zeros if there are none."""
        texts = [example.text for example in examples if example.text is not None]
        images = [example.image_id for example in examples if example.image_id is not None]
        found = [self._embedder.embed_queries(texts)]
        found += [self._image(image_id, named) for image_id in images]
        vectors = np.concatenate(found)
        mean: Floats = vectors.sum(axis=0, keepdims=True) / np.float32(max(len(vectors), 1))
        return mean

    def _image(self, image_id: str, named: Named) -> Floats:
        """Return the normalised mean of an image's vectors, shape (1, dim)."""
        variants = self._served.variants(np.array(named[image_id], np.uint64), self._kind)
        if not len(variants.vectors):
            raise CallError(
                f"image {image_id!r} has no image vector, but this mode compares image vectors: "
                "search with mode dense"
            )
        # If several tables contain the image, use the vectors in the first of these tables.
        vectors = variants.of_rows(variants.ids[:1])[0]
        return unit(vectors.mean(axis=0, keepdims=True), "the image's descriptions")


class Questioner:
    """Converts each `SearchRequest` to a `Question`.

    Args:
        served: the searched tables. They contain the images that requests name.
        embedder: the model that embedded the descriptions.
        config: the search settings, which are the same for all requests.
        image_embedder: the model that embedded the images. None if image vectors are not searched.
    """

    def __init__(
        self,
        served: Searched,
        embedder: Embedder,
        config: SearchConfig,
        image_embedder: QueryEmbedder | None,
    ) -> None:
        self._embedder = embedder
        self._config = config
        self._captions = QuerySpace(served, embedder, VectorKind.TEXT)
        self._images = None
        if image_embedder is not None:
            self._images = QuerySpace(served, image_embedder, VectorKind.IMAGE)

    def ask(self, request: SearchRequest, mode: Mode, named: Named) -> Question:
        """Convert a request to vectors and words.

        Args:
            request: the request.
            mode: the search mode.
            named: the result of `find_named` for the request.

        Raises:
            CallError: the queries and examples cancel each other out (the sum of their vectors is
                nearly zero). Or the mode compares image vectors, and a named image has no image
                vector.
        """
        config = self._config
        vectors = self._captions.vectors(request, named, self._described(request))
        image_vectors = None
        if "images" in RETRIEVERS[mode] and self._images is not None:
            image_vectors = self._images.vectors(request, named)
        words = request.all_texts if "words" in RETRIEVERS[mode] else ()
        if request.combine == "mean" and len(words) > 1:
            words = (" ".join(words),)
        return Question(
            mode=mode,
            vectors=vectors,
            image_vectors=image_vectors,
            words=words,
            pooling=config.hybrid_pooling if mode == "hybrid" else config.dense_pooling,
            text_weight=config.text_weight,
            num_candidates=config.num_candidates,
            where=request.where,
            exact=request.exact,
        )

    def _described(self, request: SearchRequest) -> Floats | None:
        if not request.described:
            return None
        documents = self._embedder.embed_documents(list(request.described)).vectors
        return unit(documents.mean(axis=0, keepdims=True), "the descriptions")


def find_named(served: Searched, request: SearchRequest) -> Named:
    """Return the row ids of the images that a request names.

    Raises:
        CallError: an image does not exist or has no descriptions.
    """
    if not request.named_images:
        return {}
    found = served.find_images(request.named_images)
    missing = [image_id for image_id in request.named_images if image_id not in found]
    if missing:
        raise CallError(
            f"{served.name} has no captioned image {missing[0]!r}: use the image_id of a hit"
        )
    return found


def excluded_rows(named: Named) -> RowIds:
    """Return the row ids of the images that the request names. Hits do not contain these images."""
    return np.array(sorted(row_id for ids in named.values() for row_id in ids), np.uint64)


def unit(vectors: Floats, what: str) -> Floats:
    """Normalise vectors to unit length, shape (vectors, dim).

    Raises:
        CallError: a vector is nearly zero. The error message begins with ``what``.
    """
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    if lengths.min() < _SHORTEST:
        raise CallError(f"{what} cancel each other out, so the query vector is zero")
    found: Floats = (vectors / lengths).astype(np.float32)
    return found
