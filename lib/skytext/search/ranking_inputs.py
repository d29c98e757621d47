"""Types for ranking: the searched table version, the question, and the ranking."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache, partial
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from skytext.config.index import IndexConfig
from skytext.filters.conditions import Condition
from skytext.filters.spatial import Rows as SpatialRows
from skytext.filters.spatial import Spatial
from skytext.search.fusion import Pooling, best
from skytext.search.request import RETRIEVERS, Kind
from skytext.search.retrievers.matching import Matching
from skytext.search.retrievers.retriever import Retriever
from skytext.search.retrievers.vectors import SearchedVectors, VectorRetriever
from skytext.search.retrievers.words import WordRetriever
from skytext.table.images_dataset import ImagesTable
from skytext.table.index_facts import (
    IMAGE_VECTOR_INDEX,
    TEXT_INDEX,
    VECTOR_INDEX,
    index_names,
    uncovered_fragments,
)
from skytext.table.queries.caption_queries import (
    Floats,
    RowIds,
    Variants,
    count_matching,
    ids_of_images,
    take,
)
from skytext.table.queries.hit_column import HitRow
from skytext.table.queries.row_copy import Rows
from skytext.table.queries.shape_rows import bind, shape_rows
from skytext.table.rows.missing_vectors import image_column_of
from skytext.table.vector_columns import VectorKind
from skytext_client.search_fields import Mode

Scale = tuple[tuple[float, ...], ...]
"""Reference values that make the scores on different pages comparable. See `Ranking.scale`."""

# The row ids of the images that match one geometry need up to about 100 kB.
_SHAPES_KEPT = 64


@dataclass(frozen=True, slots=True)
class Question:
    """A search request after conversion: its texts and images are now vectors and words.

    If there are several queries, an image gets the highest of its scores for these queries.

    Attributes:
        mode: the search mode. It determines whether vectors, words or both are compared.
        vectors: query vectors to compare with descriptions: float32, shape (queries, dim), unit
            length.
        image_vectors: vectors of the same queries to compare with image vectors. None if the mode
            does not compare image vectors.
        words: the words of each query. Empty if the mode does not compare words.
        pooling: the method that combines the cosines of an image's variants.
        text_weight: the weight of BM25 in hybrid searches. The weight of the vector score is 1.
        num_candidates: minimum number of candidates of each retriever. It applies to hybrid
            searches, and to dense searches if the pooling method is not ``max``.
        where: the filter, or None.
        exact: true if every matching row must be scored.
    """

    mode: Mode
    vectors: Floats
    words: tuple[str, ...]
    pooling: Pooling
    text_weight: float
    num_candidates: int
    where: Condition | None
    exact: bool
    image_vectors: Floats | None = None


class Searched(Protocol):
    """The target of a search: one table (`Served`) or several tables (`ServedTables`)."""

    @property
    def name(self) -> str:
        """A readable name, for messages."""

    @property
    def dim(self) -> int:
        """The number of dimensions of the description vectors."""

    def retrievers(self, question: Question) -> dict[Kind, Retriever]:
        """Return the retrievers for a question, in the order of `RETRIEVERS`."""

    def find_images(self, image_ids: Sequence[str]) -> dict[str, list[int]]:
        """Return the row ids of captioned images. The keys of the result are image ids.

        An image has one row id for each table that contains the image.
        """

    def variants(self, ids: RowIds, kind: VectorKind = VectorKind.TEXT) -> Variants:
        """Return the vectors of rows in the order of ``ids``. Omit rows without a vector."""

    def hits(self, ids: RowIds) -> list[HitRow]:
        """Return the values that a hit shows, for captioned rows, in the order of ``ids``."""

    def values(self, ids: RowIds, column: str) -> list[Any]:
        """Return the values of one column, in the order of ``ids``."""

    def tables(self, ids: RowIds) -> list[str | None]:
        """Return the table address for each row. It is None if only one table is searched."""


@dataclass(frozen=True, slots=True)
class Served:
    """One searched table version with its indexes. It implements `Searched`.

    Attributes:
        table: the version of the table.
        rows: an object that fetches rows of this version.
        captions: the vectors of the descriptions.
        images: the image vectors. None if image vectors are not searched.
        has_text: true if the version has a full-text index.
        text_uncovered: ids of the fragments that the full-text index does not cover.
        shape_rows: a cached function that returns the rows of the images that match a geometry; see
            `skytext.table.queries.shape_rows.bind`.
        counts: a cache of the number of matching images for each filter; see `Matching`.
    """

    table: ImagesTable
    rows: Rows
    captions: SearchedVectors
    images: SearchedVectors | None
    has_text: bool
    text_uncovered: tuple[int, ...]
    shape_rows: Callable[[Spatial], SpatialRows]
    counts: dict[str | None, int] = field(default_factory=dict)

    @classmethod
    def of_table(
        cls, table: ImagesTable, config: IndexConfig, *, with_images: bool = False
    ) -> Served:
        """Read the facts about a version. A version never changes, so one call is enough.

        Args:
            table: the version of the table.
            config: probe and refinement settings for the index on the description vectors. These
                settings override the measured values.
            with_images: true to search image vectors if the version has image vectors.
        """
        rows, images = Rows(table), None
        if with_images and table.image_column is not None:
            # Pass default settings, so that the measured values are used. The settings in `config`
            # are only for the index on the description vectors.
            images = SearchedVectors.of_column(
                table, rows, table.image_column, IMAGE_VECTOR_INDEX, IndexConfig()
            )
        return cls(
            table=table,
            rows=rows,
            captions=SearchedVectors.of_column(
                table, rows, table.text_column, VECTOR_INDEX, config
            ),
            images=images,
            has_text=TEXT_INDEX in index_names(table.dataset),
            text_uncovered=uncovered_fragments(table.dataset, TEXT_INDEX),
            shape_rows=lru_cache(_SHAPES_KEPT)(partial(shape_rows, table)),
            counts={None: count_matching(table)},
        )

    @property
    def name(self) -> str:
        """A readable name, for messages."""
        return f"version {self.table.version} of {self.table.location.uri}"

    @property
    def dim(self) -> int:
        """The number of dimensions of the description vectors."""
        return self.table.text_column.dim

    @property
    def modes(self) -> tuple[Mode, ...]:
        """The search modes that are possible with this version."""
        there: set[Kind] = {"captions"}
        there |= {"words"} if self.has_text else set()
        there |= {"images"} if self.images is not None else set()
        return tuple(mode for mode, kinds in RETRIEVERS.items() if there.issuperset(kinds))

    def find_images(self, image_ids: Sequence[str]) -> dict[str, list[int]]:
        """Return the row ids of captioned images. The keys of the result are image ids.

        Each list contains one row id.
        """
        found = ids_of_images(self.table, list(image_ids))
        return {image_id: [row_id] for image_id, row_id in found.items()}

    def variants(self, ids: RowIds, kind: VectorKind = VectorKind.TEXT) -> Variants:
        """Return the vectors of rows in the order of ``ids``. Omit rows without a vector."""
        is_text = kind == VectorKind.TEXT
        column = self.table.text_column if is_text else image_column_of(self.table)
        return self.rows.variants(ids, column)

    def hits(self, ids: RowIds) -> list[HitRow]:
        """Return the values that a hit shows, for captioned rows, in the order of ``ids``."""
        return self.rows.hits(ids)

    def values(self, ids: RowIds, column: str) -> list[Any]:
        """Return the values of one column, in the order of ``ids``."""
        return list(take(self.table, ids, [column]).column(column).to_pylist())

    def tables(self, ids: RowIds) -> list[str | None]:
        """Return None for each row, because only one table is searched."""
        return [None] * len(ids)

    def retrievers(self, question: Question) -> dict[Kind, Retriever]:
        """Return the retrievers for a question, in the order of `RETRIEVERS`.

        Raises:
            CallError: the comparison of images with a geometry in the filter takes too long.
        """
        where = None if question.where is None else bind(question.where, self.shape_rows)
        matching = Matching(self.table, where, self.counts)
        return {kind: self._make(kind, question, matching) for kind in RETRIEVERS[question.mode]}

    def _make(self, kind: Kind, question: Question, matching: Matching) -> Retriever:
        exact = question.exact
        if kind == "captions":
            return VectorRetriever(
                self.captions, question.vectors, question.pooling, matching, exact=exact
            )
        if kind == "words":
            return WordRetriever(
                self.table,
                uncovered=self.text_uncovered,
                words=question.words,
                where=matching.where,
            )
        if self.images is None or question.image_vectors is None:
            raise ValueError(f"mode {question.mode} needs image vectors")
        return VectorRetriever(self.images, question.image_vectors, "max", matching, exact=exact)


@dataclass(frozen=True, slots=True)
class Ranking:
    """Images in descending order of their scores. Images with equal scores are sorted by row id.

    Attributes:
        ids: row ids, shape (images,).
        scores: the scores by which the images are sorted, float32, shape (images,).
        parts: one array per retriever, float32, shape (images,). If there are several queries, the
            array contains the highest of the image's scores for these queries. NaN means that the
            image has no score.
        exact: true if every matching row was scored.
        complete: true if these images are all images that match.
        scale: reference values for the scores. Later pages must use the same reference values. If
            score values are fused, they are the best cosine and the best BM25 of each query. If
            ranks are fused, there is one value: the number of candidates on the first page. None if
            nothing is fused.
        variants: description vectors that were scored. They include all description vectors of
            the images in ``ids``. None if no description vectors are in memory.
    """

    ids: RowIds
    scores: Floats
    parts: dict[Kind, Floats]
    exact: bool
    complete: bool
    scale: Scale | None = None
    variants: Variants | None = None

    def first(self, depth: int) -> Ranking:
        """Return the ``depth`` best images, best image first."""
        whole = self.complete and len(self.ids) <= depth
        return replace(self.at(best(self.scores, self.ids, depth)), complete=whole)

    def at(self, places: NDArray[np.intp]) -> Ranking:
        """Return the images at the given indices."""
        parts = {kind: scores[places] for kind, scores in self.parts.items()}
        return replace(self, ids=self.ids[places], scores=self.scores[places], parts=parts)

    def followed_by(self, later: Ranking) -> Ranking:
        """Return the images of this ranking, followed by the new images of ``later``.

        The scores of the new images are multiplied by a factor, so that all these scores are below
        the lowest score of this ranking. The order of the new images does not change.

        Args:
            later: a ranking of more candidates. Its scores are above 0.
        """
        later = later.at(np.flatnonzero(~np.isin(later.ids, self.ids)))
        scores = later.scores
        if len(self.ids) and len(later.ids):
            below = self.scores.min() / later.scores.max() * np.float32(1 - 1e-6)
            scores = scores * min(below, np.float32(1))
        return replace(
            later,
            ids=np.concatenate([self.ids, later.ids]),
            scores=np.concatenate([self.scores, scores]),
            parts={
                kind: np.concatenate([scores, later.parts[kind]])
                for kind, scores in self.parts.items()
            },
            exact=self.exact and later.exact,
            variants=None,
        )
