"""What ranking works on: a version of a table, a question, and the ranking that comes of it."""

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
from skytext.table.missing_vectors import image_column_of
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
from skytext.table.vector_columns import VectorKind
from skytext_client.search_fields import Mode

Scale = tuple[tuple[float, ...], ...]
"""What the scores of several pages have in common; see `Ranking.scale`."""

# Their row ids take up to some 100 kB each.
_SHAPES_KEPT = 64


@dataclass(frozen=True, slots=True)
class Question:
    """A request whose texts and images have become vectors and words.

    Attributes:
        mode: which of them count.
        vectors: float32, shape (queries, dim), unit length, in the space of the descriptions; an
            image has the score of the query that it fits best.
        image_vectors: the same queries in the space of the images' own vectors; None in modes that
            do not compare these.
        words: of each query; empty in modes that compare vectors alone.
        pooling: of a variant's cosines.
        text_weight: what BM25 counts in hybrid searches; the vectors count 1.
        num_candidates: of each list in hybrid searches, at least.
        where: only rows that it lets through.
        exact: score every row.
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
    """What a search looks at: one table (`Served`), or several (`ServedTables`)."""

    @property
    def name(self) -> str:
        """For people."""

    @property
    def dim(self) -> int:
        """Length of the descriptions' vectors."""

    def retrievers(self, question: Question) -> dict[Kind, Retriever]:
        """Return what looks for a question's images, in the order of `RETRIEVERS`."""

    def find_images(self, image_ids: Sequence[str]) -> dict[str, list[int]]:
        """Return the row ids of images that are done, one for each table that has the image."""

    def variants(self, ids: RowIds, kind: VectorKind = VectorKind.TEXT) -> Variants:
        """Return the vectors of some rows, as ``ids`` go; rows without any are left out."""

    def hits(self, ids: RowIds) -> list[HitRow]:
        """Return what hits tell of some rows that are done, as ``ids`` go."""

    def values(self, ids: RowIds, column: str) -> list[Any]:
        """Return a column of some rows, as ``ids`` go."""

    def tables(self, ids: RowIds) -> list[str | None]:
        """Return the address of each row's table; None where only one table is searched."""


@dataclass(frozen=True, slots=True)
class Served:
    """A version of a table, and what its indexes offer: a `Searched`.

    Attributes:
        table: the version.
        rows: what is fetched of its rows.
        captions: the vectors of the descriptions.
        images: the images' own vectors; None where they are not searched.
        has_text: there is a full-text index.
        text_uncovered: the fragments that it does not cover.
        shape_rows: of the version, remembered; see `skytext.table.queries.shape_rows.bind`.
        counts: see `Matching`.
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
        """Look at a version once: it never changes.

        Args:
            table: the version.
            config: probes and refinement of searches by descriptions, in place of those that were
                measured.
            with_images: its image vectors are searched, if it has some.
        """
        rows, images = Rows(table), None
        if with_images and table.image_column is not None:
            # As measured: settings that were given hold from the build on.
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
        """For people."""
        return f"version {self.table.version} of {self.table.location.uri}"

    @property
    def dim(self) -> int:
        """Length of the descriptions' vectors."""
        return self.table.text_column.dim

    @property
    def modes(self) -> tuple[Mode, ...]:
        """What this version can be searched in."""
        there: set[Kind] = {"captions"}
        there |= {"words"} if self.has_text else set()
        there |= {"images"} if self.images is not None else set()
        return tuple(mode for mode, kinds in RETRIEVERS.items() if there.issuperset(kinds))

    def find_images(self, image_ids: Sequence[str]) -> dict[str, list[int]]:
        """Return the row ids of images that are done."""
        found = ids_of_images(self.table, list(image_ids))
        return {image_id: [row_id] for image_id, row_id in found.items()}

    def variants(self, ids: RowIds, kind: VectorKind = VectorKind.TEXT) -> Variants:
        """Return the vectors of some rows, as ``ids`` go; rows without any are left out."""
        is_text = kind == VectorKind.TEXT
        column = self.table.text_column if is_text else image_column_of(self.table)
        return self.rows.variants(ids, column)

    def hits(self, ids: RowIds) -> list[HitRow]:
        """Return what hits tell of some rows that are done, as ``ids`` go."""
        return self.rows.hits(ids)

    def values(self, ids: RowIds, column: str) -> list[Any]:
        """Return a column of some rows, as ``ids`` go."""
        return list(take(self.table, ids, [column]).column(column).to_pylist())

    def tables(self, ids: RowIds) -> list[str | None]:
        """Return None for each row: all are of one table."""
        return [None] * len(ids)

    def retrievers(self, question: Question) -> dict[Kind, Retriever]:
        """Return what looks for a question's images, in the order of `RETRIEVERS`.

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
    """The first images, best first; equals by row id.

    Attributes:
        ids: row ids, shape (images,).
        scores: float32, shape (images,).
        parts: the best score of each image by each retriever, float32, shape (images,); NaN where
            an image has none.
        exact: every matching row was scored.
        complete: nothing else matches.
        scale: what the scores are relative to, so that a later page has the same ones. Hybrid: the
            best cosine and the best BM25 of each query. Ranks: how many candidates were looked at
            first. None elsewhere.
        variants: vectors of descriptions that were scored, these images' among them; None where
            they are not at hand.
    """

    ids: RowIds
    scores: Floats
    parts: dict[Kind, Floats]
    exact: bool
    complete: bool
    scale: Scale | None = None
    variants: Variants | None = None

    def first(self, depth: int) -> Ranking:
        """Return the first ``depth`` images in order."""
        whole = self.complete and len(self.ids) <= depth
        return replace(self.at(best(self.scores, self.ids, depth)), complete=whole)

    def at(self, places: NDArray[np.intp]) -> Ranking:
        """Return the images at some places."""
        parts = {kind: scores[places] for kind, scores in self.parts.items()}
        return replace(self, ids=self.ids[places], scores=self.scores[places], parts=parts)

    def followed_by(self, later: Ranking) -> Ranking:
        """Return these images, and behind all of them those of a deeper look.

        Scores of the later ones keep their order, on a scale that ends below the lowest of these.

        Args:
            later: scores over 0.
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
