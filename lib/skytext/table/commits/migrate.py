"""Bring a table of format 3 to the present format, without a model and without a copy of its rows.

Columns of vectors get the names of `skytext.table.vector_columns`. Their files, field ids and
indexes stay, so records of rows that an earlier version has staged fit as before. The format
version is written last. Every step is judged by what is there, so it can be killed at any step and
run again. Versions from before stay in format 3, which readers open.
"""

from __future__ import annotations

import dataclasses
import uuid
from dataclasses import dataclass

import pyarrow as pa

from skytext.table.commits.change_columns import change
from skytext.table.commits.claim import Claim, hold
from skytext.table.commits.fence import raise_fence
from skytext.table.commits.stage_vectors import stage_vectors
from skytext.table.images_dataset import ImagesTable
from skytext.table.location import TableLocation
from skytext.table.state_files import StateStore
from skytext.table.vector_columns import FORMAT_VERSION, VectorKind, old_column, to_metadata

COMMAND = "migrate"
_OLD_VECTORS = "image_vectors"


@dataclass(frozen=True, slots=True)
class Migration:
    """What was done.

    Attributes:
        from_format: the format that the table had.
        to_format: the format that it has.
        table_version: its latest version.
    """

    from_format: int
    to_format: int
    table_version: int


def migrate(location: TableLocation) -> Migration:
    """Bring a table to the present format. A table that has this format is not changed.

    Raises:
        TableError: there is no such table, or one of a format that is not known.
        TableHeldError: a run holds it.
        CommitConflictError: somebody else committed meanwhile.
        JobError: the store refuses.
    """
    # Before the claim, which would make the folder of a table that is not there.
    ImagesTable.open(location)
    with hold(location, uuid.uuid4().hex, COMMAND) as claim:
        table = ImagesTable.open(location)
        before = table.format_version
        if before != FORMAT_VERSION:
            table = _migrate(claim, table)
        return Migration(before, table.format_version, table.version)


def _migrate(claim: Claim, table: ImagesTable) -> ImagesTable:
    _keep_staged_vectors(claim)
    claim.check()
    columns = [dataclasses.replace(column, name="") for column in table.columns]
    renamed = [
        {"path": old.name, "name": new.name}
        for old, new in zip(table.columns, columns, strict=True)
        if old.name != new.name
    ]

    def steps(table: ImagesTable) -> None:
        dataset = raise_fence(table.dataset)
        if renamed:
            dataset.alter_columns(*renamed)
        claim.check()
        dataset.update_schema_metadata(to_metadata(columns), replace=True)

    return change(table, steps)


def _keep_staged_vectors(claim: Claim) -> None:
    """Stage vectors anew that a run of an earlier version has staged and not committed."""
    state = StateStore(claim.location)
    for path in state.list(_OLD_VECTORS):
        claim.check()
        data = state.get(path)
        if data is not None:
            unit_id = path.removeprefix(f"{_OLD_VECTORS}/").removesuffix(".arrow")
            _stage_anew(claim.location, unit_id, data)
        state.delete([path])


def _stage_anew(location: TableLocation, unit_id: str, data: bytes) -> None:
    with pa.ipc.open_file(pa.BufferReader(data)) as reader:
        rows = reader.read_all()
    metadata = {k.decode(): v.decode() for k, v in (rows.schema.metadata or {}).items()}
    column = old_column(VectorKind.IMAGE, metadata)
    if column is not None:
        ids, contents = (rows.column(n).to_pylist() for n in ("image_id", "content_sha256"))
        vectors = rows.column("image_vector").combine_chunks()
        column = dataclasses.replace(column, name="")
        stage_vectors(location, unit_id, column, ids, contents, vectors)
