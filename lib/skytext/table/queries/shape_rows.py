"""Replace each spatial condition of a filter by the ids of the matching rows."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from skytext.errors import CallError
from skytext.filters.conditions import And, Condition, Not, Or
from skytext.filters.spatial import HAS_BBOX, Rows, Spatial
from skytext.table.images_dataset import ImagesTable

_ROWS_A_BATCH = 4_096
_MAX_TEST_S = 10.0
_NONE = "(bbox.west IS NULL AND bbox.west IS NOT NULL)"


def bind(where: Condition, rows_of: Callable[[Spatial], Rows]) -> Condition:
    """Return an equivalent filter without spatial conditions. Lance can evaluate this filter.

    Args:
        where: any filter.
        rows_of: function that returns the rows of a spatial condition. It calls `shape_rows` for
            the version, and may cache the results.
    """
    if isinstance(where, Spatial):
        return rows_of(where)
    if isinstance(where, (And, Or)):
        return type(where)(conditions=tuple(bind(part, rows_of) for part in where.conditions))
    if isinstance(where, Not):
        return Not(condition=bind(where.condition, rows_of))
    return where


def shape_rows(table: ImagesTable, where: Spatial) -> Rows:
    """Find the rows whose footprint matches a spatial condition.

    The footprint of a row is its ``bbox``. First, the rows that match the bounding box of the
    geometry are found. Only these rows are then compared with the exact geometry. Some of these
    rows match the geometry. The other rows match only the bounding box. The result contains the row
    ids of the smaller of these two groups.

    Raises:
        CallError: the comparison of the images with the geometry takes too long.
    """
    near, shape = where.box(), where.shape()
    test = shape.intersects if where.op == "s_intersects" else shape.contains
    scanner = table.dataset.scanner(
        columns=["bbox"], with_row_id=True, filter=near.sql(), batch_size=_ROWS_A_BATCH
    )
    inside, outside = [], []
    end = time.monotonic() + _MAX_TEST_S
    for batch in scanner.to_batches():
        box = batch.column("bbox")
        sides = [box.field(side).to_numpy() for side in ("west", "south", "east", "north")]
        ids, matches = batch.column("_rowid").to_numpy(), test(*sides)
        if time.monotonic() > end:
            raise CallError(
                "the comparison of the geometry with the images takes more than "
                f"{_MAX_TEST_S:g} s: simplify the geometry to fewer positions"
            )
        inside.append(ids[matches])
        outside.append(ids[~matches])
    matching, others = _joined(inside), _joined(outside)
    if len(matching) <= len(others):
        return Rows(
            matching=_among(matching) if len(matching) else _NONE,
            others=f"({HAS_BBOX} AND NOT {_among(matching)})" if len(matching) else HAS_BBOX,
        )
    box_sql, apart_sql = near.sql(), Not(condition=near).sql()
    if not len(others):
        return Rows(matching=box_sql, others=apart_sql)
    return Rows(
        matching=f"({box_sql} AND NOT {_among(others)})",
        others=f"({apart_sql} OR {_among(others)})",
    )


def _joined(ids: list[NDArray[np.uint64]]) -> NDArray[np.uint64]:
    return np.concatenate([np.empty(0, np.uint64), *ids])


def _among(ids: NDArray[np.uint64]) -> str:
    return f"(_rowid IN ({', '.join(map(str, ids.tolist()))}))"
