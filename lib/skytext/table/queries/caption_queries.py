"""Ask one version of a table: which rows match, lie near a vector, or have a query's words.

There are two kinds of vectors, those of the descriptions and those of the images themselves. An
image's own vector is read as its only variant, so that every function here serves both kinds.

Rows are named by their row id, which is theirs within one version. Everything here gives row ids
and numbers; what people see of a row is fetched at the end, for the few that are shown.
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
        vectors: float32, shape (variants, dim), those of one image together.
        offsets: shape (images,), where each image's variants start; each has one at least.
    """

    ids: RowIds
    vectors: Floats
    offsets: NDArray[np.intp]

    def of_rows(self, ids: RowIds) -> list[Floats]:
        """Return the vectors of some of the images, each of shape (variants, dim)."""
        order = np.argsort(self.ids)
        places = order[np.searchsorted(self.ids, ids, sorter=order)]
        ends = np.append(self.offsets[1:], len(self.vectors))
        return [self.vectors[self.offsets[place] : ends[place]] for place in places]


class Found(NamedTuple):
    """Rows that an index found, best first.

    Attributes:
        ids: row ids, shape (rows,).
        scores: float32, shape (rows,): the index's estimate of the best variant's cosine, or BM25
            with the statistics of the whole table.
    """

    ids: RowIds
    scores: Floats


class Pictures(NamedTuple):
    """Some images, told apart by what they are and by their bytes.

    Attributes:
        ids: row ids, shape (images,).
        keys: of dtype S16, shape (images,): of the image's id and the hash of its bytes.
    """

    ids: RowIds
    keys: NDArray[np.bytes_]


def matching_ids(
    table: ImagesTable, where: Condition, limit: int, fragments: Sequence[int] | None = None
) -> RowIds:
    """Return the images that are done and match, at most ``limit`` of them.

    Args:
        table: the version.
        where: what they match.
        limit: at most so many.
        fragments: of these fragments only; None for all.
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
    """Return the images that are done and match, each with what tells its bytes from others.

    Args:
        table: the version.
        where: what they match; None for all.
        fragments: of these fragments only; None for all.
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
    """Return the number of images that are done and match."""
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
    """Ask a vector index for the images whose best variant lies nearest.

    It answers from its codes, so the scores are estimates: more than ``k`` images come back for an
    exact look at their vectors (`take_variants`, which costs half of what it costs to let Lance do
    that). They may be fewer, although more match: an index looks only into the partitions around
    the query.

    Args:
        table: a version with a vector index.
        vector: float32, shape (dim,), unit length.
        k: images wanted in the end, at least 1.
        probing: how far to look.
        where: only rows that it lets through are found.
        covered: the index covers every row. A row that is not done has no vector, so that the
            index alone tells which are: 5 ms instead of 6 on 100,000 images.
        column: with the index; None for the descriptions' vectors.
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
    """Return Lance's ``nearest`` for the ``k`` rows near a vector of a column."""
    # As Arrow: Lance would copy an array of NumPy twice, for a third of a millisecond.
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
    """Ask the full-text index for the images with the best BM25 of some words.

    Rows that the index does not cover are left out, unless they are asked for. Their BM25 comes
    from the index's statistics and their own, so it depends on how many are asked for at once.

    Args:
        table: a version with a full-text index.
        words: data, never a query language: the index splits it into words as it did the texts.
        limit: rows wanted, at least 1.
        where: only rows that it lets through are found.
        ids: only these rows are found, at least one. A score is what it is without.
        uncovered: the fragments that the index does not cover: their rows are found instead.
    """
    from lance.query import MatchQuery

    condition = None if where is None else where.sql()
    if ids is not None:
        chosen = _rows(ids)
        condition = chosen if condition is None else f"{chosen} AND {condition}"
    with warnings.catch_warnings():
        # Lance asks to use its newer SDK for full-text options that are not used here.
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
    """Return the vectors of some rows, as ``ids`` go; rows without any are left out.

    Args:
        table: the version.
        ids: row ids.
        column: None for the descriptions' vectors.
    """
    column = column or table.text_column
    return variants_of(take(table, ids, [column.name]), column)


def take(table: ImagesTable, ids: RowIds, columns: list[str]) -> pa.Table:
    """Return columns of some rows, and ``_rowid``, as ``ids`` go."""
    if not len(ids):
        return table.dataset.schema.empty_table().select(columns).append_column(*_row_ids(ids))
    # What Lance itself fetches rows with. A filter on _rowid, the public way, takes twice as long
    # for ten rows, and `take` goes by places, not by row ids.
    rows = table.dataset._take_rows(ids.tolist(), columns=columns)
    return rows.append_column(*_row_ids(ids))


def scan_variants(
    table: ImagesTable, where: Condition | None = None, column: VectorColumn | None = None
) -> Iterator[Variants]:
    """Yield the vectors of all images that are done and match, a batch in memory at a time.

    Args:
        table: the version.
        where: None for every image.
        column: None for the descriptions' vectors.
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
    """Return a number over every row id of a version."""
    # A row id is the number of the fragment, and the place in it in the lower 32 bits.
    return (max(table.dataset.fragment_ids(), default=-1) + 1) << 32


def ids_of_images(table: ImagesTable, image_ids: list[str]) -> dict[str, int]:
    """Return the row ids of images that are done; others are left out."""
    from skytext.table.images_dataset import sql_text

    condition = f"{DONE} AND image_id IN ({', '.join(map(sql_text, image_ids))})"
    scanner = table.dataset.scanner(columns=["image_id"], with_row_id=True, filter=condition)
    found = scanner.to_table()
    ids, rows = found.column("image_id").to_pylist(), found.column("_rowid").to_pylist()
    return dict(zip(ids, rows, strict=True))


def variants_of(rows: pa.Table, column: VectorColumn) -> Variants:
    """Read a column of vectors and ``_rowid``; rows without a vector are left out."""
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
