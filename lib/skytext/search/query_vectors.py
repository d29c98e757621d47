"""Turn a request into vectors and words."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from skytext.config.search import SearchConfig
from skytext.errors import CallError
from skytext.models.text_embedder import Embedder
from skytext.search.ranking_inputs import Question
from skytext.search.request import Example, Mode, SearchRequest
from skytext.table.images_dataset import ImagesTable
from skytext.table.queries.caption_queries import Floats, RowIds, ids_of_images, take_variants

# Rocchio's weights as Salton and Buckley found them best ("Improving retrieval performance by
# relevance feedback", JASIS 41(4), 1990): the query counts 1.
_POSITIVE, _NEGATIVE = 0.75, 0.25
_SHORTEST = 1e-3


class Questioner:
    """Makes questions of requests.

    Args:
        table: the version that images are looked up in.
        embedder: of the model that the table was embedded with.
        config: what counts where the request does not say it.
    """

    def __init__(self, table: ImagesTable, embedder: Embedder, config: SearchConfig) -> None:
        self._table = table
        self._embedder = embedder
        self._config = config

    def ask(self, request: SearchRequest, mode: Mode, named: dict[str, int]) -> Question:
        """Embed what is asked for.

        Args:
            request: what is asked for.
            mode: in which to search.
            named: row ids of `SearchRequest.named_images`.

        Raises:
            CallError: the examples cancel the query out.
        """
        config = self._config
        vectors = self._moved(self._queries(request, named), request, named)
        words = request.all_texts if mode != "dense" else ()
        if request.combine == "mean" and len(vectors) > 1:
            vectors = _unit(vectors.mean(axis=0, keepdims=True), "the queries")
            words = (" ".join(words),) if words else ()
        return Question(
            mode=mode,
            vectors=vectors,
            words=words,
            pooling=config.hybrid_pooling if mode == "hybrid" else config.dense_pooling,
            text_weight=config.text_weight,
            num_candidates=config.num_candidates,
            where=request.where,
            exact=request.exact,
        )

    def _queries(self, request: SearchRequest, named: dict[str, int]) -> Floats:
        """Return a vector for each query; none where only examples are asked by."""
        found = [self._embedder.embed_queries(list(request.all_texts))]
        found += [self._image(named[image_id]) for image_id in request.like]
        if request.described:
            documents = self._embedder.embed_documents(list(request.described)).vectors
            found.append(_unit(documents.mean(axis=0, keepdims=True), "the descriptions"))
        return np.concatenate(found)

    def _moved(self, queries: Floats, request: SearchRequest, named: dict[str, int]) -> Floats:
        """Move the queries towards and away from the examples (Rocchio 1971)."""
        if not request.positive and not request.negative:
            return queries
        towards = self._mean(request.positive, named)
        if not len(queries):
            # Only examples: their mean is the query.
            queries, towards = towards, np.zeros_like(towards)
        away = self._mean(request.negative, named)
        return _unit(queries + _POSITIVE * towards - _NEGATIVE * away, "query and examples")

    def _mean(self, examples: Sequence[Example], named: dict[str, int]) -> Floats:
        """Return the mean of some examples' vectors, shape (1, dim); zero without any."""
        texts = [example.text for example in examples if example.text is not None]
        images = [example.image_id for example in examples if example.image_id is not None]
        found = [self._embedder.embed_queries(texts)]
        found += [self._image(named[image_id]) for image_id in images]
        vectors = np.concatenate(found)
        mean: Floats = vectors.sum(axis=0, keepdims=True) / np.float32(max(len(vectors), 1))
        return mean

    def _image(self, row_id: int) -> Floats:
        """Return the unit mean of an image's variants, shape (1, dim)."""
        variants = take_variants(self._table, np.array([row_id], np.uint64))
        return _unit(variants.vectors.mean(axis=0, keepdims=True), "the image's descriptions")


def find_named(table: ImagesTable, request: SearchRequest) -> dict[str, int]:
    """Return the row ids of the images that a request names.

    Raises:
        CallError: one of them is not there, or not done.
    """
    if not request.named_images:
        return {}
    found = ids_of_images(table, list(request.named_images))
    missing = [image_id for image_id in request.named_images if image_id not in found]
    if missing:
        raise CallError(
            f"version {table.version} of {table.location.uri} has no image {missing[0]!r} that is "
            "done: name the image_id of a hit"
        )
    return found


def excluded_rows(named: dict[str, int]) -> RowIds:
    """Return the rows that are no hits, because they are what is asked by."""
    return np.array(sorted(named.values()), np.uint64)


def _unit(vectors: Floats, what: str) -> Floats:
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    if lengths.min() < _SHORTEST:
        raise CallError(f"{what} cancel each other out: nothing is left to look for")
    unit: Floats = (vectors / lengths).astype(np.float32)
    return unit
