"""Ask a table: the nearest rows to a vector, by the paper's rule.

A multivector column with the cosine metric scores a row by the best of its vectors.
"""

from __future__ import annotations

import json
import math
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from skytext.config import IndexConfig
from skytext.filters import Condition, Need
from skytext.schema import STATUS_OK
from skytext.table.images import ImagesTable
from skytext.table.index import VECTOR_INDEX, index_names

# Fetching and scoring a thousand images of five vectors of 384 numbers takes about 20 ms, which is
# what the index takes; up to here an exact answer is worth what it costs more.
_SCORED_WITHOUT_INDEX = 3_000
_DONE = f"status = '{STATUS_OK}'"


def has_vector_index(table: ImagesTable) -> bool:
    """Return whether searches of this version can use an index."""
    return VECTOR_INDEX in index_names(table.dataset)


def nearest(
    table: ImagesTable,
    vector: NDArray[np.float32],
    k: int,
    columns: list[str],
    *,
    config: IndexConfig,
    exact: bool,
    where: Condition | None = None,
) -> pa.Table:
    """Return the ``k`` rows nearest to ``vector``, best first, ``vectors`` among the columns.

    Args:
        table: the version to search.
        vector: float32, shape (dim,), unit length.
        k: rows wanted, at least 1.
        columns: of the images schema.
        config: probes and refinement.
        exact: score every row instead of asking the index.
        where: only rows that it lets through are scored.
    """
    return _nearest(table, vector, k, columns, config, exact, _done(where))


class Found(NamedTuple):
    """What `nearest_where` found.

    Attributes:
        rows: as `nearest` returns them: ``k``, or as many as match if they are fewer.
        exact: whether every matching row was scored.
    """

    rows: pa.Table
    exact: bool


def nearest_where(
    table: ImagesTable,
    vector: NDArray[np.float32],
    k: int,
    columns: list[str],
    *,
    config: IndexConfig,
    exact: bool,
    where: Condition,
) -> Found:
    """Return the nearest of the rows that match, ``k`` of them if there are so many.

    An index looks into the partitions around the query, and what matches may lie in others. So
    rows that match are found first, and where they are few all of them are scored. Where they are
    many, the index looks the further the fewer of all rows they are; an answer that is short all
    the same is thrown away, and every matching row is scored.

    Args: as `nearest`.
    """
    condition = _done(where)
    few = max(_SCORED_WITHOUT_INDEX, k)
    scanner = table.dataset.scanner(columns=[], with_row_id=True, filter=condition, limit=few + 1)
    ids = scanner.to_table().column("_rowid")
    if len(ids) <= few:
        return Found(_nearest_of(table, vector, k, columns, ids), True)
    if not exact:
        # By the root: recall stays what it is without a filter (docs/retrieval.md).
        part = table.dataset.count_rows(filter=condition) / table.dataset.count_rows()
        wider = config.model_copy(update={"nprobes": math.ceil(config.nprobes / math.sqrt(part))})
        rows = _nearest(table, vector, k, columns, wider, False, condition)
        if rows.num_rows == k:
            return Found(rows, False)
    return Found(_nearest(table, vector, k, columns, config, True, condition), True)


def has_any(table: ImagesTable, need: Need) -> bool:
    """Return whether any image that is done has what a condition asks about."""
    condition = f"{_DONE} AND {need.sql}"
    scanner = table.dataset.scanner(columns=[], with_row_id=True, filter=condition, limit=1)
    return int(scanner.to_table().num_rows) > 0


def metadata_names(table: ImagesTable, num_rows: int = 100) -> list[str]:
    """Return the top-level names in the metadata of the first images that have any."""
    scanner = table.dataset.scanner(
        columns=["metadata"], filter=f"{_DONE} AND metadata IS NOT NULL", limit=num_rows
    )
    names: set[str] = set()
    for text in scanner.to_table().column("metadata").to_pylist():
        found = json.loads(text)
        names.update(found if isinstance(found, dict) else ())
    return sorted(names)


def _done(where: Condition | None) -> str:
    return _DONE if where is None else f"{_DONE} AND {where.sql()}"


def _nearest(
    table: ImagesTable,
    vector: NDArray[np.float32],
    k: int,
    columns: list[str],
    config: IndexConfig,
    exact: bool,
    condition: str,
) -> pa.Table:
    query: dict[str, Any] = {
        "column": "vectors",
        "q": vector,
        "k": k,
        "metric": "cosine",
        "use_index": not exact,
    }
    if not exact:
        query |= {"nprobes": config.nprobes, "refine_factor": config.refine_factor}
    wanted = list(dict.fromkeys([*columns, "vectors", "_distance"]))
    return table.dataset.to_table(columns=wanted, nearest=query, filter=condition, prefilter=True)


def _nearest_of(
    table: ImagesTable,
    vector: NDArray[np.float32],
    k: int,
    columns: list[str],
    ids: pa.ChunkedArray,
) -> pa.Table:
    """Return the nearest of some rows by scoring all of them."""
    found, scores = [np.empty(0, np.uint64)], [np.empty(0, np.float32)]
    if len(ids):
        scanner = table.dataset.scanner(columns=["vectors"], with_row_id=True, filter=_rows(ids))
        for batch in scanner.to_batches():
            here, best = _best_scores(batch, vector)
            found.append(here)
            scores.append(best)
    score = np.concatenate(scores)
    order = np.argsort(-score, kind="stable")[:k]
    best_ids = np.concatenate(found)[order]
    wanted = list(dict.fromkeys([*columns, "vectors"]))
    rows = table.dataset.scanner(
        columns=wanted,
        with_row_id=True,
        filter=_rows(best_ids) if len(best_ids) else "false",
    ).to_table()
    place = {int(row_id): place for place, row_id in enumerate(rows.column("_rowid").to_pylist())}
    rows = rows.take(pa.array([place[int(row_id)] for row_id in best_ids], pa.int64()))
    return rows.drop_columns(["_rowid"]).append_column("_distance", pa.array(1 - score[order]))


def _best_scores(
    batch: pa.RecordBatch, vector: NDArray[np.float32]
) -> tuple[NDArray[np.uint64], NDArray[np.float32]]:
    """Return the rows of a batch that have vectors, and the best cosine of each."""
    lists = batch.column("vectors")
    counts = lists.value_lengths().fill_null(0).to_numpy(zero_copy_only=False)
    some = counts > 0
    ids = batch.column("_rowid").to_numpy(zero_copy_only=False)[some]
    if not some.any():
        return ids, np.empty(0, np.float32)
    matrix = lists.flatten().flatten().to_numpy(zero_copy_only=False).reshape(-1, len(vector))
    starts = np.concatenate([[0], np.cumsum(counts[some])[:-1]])
    return ids, np.maximum.reduceat(matrix @ vector, starts).astype(np.float32)


def _rows(ids: Any) -> str:
    values = ids.to_pylist() if isinstance(ids, pa.ChunkedArray) else ids.tolist()
    return f"_rowid IN ({', '.join(map(str, values))})"
