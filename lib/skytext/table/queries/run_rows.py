"""Find the rows that some runs have written, and compare them with the version before the runs."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from skytext.table.id_sums import hash_bytes
from skytext.table.images_dataset import ImagesTable, sql_text
from skytext.table.queries.caption_queries import RowIds
from skytext.table.schema import STATUS_FAILED, STATUS_OK, STATUS_WITHDRAWN


class RunRows(NamedTuple):
    """The row ids of the rows that some runs have written.

    The row ids are valid in the version after the runs. The earlier version is the version before
    the runs.

    Attributes:
        new: images that these runs described. In the earlier version, each of these images had
            either a withdrawn row or no row at all.
        changed: images that these runs described, and that also had a description in the earlier
            version. The bytes of these images have changed since then.
        again: images that these runs described, and that also had a description in the earlier
            version. The bytes of these images have not changed.
        recovered: images that these runs described, and that had a failed row in the earlier
            version.
        failed: images that failed in these runs.
    """

    new: RowIds
    changed: RowIds
    again: RowIds
    recovered: RowIds
    failed: RowIds


class _Rows(NamedTuple):
    rows: RowIds
    images: NDArray[np.bytes_]
    contents: NDArray[np.bytes_]
    statuses: NDArray[np.str_]


def rows_of_runs(before: ImagesTable | None, after: ImagesTable, run_ids: Sequence[str]) -> RunRows:
    """Compare the rows that runs have written with the rows of the version before the runs.

    Args:
        before: the version before the runs; None if the table did not exist.
        after: the version after the runs.
        run_ids: ids of the runs.
    """
    condition = f"run_id IN ({', '.join(map(sql_text, run_ids))})" if run_ids else "false"
    now = _scan(after, condition)
    then = _scan(before, None if len(now.rows) else "false") if before is not None else _NOTHING
    statuses, same = _earlier(then, now)
    is_ok = now.statuses == STATUS_OK
    was_ok = statuses == STATUS_OK
    return RunRows(
        new=now.rows[is_ok & (statuses == STATUS_WITHDRAWN)],
        changed=now.rows[is_ok & was_ok & ~same],
        again=now.rows[is_ok & was_ok & same],
        recovered=now.rows[is_ok & (statuses == STATUS_FAILED)],
        failed=now.rows[now.statuses == STATUS_FAILED],
    )


def _earlier(then: _Rows, now: _Rows) -> tuple[NDArray[np.str_], NDArray[np.bool_]]:
    """Return the earlier status of each image, and whether the bytes of the image are unchanged.

    If an image had no row before, the earlier status is ``withdrawn``.
    """
    if not len(then.rows):
        return np.full(len(now.rows), STATUS_WITHDRAWN), np.zeros(len(now.rows), bool)
    order = np.argsort(then.images)
    places = np.searchsorted(then.images, now.images, sorter=order)
    places = order[np.minimum(places, len(order) - 1)]
    was_there = then.images[places] == now.images
    statuses = np.where(was_there, then.statuses[places], STATUS_WITHDRAWN)
    return statuses, then.contents[places] == now.contents


_NOTHING = _Rows(np.empty(0, np.uint64), np.empty(0, "S16"), np.empty(0, "S16"), np.empty(0, "U16"))


def _scan(table: ImagesTable, condition: str | None) -> _Rows:
    scanner = table.dataset.scanner(
        columns=["image_id", "content_sha256", "status"], with_row_id=True, filter=condition
    )
    parts = [_NOTHING]
    for batch in scanner.to_batches():
        parts.append(
            _Rows(
                batch.column("_rowid").to_numpy(),
                hash_bytes(batch.column("image_id")),
                hash_bytes(batch.column("content_sha256")),
                np.array(batch.column("status").to_pylist(), "U16"),
            )
        )
    return _Rows(*(np.concatenate(columns) for columns in zip(*parts, strict=True)))


def withdrawn_since(
    table: ImagesTable, moment: dt.datetime, columns: Sequence[str], limit: int
) -> list[dict[str, Any]]:
    """Return at most ``limit`` rows of images that were withdrawn at or after ``moment``."""
    condition = (pc.field("status") == STATUS_WITHDRAWN) & (
        pc.field("created_at") >= pa.scalar(moment, pa.timestamp("us", tz="UTC"))
    )
    scanner = table.dataset.scanner(columns=list(columns), filter=condition, limit=limit)
    return list(scanner.to_table().to_pylist())
