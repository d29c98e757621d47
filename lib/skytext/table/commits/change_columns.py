"""Add a vector column, activate it, and drop the previous one.

Each step is a separate commit and first checks the current state. It can therefore be interrupted
and repeated at any point. The run holds the claim and has settled all staged units before.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

from lance.commit import CommitConflictError as LanceConflict

from skytext.errors import CommitConflictError, JobError, disk_failure
from skytext.table.commits.fence import raise_fence, rows_changed
from skytext.table.images_dataset import ImagesTable
from skytext.table.vector_columns import (
    FORMAT_VERSION,
    Role,
    VectorColumn,
    is_vector_name,
    to_metadata,
)

_MAINTENANCE_RETRIES = 5


def ensure_column(table: ImagesTable, ours: VectorColumn) -> ImagesTable:
    """Return a version that has a column: the given version, or a new one.

    The first column of a kind becomes active at once. A later one is pending.

    Args:
        table: the latest version.
        ours: the column, with its ``dim``.

    Raises:
        CommitConflictError: another writer committed at the same time.
        JobError: a store request failed, or the column has vectors of another length.
    """
    there = table.find_column(ours)
    if there is not None:
        if there.dim != ours.dim:
            raise JobError(
                f"{ours.model!r} gives vectors of {ours.dim} numbers, the column {there.name} of "
                f"{table.location.uri} has {there.dim}"
            )
        return table
    is_first = all(column.kind != ours.kind for column in table.columns)
    made = dataclasses.replace(ours, name="", role=Role.ACTIVE if is_first else Role.PENDING)
    if any(column.name == made.name for column in table.columns):
        raise JobError(f"{table.location.uri} has a column {made.name} of another fingerprint")

    def steps(table: ImagesTable) -> None:
        if made.name not in table.dataset.schema.names:
            table.dataset.add_columns(made.field)
        table.dataset.update_schema_metadata(to_metadata([*table.columns, made]))

    return change(table, steps)


def activate_column(table: ImagesTable, ours: VectorColumn) -> ImagesTable:
    """Return a version in which a column is active: the given version, or a new one.

    The previously active column and its index are dropped. Earlier versions keep it.

    Args:
        table: the latest version.
        ours: a column of the table.

    Raises: as `ensure_column`.
    """
    there = table.find_column(ours)
    if there is None:
        raise JobError(f"{table.location.uri} has no column {ours.name}")
    if there.role == Role.ACTIVE:
        return drop_unlisted_columns(table)
    others = [column for column in table.columns if column.kind != ours.kind]
    kept = [*others, dataclasses.replace(there, role=Role.ACTIVE)]

    def steps(table: ImagesTable) -> None:
        # Rows staged earlier have no vectors for this column.
        dataset = raise_fence(table.dataset)
        dataset.update_schema_metadata(to_metadata(kept))

    return drop_unlisted_columns(change(table, steps))


def drop_unlisted_columns(table: ImagesTable) -> ImagesTable:
    """Drop the vector columns that are not listed; an interrupted change leaves such columns.

    Args:
        table: the latest version.

    Raises: as `ensure_column`.
    """
    listed = {column.name for column in table.columns}
    unlisted = [n for n in table.dataset.schema.names if is_vector_name(n) and n not in listed]
    if not unlisted or table.format_version != FORMAT_VERSION:
        return table
    return change(table, lambda table: table.dataset.drop_columns(unlisted))


def change(table: ImagesTable, steps: Callable[[ImagesTable], None]) -> ImagesTable:
    """Change a table's schema, and return its latest version.

    Args:
        table: the latest version.
        steps: changes the version it is given. If maintenance committed in between, it is called
            again with the new version.

    Raises:
        CommitConflictError: another writer committed at the same time.
        JobError: a store request failed.
    """
    location = table.location
    for _ in range(_MAINTENANCE_RETRIES):
        try:
            steps(table)
        except LanceConflict:
            latest = ImagesTable.open(location)
            if rows_changed(table.version, latest.dataset):
                break
            table = latest
        except OSError as error:
            reason = disk_failure(error, location.uri) or error
            raise JobError(f"cannot change the columns of {location.uri}: {reason}") from error
        else:
            return ImagesTable.open(location)
    raise CommitConflictError(
        f"another run committed to {location.uri} meanwhile: wait for its end, then run the same "
        "command again"
    )
