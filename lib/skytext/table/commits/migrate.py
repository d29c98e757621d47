"""Migrate a table of format 3 to the current format, without a model and without copying rows.

The migration renames the vector columns to the names that `skytext.table.vector_columns` defines.
The files, the field ids and the indexes of the columns are kept. So rows that an earlier release
staged can still be committed. The last step writes the format version. Every step checks the
current state before it changes anything. So an interrupted migration can be repeated. Older
versions of the table stay in format 3. Readers support format 3.
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
from skytext.table.store.state_files import StateStore
from skytext.table.vector_columns import FORMAT_VERSION, VectorKind, old_column, to_metadata

COMMAND = "migrate"
_OLD_VECTORS = "image_vectors"


@dataclass(frozen=True, slots=True)
class Migration:
    """The result of a migration.

    Attributes:
        from_format: the table format before the migration.
        to_format: the table format after the migration.
        table_version: the latest version of the table.
    """

    from_format: int
    to_format: int
    table_version: int


def migrate(location: TableLocation) -> Migration:
    """Migrate a table to the current format. If the table already has this format, do nothing.

    Raises:
        TableError: the table does not exist, or its format is unknown.
        TableHeldError: a run holds the table.
        CommitConflictError: another writer committed at the same time.
        JobError: a store request failed.
    """
    # Open the table before the claim is created, because a claim creates the folder of a missing
    # table.
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
    """Convert the vectors that an earlier release staged to staged units of the current format."""
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
