"""Write the rows of one unit as Lance fragments that no reader sees yet.

A worker stages; only the driver commits (`skytext.table.commit`). ``write_fragments`` and a commit
of our own avoid lance-ray's retried writes, which can commit part of the rows (lance-ray#5290).
"""

from __future__ import annotations

import json
from dataclasses import dataclass

import pyarrow as pa
from lance.fragment import FragmentMetadata, write_fragments

from skytext.errors import JobError
from skytext.schema import images_schema
from skytext.table.location import IMAGES, TableLocation


@dataclass(frozen=True, slots=True)
class StagedUnit:
    """What a worker wrote of one unit: the record by which the driver commits it.

    Attributes:
        unit_id: the unit's name.
        num_rows: rows in the fragments, checked again at the commit.
        dim: length of a vector.
        fragments: Lance's metadata of each fragment, as JSON texts.
    """

    unit_id: str
    num_rows: int
    dim: int
    fragments: tuple[str, ...]


def stage_rows(location: TableLocation, unit_id: str, rows: pa.Table) -> StagedUnit:
    """Write ``rows`` (of `skytext.schema.images_schema`) as uncommitted fragments.

    Raises:
        JobError: the fragments hold another number of rows than were handed over.
    """
    fragments = write_fragments(
        rows,
        location.dataset_uri(IMAGES),
        schema=rows.schema,
        mode="append",
        storage_options=location.storage_options(),
    )
    written = sum(fragment.physical_rows for fragment in fragments)
    if written != rows.num_rows:
        raise JobError(f"unit {unit_id}: {rows.num_rows} rows handed over, {written} written")
    return StagedUnit(
        unit_id=unit_id,
        num_rows=written,
        dim=vector_dim(rows.schema),
        fragments=tuple(json.dumps(fragment.to_json()) for fragment in fragments),
    )


def vector_dim(schema: pa.Schema) -> int:
    """Return the length of the vectors of an ``images`` schema."""
    return int(schema.field("vectors").type.value_type.list_size)


def fragments_of(unit: StagedUnit) -> list[FragmentMetadata]:
    """Return Lance's objects of a staged unit."""
    return [FragmentMetadata.from_json(text) for text in unit.fragments]


def to_images_table(rows: pa.Table, dim: int) -> pa.Table:
    """Bring columns into the table's order and types; ``metadata`` text becomes Arrow JSON."""
    schema = images_schema(dim)
    columns = []
    for field in schema:
        column = rows.column(field.name)
        if field.name == "metadata":
            chunks = [pa.ExtensionArray.from_storage(field.type, c) for c in column.chunks]
            column = pa.chunked_array(chunks, type=field.type)
        else:
            column = column.cast(field.type)
        columns.append(column)
    return pa.Table.from_arrays(columns, schema=schema)
