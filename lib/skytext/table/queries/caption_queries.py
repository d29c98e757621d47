"""Find rows in one version of a table by a condition, by a vector, or by words.

An image has several caption vectors (variants) and at most one image vector. This module treats an
image vector as the only variant of the image. So every function in this module works for caption
vectors and for image vectors.

A row is identified by its row id. A row id is valid only in one version. The functions return row
ids and numbers. The fields of the hits are read after ranking, and only for the rows on the page.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import lance
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from skytext.captions.parsing import composed
from skytext.filters.conditions import Condition
from skytext.table.id_sums import ID_BYTES, hash_bytes
from skytext.table.images_dataset import ImagesTable
from skytext.table.index_facts import Probing
from skytext.table.schema import DONE
from skytext.table.vector_columns import VectorColumn, VectorKind

_ROWS_A_BATCH = 4096

RowIds = NDArray[np.uint64]
Floats = NDArray[np.float32]


class Variants(NamedTuple):
    """The vectors of some images.

    Attributes:
        ids: row ids, shape (images,).
        vectors: float32, shape (variants, dim). All vectors of one image are consecutive.
        offsets: shape (images,). For each image, this is the index of its first variant in
            ``vectors``. Each image has at least one variant.
    """

    ids: RowIds
    vectors: Floats
    offsets: NDArray[np.intp]

    def of_rows(self, ids: RowIds) -> list[Floats]:
        """Return one array of vectors for each id in ``ids``, shape (variants, dim)."""
        order = np.argsort(self.ids)
        places = order[np.searchsorted(self.ids, ids, sorter=order)]
        ends = np.append(self.offsets[1:], len(self.vectors))
        return [self.vectors[self.offsets[place] : ends[place]] for place in places]


class Found(NamedTuple):
    """Rows that an index found, best first.

    Attributes:
        ids: row ids, shape (rows,).
        scores: float32, shape (rows,). A score is the estimated cosine of the best variant, or a
            BM25 score that uses the statistics of the whole table.
    """

    ids: RowIds
    scores: Floats


class Pictures(NamedTuple):
    """Some images and their keys. A key identifies an image and the content of the image.

    Attributes:
        ids: row ids, shape (images,).
        keys: dtype S16, shape (images,). A key is computed from the image id and the hash of the
            image's bytes.
    """

    ids: RowIds
    keys: NDArray[np.bytes_]


def matching_ids(
    table: ImagesTable, where: Condition, limit: int, fragments: Sequence[int] | None = None
) -> RowIds:
    """Return the row ids of at most ``limit`` described images that match a condition.

    Args:
        table: the version.
        where: the condition.
        limit: maximum number of rows.
        fragments: ids of the fragments to scan; None for all fragments.
    """
    scanner = table.dataset.scanner(
        columns=[],
        with_row_id=True,
        filter=_condition(where),
        limit=limit,
        fragments=None if fragments is None else _fragments(table, fragments),
    )
    return _ids(scanner.to_table())


def pictures(
    table: ImagesTable, where: Condition | None = None, fragments: Sequence[int] | None = None
) -> Pictures:
    """Return the described images that match a condition, with their keys.

    Args:
        table: the version.
        where: the condition; None for all images.
        fragments: ids of the fragments to scan; None for all fragments.
    """
    ids, keys = [np.empty(0, np.uint64)], [np.empty(0, f"S{ID_BYTES}")]
    scanner = table.dataset.scanner(
        columns=["image_id", "content_sha256"],
        with_row_id=True,
        filter=_condition(where),
        fragments=None if fragments is None else _fragments(table, fragments),
    )
    for batch in scanner.to_batches() if fragments is None or fragments else ():
        images = hash_bytes(batch.column("image_id")).view(np.uint64)
        contents = hash_bytes(batch.column("content_sha256")).view(np.uint64)
        ids.append(_ids(batch))
        keys.append((images ^ contents).view(f"S{ID_BYTES}"))
    return Pictures(np.concatenate(ids), np.concatenate(keys))


def _fragments(table: ImagesTable, ids: Sequence[int]) -> list[lance.LanceFragment]:
    return [table.dataset.get_fragment(fragment_id) for fragment_id in ids]


def count_matching(table: ImagesTable, where: Condition | None = None) -> int:
    """Return the number of described images that match a condition.

    If ``where`` is None, all described images are counted.
    """
    return int(table.dataset.count_rows(filter=_condition(where)))


def nearest(
    table: ImagesTable,
    vector: Floats,
    k: int,
    probing: Probing,
    where: Condition | None = None,
    *,
    covered: bool = False,
    column: VectorColumn | None = None,
) -> Found:
    """Find the images with the nearest variants. A vector index is used.

    The scores are estimated from the codes of the index. So this function returns more than ``k``
    images, and the caller must compute their exact scores. The computation with `take_variants`
    takes half as long as Lance's own refinement. The function may also return fewer than ``k``
    images although more images match, because a search with an index reads only the partitions near
    the query.

    Args:
        table: a version with a vector index.
        vector: float32, shape (dim,), unit length.
        k: number of images that the caller needs after exact scoring, at least 1.
        probing: the search settings.
        where: the condition that images must match; None for all images.
        covered: true if the index covers every row. The filter on described rows is then omitted,
            because only described rows have vectors. Without this filter, a search of 100,000
            images takes 5 ms. With this filter, it takes 6 ms.
        column: the indexed column; None for the caption vectors.
    """
    condition = None if where is None and covered else _condition(where)
    if where is not None and covered:
        condition = where.sql()
    name = (column or table.text_column).name
    query = near(name, vector, probing.num_candidates(k)) | probing.partitions()
    scanner = table.dataset.scanner(
        columns=["_distance"],
        with_row_id=True,
        nearest=query,
        filter=condition,
        prefilter=condition is not None,
        fast_search=covered,
    )
    found = scanner.to_table()
    distances = found.column("_distance").to_numpy(zero_copy_only=False)
    return Found(_ids(found), np.asarray(1 - distances, np.float32))


def near(column: str, vector: Floats, k: int) -> dict[str, Any]:
    """Return the argument ``nearest`` for Lance. It finds the ``k`` nearest rows in a column."""
    # Pass an Arrow array, because Lance copies a NumPy array twice. The two copies take 0.3 ms.
    return {"column": column, "q": pa.array(vector, pa.float32()), "k": k, "metric": "cosine"}


def word_scores(
    table: ImagesTable,
    words: str,
    limit: int,
    *,
    where: Condition | None = None,
    ids: RowIds | None = None,
    uncovered: Sequence[int] | None = None,
) -> Found:
    """Find the images with the best BM25 scores for some words. The full-text index is used.

    If ``uncovered`` is None, only rows that the index covers are found. If ``uncovered`` is set,
    only rows in these fragments are found. The BM25 scores of rows in these fragments use the
    statistics of the index and of all rows that are scored in the same call. So the scores depend
    on the number of rows that are scored in the same call.

    Args:
        table: a version with a full-text index.
        words: plain text. It contains no operators. It is split into words in the same way as the
            indexed texts.
        limit: maximum number of rows, at least 1.
        where: the condition that images must match; None for all images.
        ids: ids of the rows to score, at least one; None for all rows. The scores of these rows are
            the same as in a search of all rows.
        uncovered: ids of the fragments that the index does not cover.
    """
    from lance.query import MatchQuery

    condition = None if where is None else where.sql()
    if ids is not None:
        chosen = _rows(ids)
        condition = chosen if condition is None else f"{chosen} AND {condition}"
    with warnings.catch_warnings():
        # Lance prints a warning that recommends a newer SDK. The warning is only about full-text
        # options that are not used here.
        warnings.simplefilter("ignore", DeprecationWarning)
        scanner = table.dataset.scanner(
            columns=["_score"],
            with_row_id=True,
            full_text_query=MatchQuery(composed(words), "text"),
            limit=limit,
            filter=condition,
            prefilter=condition is not None,
            fast_search=uncovered is None,
            fragments=None if uncovered is None else _fragments(table, uncovered),
        )
    found = scanner.to_table()
    scores = found.column("_score").to_numpy(zero_copy_only=False).astype(np.float32)
    return Found(_ids(found), scores)


def take_variants(table: ImagesTable, ids: RowIds, column: VectorColumn | None = None) -> Variants:
    """Return the vectors of rows, in the order of ``ids``. Rows without a vector are omitted.

    Args:
        table: the version.
        ids: row ids.
        column: the vector column; None for the caption vectors.
    """
    column = column or table.text_column
    return variants_of(take(table, ids, [column.name]), column)


def take(table: ImagesTable, ids: RowIds, columns: list[str]) -> pa.Table:
    """Return some columns and the column ``_rowid`` of rows, in the order of ``ids``."""
    if not len(ids):
        return table.dataset.schema.empty_table().select(columns).append_column(*_row_ids(ids))
    # This private method is used because no public function fits. For ten rows, a filter on _rowid
    # takes twice as long. Lance's `take` needs positions instead of row ids. Lance itself also uses
    # this private method.
    rows = table.dataset._take_rows(ids.tolist(), columns=columns)
    return rows.append_column(*_row_ids(ids))


def scan_variants(
    table: ImagesTable, where: Condition | None = None, column: VectorColumn | None = None
) -> Iterator[Variants]:
    """Yield the vectors of all described images that match a condition, batch by batch.

    Args:
        table: the version.
        where: the condition that images must match; None for all images.
        column: the vector column; None for the caption vectors.
    """
    column = column or table.text_column
    scanner = table.dataset.scanner(
        columns=[column.name],
        with_row_id=True,
        filter=None if where is None else _condition(where),
        batch_size=_ROWS_A_BATCH,
    )
    for batch in scanner.to_batches():
        yield variants_of(pa.table(batch), column)


def end_of_row_ids(table: ImagesTable) -> int:
    """Return a number larger than every row id of a version."""
    # The upper bits of a row id are the fragment id. The lower 32 bits are the position of the row
    # in the fragment.
    return (max(table.dataset.fragment_ids(), default=-1) + 1) << 32


def ids_of_images(table: ImagesTable, image_ids: list[str]) -> dict[str, int]:
    """Return the row ids of described images, by image id. Other images are omitted."""
    from skytext.table.images_dataset import sql_text

    condition = f"{DONE} AND image_id IN ({', '.join(map(sql_text, image_ids))})"
    scanner = table.dataset.scanner(columns=["image_id"], with_row_id=True, filter=condition)
    found = scanner.to_table()
    ids, rows = found.column("image_id").to_pylist(), found.column("_rowid").to_pylist()
    return dict(zip(ids, rows, strict=True))


def variants_of(rows: pa.Table, column: VectorColumn) -> Variants:
    """Convert a vector column and ``_rowid`` to `Variants`. Rows without a vector are omitted."""
    lists = rows.column(column.name).combine_chunks()
    if isinstance(lists, pa.ChunkedArray):
        lists = pa.concat_arrays(lists.chunks) if lists.num_chunks else lists.type.empty_array()
    if column.kind == VectorKind.IMAGE:
        counts = lists.is_valid().to_numpy(zero_copy_only=False).astype(np.intp)
        flat = lists.flatten().to_numpy(zero_copy_only=False)
    else:
        lengths = lists.value_lengths()
        counts = (lengths.fill_null(0) if lengths.null_count else lengths).to_numpy()
        flat = lists.flatten().flatten().to_numpy(zero_copy_only=False)
    some = counts > 0
    vectors = flat.reshape(-1, column.dim).astype(np.float32, copy=False)
    starts = np.cumsum(counts[some]) - counts[some]
    return Variants(_ids(rows)[some], vectors, starts.astype(np.intp))


def _row_ids(ids: RowIds) -> tuple[str, pa.Array]:
    return "_rowid", pa.array(ids, pa.uint64())


def _condition(where: Condition | None) -> str:
    return DONE if where is None else f"{DONE} AND {where.sql()}"


def _ids(rows: pa.Table | pa.RecordBatch) -> RowIds:
    found: RowIds = rows.column("_rowid").to_numpy(zero_copy_only=False)
    return found.astype(np.uint64, copy=False)


def _rows(ids: RowIds) -> str:
    return f"_rowid IN ({', '.join(map(str, ids.tolist()))})"
