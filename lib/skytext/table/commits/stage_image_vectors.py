"""Vectors of some images, embedded and not yet in the table: one durable object a unit.

``state/image_vectors/{unit_id}.arrow`` holds, for each image, its id, the hash of the content that
was embedded, and the vector; its metadata says by which model. A worker stages, a commit
(`skytext.table.commits.commit_image_vectors`) writes the column and then deletes the objects. Those
of a run that died wait for the next one: by id and content they fit whatever became of the rows
meanwhile.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from skytext.errors import JobError
from skytext.table.image_vector_column import ImageIdentity, vector_field
from skytext.table.images_dataset import IMAGE_VECTOR
from skytext.table.location import TableLocation
from skytext.table.state_files import StateStore

_FOLDER = "image_vectors"
_SUFFIX = ".arrow"


@dataclass(frozen=True, slots=True)
class StagedVectors:
    """The vectors of one unit.

    Attributes:
        unit_id: the unit's name, unlike that of any unit of any other run.
        identity: of the model.
        rows: image_id (string), content_sha256 (string), image_vector (fixed_size_list<float32>).
    """

    unit_id: str
    identity: ImageIdentity
    rows: pa.Table


def stage_vectors(
    location: TableLocation,
    unit_id: str,
    identity: ImageIdentity,
    image_ids: Sequence[str],
    contents: Sequence[str | None],
    vectors: NDArray[np.float32],
) -> None:
    """Keep the vectors of a unit.

    Args:
        location: the table.
        unit_id: the unit.
        identity: of the model that made them.
        image_ids: of the images.
        contents: SHA-256 of each encoded image.
        vectors: float32, shape (images, identity.dim), unit length.

    Raises:
        JobError: the store refuses.
    """
    field = vector_field(identity.dim)
    schema = pa.schema(
        [pa.field("image_id", pa.string()), pa.field("content_sha256", pa.string()), field],
        metadata=identity.to_metadata(),
    )
    flat = pa.array(np.ascontiguousarray(vectors).reshape(-1), pa.float32())
    columns = [
        pa.array(image_ids, pa.string()),
        pa.array(contents, pa.string()),
        pa.FixedSizeListArray.from_arrays(flat, identity.dim),
    ]
    buffer = io.BytesIO()
    with pa.ipc.new_file(buffer, schema) as writer:
        writer.write_table(pa.Table.from_arrays(columns, schema=schema))
    # Of a unit that is done twice (Ray repeated its task) either outcome will do.
    StateStore(location).put(_path(unit_id), buffer.getvalue())


def staged_vector_units(location: TableLocation) -> list[str]:
    """Return the units that are staged, sorted."""
    paths = StateStore(location).list(_FOLDER)
    return sorted(path.removeprefix(f"{_FOLDER}/").removesuffix(_SUFFIX) for path in paths)


def read_vectors(location: TableLocation, unit_id: str) -> StagedVectors:
    """Read what was staged of a unit.

    Raises:
        JobError: there is nothing, or the store refuses.
    """
    data = StateStore(location).get(_path(unit_id))
    if data is None:
        raise JobError(
            f"the image vectors {unit_id} are gone from {location.uri}/state: run the same command "
            "again"
        )
    with pa.ipc.open_file(pa.BufferReader(data)) as reader:
        rows = reader.read_all()
    identity = ImageIdentity.from_metadata(rows.schema.metadata or {})
    if identity is None:
        raise JobError(f"{location.uri}/state/{_path(unit_id)} does not say which model made it")
    return StagedVectors(unit_id, identity, rows)


def forget_vectors(location: TableLocation, unit_ids: Iterable[str]) -> None:
    """Delete what was staged of units; what is gone is no error."""
    StateStore(location).delete([_path(unit_id) for unit_id in unit_ids])


def join_rows(units: Sequence[StagedVectors]) -> pa.Table:
    """Return the rows of units of one model as one table."""
    tables = [unit.rows.replace_schema_metadata(None) for unit in units]
    return pa.concat_tables(tables).select(["image_id", "content_sha256", IMAGE_VECTOR])


def _path(unit_id: str) -> str:
    return f"{_FOLDER}/{unit_id}{_SUFFIX}"
