"""Find the rows that have a vector in a column, and the rows that have no vector."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from skytext.errors import TableError
from skytext.table.images_dataset import ImagesTable
from skytext.table.schema import DONE, PIXEL_FIELDS, ROW, SAMPLE, SOURCE_FIELDS
from skytext.table.store.store_retry import again
from skytext.table.vector_columns import VectorColumn, VectorKind

_ROWS_A_BATCH = 1024
LISTED = {
    # A run needs these columns to fetch the image again and to detect changed bytes.
    VectorKind.IMAGE: SAMPLE,
    VectorKind.TEXT: pa.schema([ROW.field(n) for n in ("image_id", "unit_id", "captions")]),
}
"""For each kind of vector, the columns that a run needs to compute the vectors of a row."""
_OF_TABLE = {field.name for field in (*SOURCE_FIELDS, *PIXEL_FIELDS)} | {"unit_id", "captions"}
KEY = {VectorKind.IMAGE: "content_sha256", VectorKind.TEXT: "unit_id"}
"""For each kind of vector, the column that identifies the embedded content.

If the value in this column changes, the vector is stale. An image is identified by the hash of its
bytes. A description is identified by the id of the unit that wrote the description.
"""


def rows_without_vector(
    table: ImagesTable, fragment_id: int, column: VectorColumn
) -> Iterator[pa.RecordBatch]:
    """Yield the described rows of a fragment that have no vector in a column.

    Args:
        table: a version.
        fragment_id: id of a fragment of this version.
        column: the vector column. If the version does not have this column yet, all described rows
            are yielded.

    Yields:
        A batch with those columns of `LISTED` that the table has. Only one batch is in memory at a
        time.
    """
    names = [name for name in LISTED[column.kind].names if name in _OF_TABLE]
    fragment = table.dataset.get_fragment(fragment_id)
    scanner = fragment.scanner(
        columns=names, filter=_missing(table, column), batch_size=_ROWS_A_BATCH
    )
    yield from scanner.to_batches()


@again
def count_without_vector(table: ImagesTable, column: VectorColumn) -> dict[int, int]:
    """For each fragment id, return the number of rows that `rows_without_vector` yields.

    A fragment is omitted if this number is 0.
    """
    condition = _missing(table, column)
    counts = {
        fragment.fragment_id: int(fragment.count_rows(condition))
        for fragment in table.dataset.get_fragments()
    }
    return {fragment_id: number for fragment_id, number in sorted(counts.items()) if number}


def _missing(table: ImagesTable, column: VectorColumn) -> str:
    there = table.find_column(column)
    return DONE if there is None else f"{DONE} AND {there.name} IS NULL"


@again
def num_with_vector(table: ImagesTable, column: VectorColumn | None) -> tuple[int, int]:
    """Return the number of described images, and the number of described images with a vector.

    Args:
        table: a version.
        column: the vector column. If it is None, the second number is 0.
    """
    num_ok = int(table.dataset.count_rows(filter=DONE))
    there = None if column is None else table.find_column(column)
    if there is None:
        return num_ok, 0
    return num_ok, int(table.dataset.count_rows(filter=f"{DONE} AND {there.name} IS NOT NULL"))


def image_report(table: ImagesTable) -> dict[str, Any] | None:
    """Return the part of ``status --json`` about image vectors.

    The result is None if the table has no image vectors.
    """
    column = table.image_column
    if column is None:
        return None
    num_ok, num_there = num_with_vector(table, column)
    return {
        "model": column.model,
        "revision": column.revision,
        "dim": column.dim,
        "num_with": num_there,
        "num_without": num_ok - num_there,
    }


def image_column_of(table: ImagesTable) -> VectorColumn:
    """Return the active column of image vectors of a version.

    Raises:
        TableError: the version has no image vectors.
    """
    if table.image_column is not None:
        return table.image_column
    uri, latest = table.location.uri, ImagesTable.open(table.location)
    if latest.version != table.version and latest.image_column is not None:
        raise TableError(
            f"version {table.version} of {uri} has no image vectors, but the latest version has "
            f"image vectors: use --version {latest.version}"
        )
    raise TableError(
        f"{uri} has no image vectors. To compute them, run: "
        f"skytext embed-images {shlex.quote(uri)} --model NAME"
    )


@again
def missing_by_fragment(
    table: ImagesTable, image_ids: pa.Array, column: VectorColumn
) -> dict[int, dict[str, str | None]]:
    """Find the images among ``image_ids`` that have no vector in a column.

    Args:
        table: a version. It must have the column.
        image_ids: ids of the images.
        column: the vector column.

    Returns:
        One dict for each fragment id. The dict maps the id of each found image of this fragment to
        the value in the column `KEY`. Fragments without found images are omitted.
    """
    found: dict[int, dict[str, str | None]] = {}
    names = ["image_id", KEY[column.kind]]
    for fragment in table.dataset.get_fragments():
        scanner = fragment.scanner(columns=names, filter=_missing(table, column))
        here: dict[str, str | None] = {}
        for batch in scanner.to_batches():
            some = batch.filter(pc.is_in(batch.column("image_id"), image_ids))
            here.update(zip(*(some.column(name).to_pylist() for name in names), strict=True))
        if here:
            found[fragment.fragment_id] = here
    return found
