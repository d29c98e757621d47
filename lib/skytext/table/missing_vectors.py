"""Which rows have a vector in a column, and which have none."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from skytext.errors import TableError
from skytext.table.images_dataset import ImagesTable
from skytext.table.schema import DONE, PIXEL_FIELDS, ROW, SAMPLE, SOURCE_FIELDS
from skytext.table.store_retry import again
from skytext.table.vector_columns import VectorColumn, VectorKind

_ROWS_A_BATCH = 1024
LISTED = {
    # What must be known of a row to fetch its image again, and to see that it is the same.
    VectorKind.IMAGE: SAMPLE,
    VectorKind.TEXT: pa.schema([ROW.field(n) for n in ("image_id", "unit_id", "captions")]),
}
"""What must be known of a row to make its vectors."""
_OF_TABLE = {field.name for field in (*SOURCE_FIELDS, *PIXEL_FIELDS)} | {"unit_id", "captions"}
KEY = {VectorKind.IMAGE: "content_sha256", VectorKind.TEXT: "unit_id"}
"""The column of a row that says whether a vector was made of what is there now.

An image is known by its bytes. A description has no name of its own, but a row that is described
again is written by another unit.
"""


def rows_without_vector(
    table: ImagesTable, fragment_id: int, column: VectorColumn
) -> Iterator[pa.RecordBatch]:
    """Yield the rows of a fragment that are done and have no vector by a model.

    Args:
        table: a version.
        fragment_id: of it.
        column: of the model; the version need not have it.

    Yields:
        Those columns of `LISTED` that the table has, a batch in memory at a time.
    """
    names = [name for name in LISTED[column.kind].names if name in _OF_TABLE]
    fragment = table.dataset.get_fragment(fragment_id)
    scanner = fragment.scanner(
        columns=names, filter=_missing(table, column), batch_size=_ROWS_A_BATCH
    )
    yield from scanner.to_batches()


@again
def count_without_vector(table: ImagesTable, column: VectorColumn) -> dict[int, int]:
    """Return the number of those images by fragment, for the fragments that have some."""
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
    """Return how many images are done, and how many of them have a vector in a column.

    Args:
        table: a version.
        column: None for none.
    """
    num_ok = int(table.dataset.count_rows(filter=DONE))
    there = None if column is None else table.find_column(column)
    if there is None:
        return num_ok, 0
    return num_ok, int(table.dataset.count_rows(filter=f"{DONE} AND {there.name} IS NOT NULL"))


def image_report(table: ImagesTable) -> dict[str, Any] | None:
    """Return what ``status --json`` says of the image vectors; None where there are none."""
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
    """Return the column of a version's image vectors.

    Raises:
        TableError: it has none.
    """
    if table.image_column is not None:
        return table.image_column
    uri, latest = table.location.uri, ImagesTable.open(table.location)
    if latest.version != table.version and latest.image_column is not None:
        raise TableError(
            f"version {table.version} of {uri} has no image vectors; the latest has: --version "
            f"{latest.version}"
        )
    raise TableError(f"{uri} has no image vectors: skytext embed-images {uri} --model NAME")


@again
def missing_by_fragment(
    table: ImagesTable, image_ids: pa.Array, column: VectorColumn
) -> dict[int, dict[str, str | None]]:
    """Return, for each fragment that holds some of these images without a vector, their keys by id.

    Args:
        table: a version that has the column.
        image_ids: of the images.
        column: that is filled.
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
