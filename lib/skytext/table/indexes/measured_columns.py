"""Vector columns that implement the protocol `skytext.table.indexes.index_recall.Column`."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pyarrow as pa

from skytext.table.images_dataset import ImagesTable
from skytext.table.index_facts import (
    IMAGE_VECTOR_INDEX,
    NEIGHBOURS,
    VECTOR_INDEX,
    Probing,
    is_covered,
)
from skytext.table.queries.caption_queries import (
    Floats,
    nearest,
    scan_variants,
    take_variants,
    variants_of,
)
from skytext.table.rows.missing_vectors import image_column_of
from skytext.table.schema import DONE
from skytext.table.vector_columns import VectorColumn


class _Vectors:
    """A vector column that has an index. The score of an image is the score of its best vector."""

    def __init__(self, table: ImagesTable, column: VectorColumn, index: str) -> None:
        self._table = table
        self._column = column
        # A run may have committed rows while the index was built. The index does not cover these
        # rows.
        self._covered = is_covered(table.dataset, index)

    def scores(self, queries: Floats) -> Iterator[Floats]:
        """Yield scores for each batch of images, shape (queries, images).

        The score is the cosine between the query and the best vector of the image. Images without
        vectors are omitted.
        """
        for batch in scan_variants(self._table, column=self._column):
            if len(batch.ids):
                yield np.maximum.reduceat(queries @ batch.vectors.T, batch.offsets, axis=1)

    def ask(self, query: Floats, probing: Probing) -> Floats:
        """Return the exact scores of the images that a search finds, in descending order."""
        table, column = self._table, self._column
        found = nearest(table, query, NEIGHBOURS, probing, covered=self._covered, column=column)
        variants = take_variants(table, found.ids, column)
        scores = np.maximum.reduceat(variants.vectors @ query, variants.offsets)
        return np.sort(scores)[::-1]


class VariantVectors(_Vectors):
    """The caption vectors. An image has several caption vectors.

    The cosine between a query and its stored vector is one of three values. The values 0.9 and 0.8
    are typical for the cosine between a real caption and the nearest other real caption. This was
    measured with all-MiniLM-L6-v2 and validation captions. For RSITMD, the median is 0.90 and the
    lower quartile is 0.81. For RSICD, the median is 0.85 and the lower quartile is 0.75. The value
    0.65 is typical for short queries, such as the name of a class (docs/background/ranking.md,
    "Short queries").

    Args:
        table: a version with the index.
    """

    query_cosines = (0.9, 0.8, 0.65)

    def __init__(self, table: ImagesTable) -> None:
        super().__init__(table, table.text_column, VECTOR_INDEX)

    def sample(self, num_vectors: int, rng: np.random.Generator) -> Floats:
        """Return vectors of randomly chosen images, one vector per image."""
        num_rows = self._table.num_rows()
        picked = np.sort(rng.choice(num_rows, min(num_rows, num_vectors * 2), replace=False))
        rows = self._table.dataset.take(picked.tolist(), columns=[self._column.name])
        rows = rows.append_column("_rowid", pa.array(np.arange(rows.num_rows, dtype=np.uint64)))
        found = variants_of(rows, self._column)
        ends = np.append(found.offsets[1:], len(found.vectors))
        one = rng.integers(found.offsets, ends) if len(found.ids) else found.offsets
        return found.vectors[one][rng.permutation(len(one))][:num_vectors]


class ImageVectors(_Vectors):
    """The image vectors. An image has at most one image vector.

    Real queries are texts. The text encoder of the model computes their vectors. Such vectors are
    not close to the vector of any image. In CLIP, the cosine between an image and its caption is at
    most about 0.4 (Hessel et al., CLIPScore, EMNLP 2021). A query that is far from all images needs
    more partitions than a query close to an image. So a measurement with cosines of 0.9 and 0.8
    would choose too few partitions.

    Args:
        table: a version with the index.
    """

    query_cosines = (0.4, 0.2)

    def __init__(self, table: ImagesTable) -> None:
        super().__init__(table, image_column_of(table), IMAGE_VECTOR_INDEX)

    def sample(self, num_vectors: int, rng: np.random.Generator) -> Floats:
        """Return the vectors of randomly chosen images that have a vector."""
        # Choose only from rows that have a vector, because most rows may have no vector.
        there = self._table.dataset.scanner(
            columns=[], with_row_id=True, filter=f"{DONE} AND {self._column.name} IS NOT NULL"
        )
        ids = there.to_table().column("_rowid").to_numpy()
        picked = rng.choice(ids, min(len(ids), num_vectors), replace=False)
        return take_variants(self._table, picked, self._column).vectors
