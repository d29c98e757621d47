"""Find images by the vectors in one column.

The column contains description vectors or image vectors.

An index proposes candidates. Then every candidate is scored with its exact vectors, so the score of
an image is the same with and without an index. If the index returns fewer rows than requested
although more rows match, the result of the index is not used. In this case, every matching row is
scored.
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

# The last digits of a matrix product depend on the shape of the matrices.
_ROUNDING = 1e-5


@dataclass(frozen=True, slots=True)
class SearchedVectors:
    """A vector column in a table version, with the index on the column.

    Attributes:
        table: the version of the table.
        rows: an object that fetches rows of this version.
        column: the vector column.
        facts: facts about the index. None if no index is used.
        probing: how many partitions and rows of the index to search. None if no index is used.
        covered: true if the index covers every row.
        chance: the best scores for unrelated queries. None if they are not measured.
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
        """Read the facts about a column. A version never changes, so one call is enough.

        Args:
            table: the version of the table.
            rows: an object that fetches rows of this version.
            column: the vector column.
            index: name of the index on the column.
            config: settings for probes and refinement. They override the measured values.
        """
        facts = read_facts(table.dataset, index)
        probing = None if facts is None else facts.probing(config)
        covered = facts is not None and is_covered(table.dataset, index)
        chance = read_chance_score(table.dataset, column.name)
        return cls(table, rows, column, facts, probing, covered, chance)


class VectorRetriever:
    """Finds images by their vectors in one column.

    Args:
        searched: the column.
        queries: query vectors, float32, shape (queries, dim), unit length.
        pooling: the method that combines the cosines of an image's vectors into one score.
        matching: the images that match the filter.
        exact: true to score every matching row even if there is an index.
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
        """The vectors of the images in the last call of `scores`."""

    @property
    def num_scanned(self) -> int | None:
        """The number of matching images if all of them are scored. None if an index is used."""
        few = self._matching.few
        if few is not None:
            return len(few)
        scans = self._exact or self._searched.facts is None
        return self._matching.num if scans else None

    def candidates(self, num: int) -> Candidates:
        """Return at least the best ``num`` images for each query."""
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
        """Return scores, shape (queries, images). NaN means that an image has no vector."""
        variants = self._searched.rows.variants(ids, self._searched.column)
        self.fetched = variants
        if not len(variants.ids):
            return np.full((len(self._queries), len(ids)), np.nan, np.float32)
        scores = self._pooled(variants, cosines_of(self._queries, variants.vectors))
        if len(variants.ids) == len(ids):
            return scores
        return in_places(ids, variants.ids, scores)

    def _scan(self, num: int) -> Candidates:
        """Score every matching row. Return at least the best ``num`` images for each query.

        Images with the same score as the last of these images are also returned.
        """
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
                # Also keep images with the same score as the last image. The method `scores` later
                # computes the exact scores, and the images are sorted by the exact scores.
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
    """Return the cosine of each query and each vector, shape (queries, vectors).

    This function does not use a matrix product. In a matrix product, the last digits of a cosine
    depend on the number of vectors. Then the order of images could differ from page to page.
    """
    found: Floats = np.stack([np.einsum("vd,d->v", vectors, query) for query in queries])
    return found
