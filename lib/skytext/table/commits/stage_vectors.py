"""Write vectors of images to an uncommitted file, and a record of this file.

The record has the same format as a record of rows (`skytext.table.commits.stage_rows`). The record
names the vector column and one Lance file. For each image, the file contains the image id, a key of
the embedded content (`skytext.table.rows.missing_vectors.KEY`), and the vector. The next run can
use the vectors that a dead run staged. It compares the stored key with the key of the current
content of the row. If the keys differ, the content has changed after the vector was computed.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence

import pyarrow as pa
from lance.file import LanceFileReader, LanceFileWriter

from skytext.table.commits.stage_rows import StagedUnit, keep_record
from skytext.table.location import IMAGES, TableLocation
from skytext.table.schema import FILE_VERSION
from skytext.table.store.store_retry import again
from skytext.table.vector_columns import VectorColumn


def stage_vectors(
    location: TableLocation,
    unit_id: str,
    column: VectorColumn,
    image_ids: Sequence[str],
    keys: Sequence[str | None],
    vectors: pa.Array,
) -> StagedUnit:
    """Stage the vectors of a unit.

    Args:
        location: the table.
        unit_id: id of the unit, unique across all runs.
        column: the vector column. Its ``dim`` must be set.
        image_ids: ids of the images.
        keys: keys of the embedded content, one per image. See
            `skytext.table.rows.missing_vectors.KEY`.
        vectors: array of vectors, one entry per image. Its type is the type of the column.

    Returns:
        The record of the unit. If an earlier attempt wrote a record, its record is returned.

    Raises:
        JobError: a store request failed.
    """
    rows = pa.table(
        {
            "image_id": pa.array(image_ids, pa.string()),
            "key": pa.array(keys, pa.string()),
            column.name: vectors,
        }
    )
    unit = StagedUnit(
        unit_id=unit_id,
        num_rows=rows.num_rows,
        dim=column.dim,
        column=column.to_json(),
        files=(_write(location, rows),),
    )
    return keep_record(location, unit)


@again
def _write(location: TableLocation, rows: pa.Table) -> str:
    path = f"{uuid.uuid4().hex}.lance"
    with LanceFileWriter(
        _uri(location, path), rows.schema, version=FILE_VERSION, **location.lance_options(IMAGES)
    ) as writer:
        writer.write_batch(rows)
    return path


@again
def read_vectors(location: TableLocation, units: Sequence[StagedUnit]) -> pa.Table:
    """Return the staged vectors of units, in the order of the units.

    Args:
        location: the table.
        units: the units. All units must have vectors of the same column.

    Returns:
        Table with image_id (string), key (string), and the vector column.
    """
    options = location.lance_options(IMAGES)
    return pa.concat_tables(
        LanceFileReader(_uri(location, path), **options).read_all().to_table()
        for unit in units
        for path in unit.files
    )


def _uri(location: TableLocation, path: str) -> str:
    return f"{location.dataset_uri(IMAGES)}/data/{path}"
