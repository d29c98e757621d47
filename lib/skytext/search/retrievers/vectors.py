"""Images by vectors: those of their descriptions, or their own.

An index proposes candidates; every candidate is then scored from its own vectors, so that a score
does not depend on how the image was found. Where an index returns less than there is, its answer is
thrown away and every matching row is scored.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from skytext.config.index import IndexConfig
from skytext.search.fusion import Pooling, mean_lengths, pool
from skytext.search.retrievers.matching import Matching
from skytext.search.retrievers.retriever import Candidates, in_places
from skytext.table.images_dataset import ImagesTable
from skytext.table.index_facts import (
    ChanceScore,
    Probing,
    VectorIndexFacts,
    is_covered,
    read_chance_score,
    read_facts,
)
from skytext.table.queries.caption_queries import (
    Floats,
    RowIds,
    Variants,
    nearest,
    scan_variants,
)
from skytext.table.queries.row_copy import Rows
from skytext.table.vector_columns import VectorColumn

# A matrix product's last digits depend on its shape.
_ROUNDING = 1e-5


@dataclass(frozen=True, slots=True)
class SearchedVectors:
    """A column of vectors of a version, and what its index offers.

    Attributes:
        table: the version.
        rows: what is fetched of its rows.
        column: of the vectors.
        facts: of the index on it; None where searches are exact.
        probing: how far a search by that index looks.
        covered: the index covers every row.
        chance: how high the best images of unrelated questions score; None where it was not
            measured.
    """

    table: ImagesTable
    rows: Rows
    column: VectorColumn
    facts: VectorIndexFacts | None
    probing: Probing | None
    covered: bool
    chance: ChanceScore | None

    @classmethod
    def of_column(
        cls, table: ImagesTable, rows: Rows, column: VectorColumn, index: str, config: IndexConfig
    ) -> SearchedVectors:
        """Look at a column of a version once: a version never changes.

        Args:
            table: the version.
            rows: what is fetched of its rows.
            column: of the vectors.
            index: the name of the index on it.
            config: probes and refinement in place of those that were measured.
        """
        facts = read_facts(table.dataset, index)
        probing = None if facts is None else facts.probing(config)
        covered = facts is not None and is_covered(table.dataset, index)
        chance = read_chance_score(table.dataset, column.name)
        return cls(table, rows, column, facts, probing, covered, chance)


class VectorRetriever:
    """Looks for images by their vectors in one column.

    Args:
        searched: the column.
        queries: float32, shape (queries, dim), unit length.
        pooling: how the cosines of an image's vectors become its score.
        matching: the images that the filter lets through.
        exact: score every row.
    """

    lowest = -1.0

    def __init__(
        self,
        searched: SearchedVectors,
        queries: Floats,
        pooling: Pooling,
        matching: Matching,
        *,
        exact: bool,
    ) -> None:
        self._searched = searched
        self._queries = queries
        self._pooling = pooling
        self._matching = matching
        self._exact = exact
        self.fetched: Variants | None = None
        """The vectors that were scored last."""

    @property
    def num_scanned(self) -> int | None:
        """How many images match, where each one is looked at; None where an index chooses."""
        few = self._matching.few
        if few is not None:
            return len(few)
        scans = self._exact or self._searched.facts is None
        return self._matching.num if scans else None

    def candidates(self, num: int) -> Candidates:
        """Return the best ``num`` images of each query, or more."""
        few = self._matching.few
        if few is not None:
            return Candidates(few, exact=True, complete=True)
        searched, matching = self._searched, self._matching
        facts, probing = searched.facts, searched.probing
        if facts is None or probing is None or self._exact:
            return self._scan(num)
        if matching.where is not None:
            probing = probing.widened(matching.part, facts.num_partitions)
        found = [
            nearest(
                searched.table,
                vector,
                num,
                probing,
                matching.where,
                covered=searched.covered,
                column=searched.column,
            ).ids
            for vector in self._queries
        ]
        shortest = min(map(len, found))
        if shortest < num and shortest < matching.num:
            return self._scan(num)
        ids = np.unique(np.concatenate(found))
        return Candidates(ids, exact=False, complete=len(ids) >= matching.num)

    def scores(self, ids: RowIds) -> Floats:
        """Score images, shape (queries, images); NaN where an image has no vector."""
        variants = self._searched.rows.variants(ids, self._searched.column)
        self.fetched = variants
        if not len(variants.ids):
            return np.full((len(self._queries), len(ids)), np.nan, np.float32)
        scores = self._pooled(variants, cosines_of(self._queries, variants.vectors))
        if len(variants.ids) == len(ids):
            return scores
        return in_places(ids, variants.ids, scores)

    def _scan(self, num: int) -> Candidates:
        """Score every row; return the best ``num`` images of each query, and equal ones."""
        ids = np.empty(0, np.uint64)
        scores = np.empty((len(self._queries), 0), np.float32)
        num_rows = 0
        searched = self._searched
        for batch in scan_variants(searched.table, self._matching.where, searched.column):
            num_rows += len(batch.ids)
            if len(batch.ids):
                found = self._pooled(batch, self._queries @ batch.vectors.T)
                ids = np.concatenate([ids, batch.ids])
                scores = np.concatenate([scores, found], axis=1)
            if len(ids) > num:
                # What equals the last one stays: which comes first, the exact scores say.
                last = np.partition(scores, len(ids) - num, axis=1)[:, [len(ids) - num]]
                kept = (scores >= last - _ROUNDING).any(axis=0)
                ids, scores = ids[kept], scores[:, kept]
        return Candidates(ids, exact=True, complete=num_rows <= num, scores=scores)

    def _pooled(self, variants: Variants, cosines: Floats) -> Floats:
        lengths = None
        if self._pooling != "max":
            lengths = mean_lengths(variants.vectors, variants.offsets)
        return pool(cosines, variants.offsets, self._pooling, lengths)


def cosines_of(queries: Floats | Sequence[Floats], vectors: Floats) -> Floats:
    """Return cosines, shape (queries, vectors).

    Not by a matrix product: there the last digits of one pair's cosine depend on how many others
    are computed beside it, and so would the order of pages.
    """
    found: Floats = np.stack([np.einsum("vd,d->v", vectors, query) for query in queries])
    return found
