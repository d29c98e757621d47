"""Types for ranking: the searched version of a table, the question, and the resulting ranking."""

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
"""Reference values that make the scores of several pages comparable; see `Ranking.scale`."""

# The row ids of one geometry take up to about 100 kB.
_SHAPES_KEPT = 64


@dataclass(frozen=True, slots=True)
class Question:
    """A search request whose texts and images are converted to vectors and words.

    An image gets the score of its best query.

    Attributes:
        mode: the search mode, which selects the vectors and words that are compared.
        vectors: query vectors in the space of the descriptions: float32, shape (queries, dim), unit
            length.
        image_vectors: vectors of the same queries in the space of the image vectors. None in modes
            that do not compare image vectors.
        words: words of each query. Empty in modes that do not compare words.
        pooling: pooling method for the cosines of an image's variants.
        text_weight: weight of BM25 in hybrid searches. The weight of vectors is 1.
        num_candidates: minimum number of candidates of each retriever in hybrid searches, and in
            dense searches with another pooling method than ``max``.
        where: the filter, or None.
        exact: whether to score every matching row.
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
        """Length of the vectors of the descriptions."""

    def retrievers(self, question: Question) -> dict[Kind, Retriever]:
        """Return the retrievers of a question, in the order of `RETRIEVERS`."""

    def find_images(self, image_ids: Sequence[str]) -> dict[str, list[int]]:
        """Return the row ids of captioned images, one for each table that has the image."""

    def variants(self, ids: RowIds, kind: VectorKind = VectorKind.TEXT) -> Variants:
        """Return the vectors of rows in the order of ``ids``, without rows that have no vector."""

    def hits(self, ids: RowIds) -> list[HitRow]:
        """Return the hit fields of captioned rows, in the order of ``ids``."""

    def values(self, ids: RowIds, column: str) -> list[Any]:
        """Return the values of one column, in the order of ``ids``."""

    def tables(self, ids: RowIds) -> list[str | None]:
        """Return the address of the table of each row, or None if only one table is searched."""


@dataclass(frozen=True, slots=True)
class Served:
    """A version of one table with its indexes, as a `Searched`.

    Attributes:
        table: the version of the table.
        rows: fetches rows of this version.
        captions: the vectors of the descriptions.
        images: the image vectors. None if they are not searched.
        has_text: whether the version has a full-text index.
        text_uncovered: ids of the fragments that the full-text index does not cover.
        shape_rows: returns the rows of a geometry, with a cache; see
            `skytext.table.queries.shape_rows.bind`.
        counts: cache of the numbers of matching images; see `Matching`.
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
            config: settings for probes and refinement of searches by descriptions. They override
                the measured values.
            with_images: whether to search image vectors, if the version has them.
        """
        rows, images = Rows(table), None
        if with_images and table.image_column is not None:
            # Use only measured values: the settings are for the index of the descriptions.
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
        """Length of the vectors of the descriptions."""
        return self.table.text_column.dim

    @property
    def modes(self) -> tuple[Mode, ...]:
        """The search modes of this version."""
        there: set[Kind] = {"captions"}
        there |= {"words"} if self.has_text else set()
        there |= {"images"} if self.images is not None else set()
        return tuple(mode for mode, kinds in RETRIEVERS.items() if there.issuperset(kinds))

    def find_images(self, image_ids: Sequence[str]) -> dict[str, list[int]]:
        """Return a list with the row id of each captioned image, by image id."""
        found = ids_of_images(self.table, list(image_ids))
        return {image_id: [row_id] for image_id, row_id in found.items()}

    def variants(self, ids: RowIds, kind: VectorKind = VectorKind.TEXT) -> Variants:
        """Return the vectors of rows in the order of ``ids``, without rows that have no vector."""
        is_text = kind == VectorKind.TEXT
        column = self.table.text_column if is_text else image_column_of(self.table)
        return self.rows.variants(ids, column)

    def hits(self, ids: RowIds) -> list[HitRow]:
        """Return the hit fields of captioned rows, in the order of ``ids``."""
        return self.rows.hits(ids)

    def values(self, ids: RowIds, column: str) -> list[Any]:
        """Return the values of one column, in the order of ``ids``."""
        return list(take(self.table, ids, [column]).column(column).to_pylist())

    def tables(self, ids: RowIds) -> list[str | None]:
        """Return None for each row, because only one table is searched."""
        return [None] * len(ids)

    def retrievers(self, question: Question) -> dict[Kind, Retriever]:
        """Return the retrievers of a question, in the order of `RETRIEVERS`.

        Raises:
            CallError: a geometry of the filter takes too long to compare.
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
    """The best images, best image first. Equal scores are ordered by row id.

    Attributes:
        ids: row ids, shape (images,).
        scores: rank scores, float32, shape (images,).
        parts: for each retriever, the score of each image with its best query: float32, shape
            (images,). NaN means that the image has no score.
        exact: whether every matching row was scored.
        complete: whether no other image matches.
        scale: reference values of the scores, which later pages must also use. If score values are
            fused: the best cosine and the best BM25 of each query. If ranks are fused: the number
            of candidates of the first page. Otherwise None.
        variants: the vectors of descriptions that were scored. They include the vectors of these
            images. None if the vectors are not in memory.
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

        The scores of the new images are rescaled. They keep their order, and all are below the
        lowest score of this ranking.

        Args:
            later: a ranking of more candidates, whose scores are above 0.
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
