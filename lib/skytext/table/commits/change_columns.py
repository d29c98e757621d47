"""Add a column of vectors, make it the active one, and drop the one before.

Each step is a commit of its own. It is judged by what is there, so that it may end anywhere and be
done again. A run does this while it holds the claim, after what was staged before is settled.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

from lance.commit import CommitConflictError as LanceConflict

from skytext.errors import CommitConflictError, JobError, disk_failure
from skytext.table.images_dataset import ImagesTable
from skytext.table.vector_columns import Role, VectorColumn, is_vector_name, to_metadata


def ensure_column(table: ImagesTable, ours: VectorColumn) -> ImagesTable:
    """Return a version that has a column: the given one, or a new one.

    The first column of its kind is active at once. Another one is pending.

    Args:
        table: the latest version.
        ours: the column, with its ``dim``.

    Raises:
        CommitConflictError: somebody else committed meanwhile.
        JobError: the store refuses, or the column has vectors of another length.
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

    def steps() -> None:
        if made.name not in table.dataset.schema.names:
            table.dataset.add_columns(made.field)
        table.dataset.update_schema_metadata(to_metadata([*table.columns, made]))

    return change(table, steps)


def activate_column(table: ImagesTable, ours: VectorColumn) -> ImagesTable:
    """Return a version whose readers use a column: the given one, or a new one.

    The column that they used before goes, with its index. Earlier versions keep it.

    Args:
        table: the latest version.
        ours: a column that it has.

    Raises: as `ensure_column`.
    """
    others = [column for column in table.columns if column.kind != ours.kind]
    there = table.find_column(ours)
    if there is None:
        raise JobError(f"{table.location.uri} has no column {ours.name}")
    kept = [*others, dataclasses.replace(there, role=Role.ACTIVE)]
    unlisted = [
        name
        for name in table.dataset.schema.names
        if is_vector_name(name) and name not in {column.name for column in kept}
    ]
    if there.role == Role.ACTIVE and not unlisted:
        return table

    def steps() -> None:
        table.dataset.update_schema_metadata(to_metadata(kept))
        if unlisted:
            table.dataset.drop_columns(unlisted)

    return change(table, steps)


def change(table: ImagesTable, steps: Callable[[], None]) -> ImagesTable:
    """Change a table's schema, and return its latest version.

    Raises:
        CommitConflictError: somebody else committed meanwhile.
        JobError: the store refuses.
    """
    uri = table.location.uri
    try:
        steps()
    except LanceConflict as error:
        raise CommitConflictError(
            f"another run committed to {uri} meanwhile: let it end, then run the same command again"
        ) from error
    except OSError as error:
        reason = disk_failure(error, uri) or error
        raise JobError(f"cannot change the columns of {uri}: {reason}") from error
    return ImagesTable.open(table.location)
