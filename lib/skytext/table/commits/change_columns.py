"""Add vector columns, make them active, and drop vector columns that are not needed any more.

Each step is a separate commit. A step checks the current state before it changes anything. So if a
change was interrupted, the caller can repeat the change. The caller must hold the claim, and must
have settled all staged units.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

from lance.commit import CommitConflictError as LanceConflict

from skytext.errors import CommitConflictError, JobError, disk_failure
from skytext.table.commits.fence import raise_fence, rows_changed
from skytext.table.images_dataset import ImagesTable
from skytext.table.store.store_retry import again
from skytext.table.vector_columns import (
    FORMAT_VERSION,
    Role,
    VectorColumn,
    is_vector_name,
    to_metadata,
)
from skytext.table.versions.promote_rollback import promotions

_MAINTENANCE_RETRIES = 5


def ensure_column(table: ImagesTable, ours: VectorColumn) -> ImagesTable:
    """Make sure that the table has a column, and return a version that has this column.

    The given version is returned if it has the column and the column is not retired. In all other
    cases, a new version is created.

    If the table has no column of this kind yet, the new column becomes active immediately. In all
    other cases, the new column becomes pending. A retired column that is requested again also
    becomes pending.

    Args:
        table: the latest version.
        ours: the column. Its ``dim`` must be set.

    Raises:
        CommitConflictError: another writer committed at the same time.
        JobError: a store request failed, or the existing column has vectors of another length.
    """
    there = table.find_column(ours)
    if there is not None:
        if there.dim != ours.dim:
            raise JobError(
                f"{ours.model!r} makes vectors with {ours.dim} dimensions, but the column "
                f"{there.name} of {table.location.uri} has vectors with {there.dim} dimensions"
            )
        if there.role == Role.RETIRED:
            return _list(table, _with_role(table.columns, there, Role.PENDING))
        return table
    is_first = all(column.kind != ours.kind for column in table.columns)
    made = dataclasses.replace(ours, name="", role=Role.ACTIVE if is_first else Role.PENDING)
    if any(column.name == made.name for column in table.columns):
        raise JobError(f"{table.location.uri} has a column {made.name} with another fingerprint")

    def steps(table: ImagesTable) -> None:
        if made.name not in table.dataset.schema.names:
            table.dataset.add_columns(made.field)
        table.dataset.update_schema_metadata(to_metadata([*table.columns, made]))

    return change(table, steps)


def activate_column(table: ImagesTable, ours: VectorColumn) -> ImagesTable:
    """Make a column active, and return a version in which this column is active.

    If the column is already active in the given version, only unneeded columns are dropped.

    If another column was active, this other column becomes retired, and its index is dropped. A
    retired column is kept as long as a roll-back can promote a version that uses the retired
    column. Other columns of the same kind are dropped. If the requested column was already active,
    pending columns are kept.

    Args:
        table: the latest version.
        ours: the requested column. The table must have this column.

    Raises: the same errors as `ensure_column`.
    """
    there = table.find_column(ours)
    if there is None:
        raise JobError(f"{table.location.uri} has no column {ours.name}")
    if there.role == Role.ACTIVE:
        # This run only added vectors for new images. Another run may be changing the model, and its
        # pending column may not be complete yet. So pending columns are kept.
        return drop_unused_columns(table)
    before = next(c for c in table.columns if c.kind == ours.kind and c.role == Role.ACTIVE)
    changed = _with_role(table.columns, before, Role.RETIRED)
    changed = _with_role(changed, there, Role.ACTIVE)

    def steps(table: ImagesTable) -> None:
        # Rows that were staged before this change have no vectors for the new active column, so
        # they must not be committed.
        dataset = raise_fence(table.dataset)
        for index in dataset.describe_indices():
            # The index of the new active column will get the same name as this index.
            if index.field_names == [before.name]:
                dataset.drop_index(index.name)
        dataset.update_schema_metadata(to_metadata(changed))

    return drop_unused_columns(change(table, steps), there)


def drop_unused_columns(table: ImagesTable, *wanted: VectorColumn) -> ImagesTable:
    """Drop vector columns that are not needed any more, and return the latest version.

    A retired column is dropped if no roll-back needs it. A pending column is dropped if ``wanted``
    contains another column of the same kind. In this case, the user changed to another model before
    the pending column was complete.

    Args:
        table: the latest version. No staged unit may have vectors for a dropped column.
        wanted: the columns that the caller uses, at most one of each kind.

    Raises: the same errors as `ensure_column`.
    """
    is_retired = any(column.role == Role.RETIRED for column in table.columns)
    needed = _searched_names(table) if is_retired else set()

    def is_used(column: VectorColumn) -> bool:
        if column.role == Role.PENDING:
            return all(column.kind != one.kind or column.fits(one) for one in wanted)
        return column.role == Role.ACTIVE or column.name in needed

    kept = [column for column in table.columns if is_used(column)]
    if len(kept) < len(table.columns):
        table = _list(table, kept)
    return drop_unlisted_columns(table)


def _searched_names(table: ImagesTable) -> set[str]:
    """Return the names of the vector columns that searches may use.

    These are the active columns of the canary version and of all versions that a roll-back can
    promote.
    """
    there = {int(one["version"]) for one in again(table.dataset.versions)()}
    names: set[str] = set()
    for promotion in promotions(table.location, 1):
        for version in there.intersection(promotion.searched_versions):
            opened = ImagesTable.open(table.location, version)
            names |= {column.name for column in opened.columns if column.role == Role.ACTIVE}
    return names


def _with_role(
    columns: Sequence[VectorColumn], changed: VectorColumn, role: Role
) -> list[VectorColumn]:
    return [dataclasses.replace(c, role=role) if c == changed else c for c in columns]


def _list(table: ImagesTable, columns: Sequence[VectorColumn]) -> ImagesTable:
    """Write a list of vector columns to the table's metadata, and return the new version."""

    def steps(table: ImagesTable) -> None:
        table.dataset.update_schema_metadata(to_metadata(columns))

    return change(table, steps)


def drop_unlisted_columns(table: ImagesTable) -> ImagesTable:
    """Drop the vector columns that the metadata do not list.

    If a change of the columns was interrupted, the table may have such columns.

    Args:
        table: the latest version.

    Raises: the same errors as `ensure_column`.
    """
    listed = {column.name for column in table.columns}
    unlisted = [n for n in table.dataset.schema.names if is_vector_name(n) and n not in listed]
    if not unlisted or table.format_version != FORMAT_VERSION:
        return table
    return change(table, lambda table: table.dataset.drop_columns(unlisted))


def change(table: ImagesTable, steps: Callable[[ImagesTable], None]) -> ImagesTable:
    """Change the schema of a table, and return the latest version of the table.

    Args:
        table: the latest version.
        steps: function that gets a version and commits changes on top of this version. If an index
            build or a merge commits at the same time, the function is called again with the new
            version.

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
        f"another run committed to {location.uri} at the same time: wait until the other run ends, "
        "then run the same command again"
    )
