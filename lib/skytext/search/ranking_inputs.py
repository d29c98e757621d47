"""What ranking works on: a version of a table, a question, and the ranking that comes of it."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from skytext.config.index import IndexConfig
from skytext.filters.conditions import Condition
from skytext.search.fusion import Pooling, best
from skytext.search.request import RETRIEVERS, Kind, Mode
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
from skytext.table.queries.caption_queries import Floats, RowIds, Variants, count_matching
from skytext.table.queries.row_copy import Rows

Scale = tuple[tuple[float, ...], ...]
"""What the scores of several pages have in common; see `Ranking.scale`."""


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


@dataclass(frozen=True, slots=True)
class Served:
    """A version of a table, and what its indexes offer.

    Attributes:
        table: the version.
        rows: what is fetched of its rows.
        captions: the vectors of the descriptions.
        images: the images' own vectors; None where they are not searched.
        has_text: there is a full-text index.
        text_uncovered: the fragments that it does not cover.
        counts: see `Matching`.
    """

    table: ImagesTable
    rows: Rows
    captions: SearchedVectors
    images: SearchedVectors | None
    has_text: bool
    text_uncovered: tuple[int, ...]
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
            counts={None: count_matching(table)},
        )

    def matching(self, question: Question) -> Matching:
        """Return the images that a question's filter lets through."""
        return Matching(self.table, question.where, self.counts)

    def retrievers(self, question: Question, matching: Matching) -> dict[Kind, Retriever]:
        """Return what looks for a question's images, in the order of `RETRIEVERS`."""
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
                where=question.where,
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
