"""One Parquet file of documented columns."""

from __future__ import annotations

from typing import BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from skytext.export.image_json import COLUMNS
from skytext.table.images_dataset import ImagesTable
from skytext.table.scan import done_batches
from skytext.table.schema import images_schema

_GROUP_ROWS = 2048
_MORE = ("content_sha256", "format", "num_variants", "text", "prompt_id", "run_id", "created_at")


def write_parquet(table: ImagesTable, out: BinaryIO, *, with_vectors: bool = False) -> int:
    """Write the images that are done; types are the table's, ``metadata`` is JSON text.

    Args:
        table: the version to export.
        out: where to write; it need not seek.
        with_vectors: add ``vectors``, a list of unit vectors, one a variant.
    """
    schema = parquet_schema(table.identity.dim, with_vectors)
    waiting: list[pa.RecordBatch] = []
    count = held = 0
    with pq.ParquetWriter(out, schema, compression="zstd") as writer:
        for batch in done_batches(table, schema.names):
            waiting.append(_with_json_text(batch, schema))
            held += batch.num_rows
            count += batch.num_rows
            if held >= _GROUP_ROWS:
                writer.write_table(pa.Table.from_batches(waiting, schema))
                waiting, held = [], 0
        if waiting:
            writer.write_table(pa.Table.from_batches(waiting, schema))
    return count


def parquet_schema(dim: int, with_vectors: bool) -> pa.Schema:
    """Return the file's columns."""
    table = images_schema(dim)
    names = [*COLUMNS, *_MORE, *(["vectors"] if with_vectors else [])]
    fields = [table.field(name) for name in names]
    return pa.schema(
        [pa.field("metadata", pa.string()) if one.name == "metadata" else one for one in fields]
    )


def _with_json_text(batch: pa.RecordBatch, schema: pa.Schema) -> pa.RecordBatch:
    columns = [
        batch.column(field.name).cast(field.type)
        if batch.schema.field(field.name).type != field.type
        else batch.column(field.name)
        for field in schema
    ]
    return pa.RecordBatch.from_arrays(columns, schema=schema)
