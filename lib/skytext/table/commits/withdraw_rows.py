"""Withdraw images. Their rows and captions are kept, but searches do not find these images."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterator, Sequence

import pyarrow as pa

from skytext.table.commits.commit_rows import Committer
from skytext.table.commits.stage_rows import StagedUnit, forget_records, stage_rows
from skytext.table.images_dataset import ImagesTable, sql_text
from skytext.table.schema import (
    EMBEDDING_FIELDS,
    FAILURE,
    HIT,
    PRESENT,
    STATUS_WITHDRAWN,
    TIMESTAMP,
    images_schema,
)

_ROWS_A_UNIT = 1_000
# Each unit becomes one fragment.
_UNITS_A_COMMIT = 20
_NULLED = {HIT, "text", *(field.name for field in EMBEDDING_FIELDS)}


def withdraw_rows(
    table: ImagesTable,
    image_ids: Sequence[str],
    run_id: str,
    reason: str,
    check_claim: Callable[[], None],
) -> int:
    """Withdraw images, and return the number of the new version.

    Images that are already withdrawn are skipped. So an interrupted call can be repeated.

    Args:
        table: the table's latest version.
        image_ids: ids of the images.
        run_id: id of the run. It is the prefix of every unit id.
        reason: the reason of the withdrawal. It is written to ``failure.detail``.
        check_claim: function that is called before each commit. It raises an error if the claim is
            lost.

    Raises:
        CommitConflictError: another process committed to the table without holding the claim.
        JobError: a store request failed.
    """
    column = table.text_column
    committer = Committer(table.location, column, table.version)
    staged: list[StagedUnit] = []
    for rows in _rows_of(table, image_ids):
        unit_id = f"{run_id}/withdrawn-{table.version}-{len(staged)}"
        replaces = dict(zip(rows["image_id"].to_pylist(), rows["unit_id"].to_pylist(), strict=True))
        withdrawn = _withdrawn(table, rows, unit_id, run_id, reason)
        staged.append(stage_rows(table.location, unit_id, withdrawn, column, replaces=replaces))
    for start in range(0, len(staged), _UNITS_A_COMMIT):
        check_claim()
        some = staged[start : start + _UNITS_A_COMMIT]
        committer.commit(some)
        forget_records(table.location, some)
    return committer.version or table.version


def _rows_of(table: ImagesTable, image_ids: Sequence[str]) -> Iterator[pa.Table]:
    names = [name for name in images_schema(table.text_column).names if name not in _NULLED]
    names.remove(table.text_column.name)
    for start in range(0, len(image_ids), _ROWS_A_UNIT):
        ids = ", ".join(map(sql_text, image_ids[start : start + _ROWS_A_UNIT]))
        rows = table.dataset.to_table(columns=names, filter=f"image_id IN ({ids}) AND {PRESENT}")
        if rows.num_rows:
            yield rows


def _withdrawn(
    table: ImagesTable, rows: pa.Table, unit_id: str, run_id: str, reason: str
) -> pa.Table:
    failure = {"stage": "read", "reason": STATUS_WITHDRAWN, "detail": reason, "attempts": 0}
    values = {
        "status": pa.scalar(STATUS_WITHDRAWN),
        "failure": pa.scalar(failure, FAILURE),
        "unit_id": pa.scalar(unit_id),
        "run_id": pa.scalar(run_id),
        "created_at": pa.scalar(dt.datetime.now(dt.UTC), TIMESTAMP),
    }
    columns = []
    schema = images_schema(table.text_column)
    for field in schema:
        if field.name in values:
            column: pa.Array | pa.ChunkedArray = pa.repeat(values[field.name], rows.num_rows)
        elif field.name in rows.column_names:
            column = rows.column(field.name)
        else:
            column = pa.nulls(rows.num_rows, field.type)
        columns.append(column if column.type == field.type else column.cast(field.type))
    return pa.Table.from_arrays(columns, schema=schema)
