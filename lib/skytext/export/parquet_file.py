"""Export the images of a table as one Parquet file with documented columns."""

from __future__ import annotations

from typing import BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from skytext.export.image_json import COLUMNS
from skytext.table.images_dataset import ImagesTable
from skytext.table.rows.scan import done_batches
from skytext.table.schema import ROW
from skytext.table.vector_columns import VectorColumn

_GROUP_ROWS = 2048
_VECTORS = "vectors"
_MORE = ("content_sha256", "format", "num_variants", "text", "prompt_id", "run_id", "created_at")


def write_parquet(table: ImagesTable, out: BinaryIO, *, with_vectors: bool = False) -> int:
    """Write the described images. The columns have the same types as in the table.

    The only exception is the column ``metadata``, which contains JSON text.

    Args:
        table: the table version to export.
        out: the output file. It can be a pipe, because seek is not used.
        with_vectors: whether to add the column ``vectors``, a list with one unit vector for each
            variant.
    """
    schema = parquet_schema(table.text_column, with_vectors)
    columns = [table.text_column.name if name == _VECTORS else name for name in schema.names]
    waiting: list[pa.RecordBatch] = []
    count = held = 0
    with pq.ParquetWriter(out, schema, compression="zstd") as writer:
        for batch in done_batches(table, columns):
            waiting.append(_cast(batch.select(columns), schema))
            held += batch.num_rows
            count += batch.num_rows
            if held >= _GROUP_ROWS:
                writer.write_table(pa.Table.from_batches(waiting, schema))
                waiting, held = [], 0
        if waiting:
            writer.write_table(pa.Table.from_batches(waiting, schema))
    return count


def parquet_schema(column: VectorColumn, with_vectors: bool) -> pa.Schema:
    """Return the schema of the Parquet file."""
    fields = [ROW.field(name) for name in (*COLUMNS, *_MORE)]
    fields += [column.field.with_name(_VECTORS)] if with_vectors else []
    return pa.schema(
        [pa.field("metadata", pa.string()) if one.name == "metadata" else one for one in fields]
    )


def _cast(batch: pa.RecordBatch, schema: pa.Schema) -> pa.RecordBatch:
    """Rename the columns to the names in a schema, and convert ``metadata`` to a string column."""
    columns = [
        column if column.type == field.type else column.cast(field.type)
        for column, field in zip(batch.columns, schema, strict=True)
    ]
    return pa.RecordBatch.from_arrays(columns, schema=schema)
