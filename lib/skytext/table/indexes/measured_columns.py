"""The indexed columns of vectors, as `skytext.table.indexes.index_recall` measures them."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from skytext.table.images_dataset import ImagesTable
from skytext.table.index_facts import NEIGHBOURS, VECTOR_INDEX, Probing, is_covered
from skytext.table.missing_vectors import image_column_of
from skytext.table.queries.caption_queries import (
    Floats,
    nearest,
    scan_variants,
    take,
    take_variants,
    variants_of,
)
from skytext.table.queries.image_vector_queries import ask_index
from skytext.table.schema import DONE

_ROWS_A_BATCH = 4096


class VariantVectors:
    """The descriptions' vectors: several an image, which scores by the best of them.

    Queries are as near to one as real captions are to the nearest other one (RSITMD and RSICD
    validation captions by all-MiniLM-L6-v2: medians 0.90 and 0.85, lower quartiles 0.81 and 0.75).

    Args:
        table: a version with the index on them.
    """

    query_cosines = (0.9, 0.8)

    def __init__(self, table: ImagesTable) -> None:
        self._table = table
        # A run may have committed rows while the index was built.
        self._covered = is_covered(table.dataset, VECTOR_INDEX)

    def sample(self, num_vectors: int, rng: np.random.Generator) -> Floats:
        """Return one vector each of images picked at random."""
        num_rows = self._table.num_rows()
        picked = np.sort(rng.choice(num_rows, min(num_rows, num_vectors * 2), replace=False))
        rows = self._table.dataset.take(picked.tolist(), columns=[self._table.text_column.name])
        rows = rows.append_column("_rowid", pa.array(np.arange(rows.num_rows, dtype=np.uint64)))
        found = variants_of(rows, self._table.text_column)
        ends = np.append(found.offsets[1:], len(found.vectors))
        one = rng.integers(found.offsets, ends) if len(found.ids) else found.offsets
        return found.vectors[one][rng.permutation(len(one))][:num_vectors]

    def scores(self, queries: Floats) -> Iterator[Floats]:
        """Yield the cosines with the best variants of all images."""
        for batch in scan_variants(self._table):
            if len(batch.ids):
                yield np.maximum.reduceat(queries @ batch.vectors.T, batch.offsets, axis=1)

    def ask(self, query: Floats, probing: Probing) -> Floats:
        """Return the exact scores of what a search finds, best first."""
        found = nearest(self._table, query, NEIGHBOURS, probing, covered=self._covered)
        variants = take_variants(self._table, found.ids)
        scores = np.maximum.reduceat(variants.vectors @ query, variants.offsets)
        return np.sort(scores)[::-1]


class ImageVectors:
    """The images' own vectors: one an image, and none where it was not embedded.

    What searches them are words, by the model's text tower, which lie far from all images: cosines
    of an image and its caption by CLIP go up to about 0.4 (Hessel et al., CLIPScore, EMNLP 2021).
    Such a query needs more partitions than one that lies beside an image: 0.9 and 0.8 would choose
    too few.

    Args:
        table: a version with the index on them.
    """

    query_cosines = (0.4, 0.2)

    def __init__(self, table: ImagesTable) -> None:
        self._table = table
        self._column = image_column_of(table)

    def sample(self, num_vectors: int, rng: np.random.Generator) -> Floats:
        """Return the vectors of images picked at random among those that have one."""
        # Not by place, as above: the images that were embedded may be few of many.
        there = self._table.dataset.scanner(
            columns=[], with_row_id=True, filter=f"{DONE} AND {self._column.name} IS NOT NULL"
        )
        ids = there.to_table().column("_rowid").to_numpy()
        picked = rng.choice(ids, min(len(ids), num_vectors), replace=False)
        return self._matrix(take(self._table, picked, [self._column.name]))

    def scores(self, queries: Floats) -> Iterator[Floats]:
        """Yield the cosines with all images that have a vector."""
        scanner = self._table.dataset.scanner(columns=[self._column.name], batch_size=_ROWS_A_BATCH)
        for batch in scanner.to_batches():
            yield queries @ self._matrix(pa.table(batch)).T

    def ask(self, query: Floats, probing: Probing) -> Floats:
        """Return the exact scores of what a search finds, best first."""
        return ask_index(self._table, self._column.name, query, NEIGHBOURS, probing)[1]

    def _matrix(self, rows: pa.Table) -> Floats:
        """Return the vectors of rows, shape (≤ rows, dim); nulls are left out."""
        flat = pc.list_flatten(rows.column(self._column.name)).to_numpy()
        return np.asarray(flat, np.float32).reshape(-1, self._column.dim)
