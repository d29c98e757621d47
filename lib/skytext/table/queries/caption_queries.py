"""Queries on one version of a table: rows that match, are near a vector, or have given words.

There are caption vectors and image vectors. An image vector is read as the only variant of its
image, so every function here works for both.

Rows are identified by their row id, which is valid within one version. The functions return row ids
and numbers. The fields of a hit are fetched at the end, for the few rows shown.
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
        vectors: float32, shape (variants, dim), grouped by image.
        offsets: shape (images,), start of each image's variants; each image has at least one.
    """

    ids: RowIds
    vectors: Floats
    offsets: NDArray[np.intp]

    def of_rows(self, ids: RowIds) -> list[Floats]:
        """Return the vectors of some images, each of shape (variants, dim)."""
        order = np.argsort(self.ids)
        places = order[np.searchsorted(self.ids, ids, sorter=order)]
        ends = np.append(self.offsets[1:], len(self.vectors))
        return [self.vectors[self.offsets[place] : ends[place]] for place in places]


class Found(NamedTuple):
    """Rows that an index found, best first.

    Attributes:
        ids: row ids, shape (rows,).
        scores: float32, shape (rows,): estimated cosine of the best variant, or BM25 with the
            statistics of the whole table.
    """

    ids: RowIds
    scores: Floats


class Pictures(NamedTuple):
    """Some images, distinguished by their identity and by their bytes.

    Attributes:
        ids: row ids, shape (images,).
        keys: of dtype S16, shape (images,): of the image's id and the hash of its bytes.
    """

    ids: RowIds
    keys: NDArray[np.bytes_]


def matching_ids(
    table: ImagesTable, where: Condition, limit: int, fragments: Sequence[int] | None = None
) -> RowIds:
    """Return the described images that match a condition, at most ``limit`` of them.

    Args:
        table: the version.
        where: the condition.
        limit: maximum number of rows.
        fragments: only rows of these fragments; None for all.
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
    """Return the described images that match, each with the identity of its bytes.

    Args:
        table: the version.
        where: the condition; None for all.
        fragments: only rows of these fragments; None for all.
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
    """Return the number of described images that match a condition."""
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
    """Find the images with the nearest variants by a vector index.

    The scores are estimates from the index codes, so it returns more than ``k`` images for exact
    scoring (`take_variants`, which costs half of Lance's own refinement). It may return fewer
    although more match, because an index reads only the partitions near the query.

    Args:
        table: a version with a vector index.
        vector: float32, shape (dim,), unit length.
        k: number of images wanted in the end, at least 1.
        probing: the search settings.
        where: only rows that match are found.
        covered: the index covers every row. Rows without a description have no vector, so the index
            alone finds the described rows: 5 ms instead of 6 ms on 100,000 images.
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
    """Return the ``nearest`` argument of Lance for the ``k`` rows nearest in a column."""
    # As Arrow: Lance copies a NumPy array twice, which takes a third of a millisecond.
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
    """Find the images with the best BM25 scores for some words by the full-text index.

    Rows that the index does not cover are omitted unless ``uncovered`` is given. Their BM25 uses
    the statistics of the index and of these rows, so it depends on how many are scored together.

    Args:
        table: a version with a full-text index.
        words: plain text, not a query language; the index splits it like the texts.
        limit: maximum number of rows, at least 1.
        where: only rows that match are found.
        ids: only these rows are found, at least one. Their scores do not change.
        uncovered: the fragments that the index does not cover; only their rows are found.
    """
    from lance.query import MatchQuery

    condition = None if where is None else where.sql()
    if ids is not None:
        chosen = _rows(ids)
        condition = chosen if condition is None else f"{chosen} AND {condition}"
    with warnings.catch_warnings():
        # Lance advises a newer SDK for full-text options that are not used here.
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
    """Return the vectors of rows in the order of ``ids``; rows without a vector are omitted.

    Args:
        table: the version.
        ids: row ids.
        column: None for the caption vectors.
    """
    column = column or table.text_column
    return variants_of(take(table, ids, [column.name]), column)


def take(table: ImagesTable, ids: RowIds, columns: list[str]) -> pa.Table:
    """Return columns of rows, and ``_rowid``, in the order of ``ids``."""
    if not len(ids):
        return table.dataset.schema.empty_table().select(columns).append_column(*_row_ids(ids))
    # Lance itself fetches rows with this method. The public filter on _rowid takes twice as long
    # for ten rows, and `take` uses positions instead of row ids.
    rows = table.dataset._take_rows(ids.tolist(), columns=columns)
    return rows.append_column(*_row_ids(ids))


def scan_variants(
    table: ImagesTable, where: Condition | None = None, column: VectorColumn | None = None
) -> Iterator[Variants]:
    """Yield the vectors of all described images that match, one batch in memory at a time.

    Args:
        table: the version.
        where: None for every image.
        column: None for the caption vectors.
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
    # A row id has the fragment id in the upper bits, and the row's position in the lower 32 bits.
    return (max(table.dataset.fragment_ids(), default=-1) + 1) << 32


def ids_of_images(table: ImagesTable, image_ids: list[str]) -> dict[str, int]:
    """Return the row ids of described images; others are omitted."""
    from skytext.table.images_dataset import sql_text

    condition = f"{DONE} AND image_id IN ({', '.join(map(sql_text, image_ids))})"
    scanner = table.dataset.scanner(columns=["image_id"], with_row_id=True, filter=condition)
    found = scanner.to_table()
    ids, rows = found.column("image_id").to_pylist(), found.column("_rowid").to_pylist()
    return dict(zip(ids, rows, strict=True))


def variants_of(rows: pa.Table, column: VectorColumn) -> Variants:
    """Read a vector column and ``_rowid``; rows without a vector are omitted."""
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
