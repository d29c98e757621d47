"""What ranking works on: a version of a table, a question, and the ranking that comes of it."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from skytext.config.index import IndexConfig
from skytext.filters.conditions import Condition
from skytext.search.fusion import Pooling, best
from skytext.search.request import Mode
from skytext.table.images_dataset import ImagesTable
from skytext.table.index_facts import (
    TEXT_INDEX,
    VECTOR_INDEX,
    Probing,
    VectorIndexFacts,
    index_names,
    is_covered,
    read_facts,
)
from skytext.table.queries.caption_queries import Floats, RowIds, Variants, count_matching
from skytext.table.queries.row_copy import Rows

Tops = tuple[tuple[float, ...], tuple[float, ...]]


@dataclass(frozen=True, slots=True)
class Served:
    """A version of a table, and what its indexes offer.

    Attributes:
        table: the version.
        rows: what is fetched of its rows.
        facts: of its vector index; None where searches are exact.
        probing: how far a search by that index looks.
        covered: the vector index covers every row.
        has_text: there is a full-text index.
        text_covered: it covers every row.
        num_done: images that are done.
        num_matching: images that match a filter, by its key, for filters asked before: a version
            never changes, and counting costs as much as the search itself.
    """

    table: ImagesTable
    rows: Rows
    facts: VectorIndexFacts | None
    probing: Probing | None
    covered: bool
    has_text: bool
    text_covered: bool
    num_done: int
    num_matching: dict[str, int] = field(default_factory=dict)

    @classmethod
    def of_table(cls, table: ImagesTable, config: IndexConfig) -> Served:
        """Look at a version once: it never changes.

        Args:
            table: the version.
            config: probes and refinement in place of those that were measured.
        """
        facts = read_facts(table.dataset)
        return cls(
            table=table,
            rows=Rows(table),
            facts=facts,
            probing=None if facts is None else facts.probing(config),
            covered=facts is not None and is_covered(table.dataset, VECTOR_INDEX),
            has_text=TEXT_INDEX in index_names(table.dataset),
            text_covered=is_covered(table.dataset, TEXT_INDEX),
            num_done=count_matching(table),
        )


@dataclass(frozen=True, slots=True)
class Question:
    """A request whose texts and images have become vectors and words.

    Attributes:
        mode: which of them count.
        vectors: float32, shape (queries, dim), unit length; an image has the score of the query
            that it fits best.
        words: of each query; empty in dense searches.
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


@dataclass(frozen=True, slots=True)
class Ranking:
    """The first images, best first; equals by row id.

    Attributes:
        ids: row ids, shape (images,).
        scores: float32, shape (images,).
        bm25: float32, shape (images,); None in dense searches.
        exact: every matching row was scored.
        complete: nothing else matches.
        tops: best cosine and best BM25 of each query, which hybrid scores are relative to.
        variants: the vectors that were scored, these images' among them; None in text searches.
    """

    ids: RowIds
    scores: Floats
    bm25: Floats | None
    exact: bool
    complete: bool
    tops: Tops | None = None
    variants: Variants | None = None

    def first(self, depth: int) -> Ranking:
        """Return the first ``depth`` images in order."""
        whole = self.complete and len(self.ids) <= depth
        return replace(self.at(best(self.scores, self.ids, depth)), complete=whole)

    def at(self, places: NDArray[np.intp]) -> Ranking:
        """Return the images at some places."""
        bm25 = None if self.bm25 is None else self.bm25[places]
        return replace(self, ids=self.ids[places], scores=self.scores[places], bm25=bm25)
