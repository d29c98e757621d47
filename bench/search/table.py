"""Write a table with generated vectors and the schema of a real table.

The captions are also generated (see `bench.search.texts`). They do not depend on the vectors. All
sizes are the same as in a real table. Each row has a location and a time, which filters can use.
One image in a thousand is in the collection `RARE_COLLECTION`. These images are randomly
distributed in the table.
"""

from __future__ import annotations

import datetime as dt
import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import lance
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from bench.search.texts import draw_variants
from bench.search.vectors import CaptionStatistics, CaptionVectors, Floats
from skytext.config.embedding import EmbedConfig
from skytext.models.checkpoints import embed_model
from skytext.models.fingerprints import embedding_fingerprint
from skytext.table.compaction import ROWS_PER_FRAGMENT
from skytext.table.images_dataset import ImagesTable
from skytext.table.location import IMAGES, TableLocation
from skytext.table.queries.hit_column import hit_texts
from skytext.table.schema import (
    BBOX,
    FILE_VERSION,
    HIT,
    STATUS_OK,
    TIMESTAMP,
    VARIANT,
    images_schema,
)
from skytext.table.vector_columns import VectorColumn, VectorKind, is_vector_name, to_metadata

NUM_VARIANTS = 5
SEED = 11
RARE_COLLECTION = "rare"
RARE_ONE_IN = 1000
_FIRST_DAY = dt.datetime(2016, 1, 1, tzinfo=dt.UTC)
_NUM_DAYS = 3650
_IMAGES_PER_SHARD = 1_000


def caption_vectors(num_images: int) -> CaptionVectors:
    """Return the generated vectors for an archive with this number of images."""
    return CaptionVectors(num_images, NUM_VARIANTS, SEED, CaptionStatistics.load())


def make_table(folder: Path, vectors: CaptionVectors) -> ImagesTable:
    """Write a table without indexes. Only one block of vectors is in memory at the same time.

    Raises:
        OSError: the table already exists.
    """
    location = TableLocation.parse(str(folder))
    model = embed_model(EmbedConfig())
    fingerprint = embedding_fingerprint(model)
    column = VectorColumn(VectorKind.TEXT, fingerprint, model.name, "", vectors.statistics.dim)
    schema = images_schema(column).with_metadata(to_metadata([column]))
    reader = pa.RecordBatchReader.from_batches(schema, _batches(vectors, schema))
    lance.write_dataset(
        reader,
        location.dataset_uri(IMAGES),
        mode="create",
        data_storage_version=FILE_VERSION,
        max_rows_per_file=ROWS_PER_FRAGMENT,
        max_bytes_per_file=1 << 40,
    )
    return ImagesTable.open(location)


def stored_vectors(table: ImagesTable, rows_at_once: int = 10_000) -> Iterator[Floats]:
    """Yield the vectors of a table in the order of its rows, shape (images, variants, dim)."""
    column = table.text_column
    scanner = table.dataset.scanner(
        columns=[column.name], batch_size=rows_at_once, scan_in_order=True, batch_readahead=2
    )
    for batch in scanner.to_batches():
        flat = batch.column(column.name).flatten().flatten().to_numpy(zero_copy_only=True)
        yield flat.reshape(batch.num_rows, -1, column.dim)


def _batches(vectors: CaptionVectors, schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    first = 0
    for block in vectors.blocks():
        yield _batch(first, block, schema)
        first += len(block)


def _batch(first: int, block: Floats, schema: pa.Schema) -> pa.RecordBatch:
    count, num_variants, dim = block.shape
    numbers = np.arange(first, first + count)
    rng = np.random.default_rng([SEED, first])
    known = _source(numbers, rng) | _captions(numbers, num_variants, rng)
    lists = pa.FixedSizeListArray.from_arrays(pa.array(block.reshape(-1)), dim)
    offsets = np.arange(0, count * num_variants + 1, num_variants, dtype=np.int32)
    (vectors,) = (name for name in schema.names if is_vector_name(name))
    known[vectors] = pa.ListArray.from_arrays(offsets, lists)
    arrays = [_column(field, known.get(field.name), count) for field in schema]
    rows = pa.Table.from_arrays(arrays, schema=schema)
    place = schema.get_field_index(HIT)
    rows = rows.set_column(place, schema.field(place), hit_texts(rows))
    return rows.combine_chunks().to_batches()[0]


def _column(field: pa.Field, values: Any, count: int) -> pa.Array:
    if values is None:
        return pa.nulls(count, field.type)
    if isinstance(values, pa.Array):
        return values if values.type == field.type else values.cast(field.type)
    if isinstance(field.type, pa.BaseExtensionType):
        return pa.ExtensionArray.from_storage(field.type, pa.array(values, field.type.storage_type))
    if isinstance(values, list):
        return pa.array(values, field.type)
    return pa.repeat(pa.scalar(values, field.type), count)


def _source(numbers: Any, rng: np.random.Generator) -> dict[str, Any]:
    """Return the columns that describe the source of the images, by name."""
    count = len(numbers)
    shards = [f"{number // _IMAGES_PER_SHARD:05d}.tar" for number in numbers]
    members = [f"{number:09d}.jpg" for number in numbers]
    rare = rng.random(count) < 1 / RARE_ONE_IN
    common = rng.integers(0, 4, count)
    seconds = rng.integers(0, _NUM_DAYS * 86_400, count)
    west, south = rng.uniform(-180, 179, count), rng.uniform(-80, 79, count)
    corners = [west, south, west + rng.uniform(0.01, 1, count), south + rng.uniform(0.01, 1, count)]
    taken = np.datetime64(_FIRST_DAY.replace(tzinfo=None), "us") + seconds * np.timedelta64(1, "s")
    return {
        "image_id": [hashlib.sha256(member.encode()).hexdigest()[:32] for member in members],
        "archive": "drawn",
        "shard": shards,
        "member": members,
        "uri": [f"file:///drawn/{s}#{m}" for s, m in zip(shards, members, strict=True)],
        "byte_offset": (numbers % _IMAGES_PER_SHARD * 20_480).tolist(),
        "byte_length": 20_000,
        "datetime": pa.array(taken).cast(pa.timestamp("us")).cast(TIMESTAMP),
        "bbox": pa.StructArray.from_arrays([pa.array(c) for c in corners], fields=list(BBOX)),
        "gsd": pa.array(rng.choice([0.3, 0.5, 1.0, 10.0], count)),
        "collection": [
            RARE_COLLECTION if is_rare else f"c{kind}"
            for is_rare, kind in zip(rare, common, strict=True)
        ],
        "metadata": [f'{{"cloud": {value}}}' for value in rng.integers(0, 100, count)],
        "content_sha256": [hashlib.sha256(member.encode()).hexdigest() for member in members],
        "width_px": 224,
        "height_px": 224,
        "format": "JPEG",
    }


def _captions(numbers: Any, num_variants: int, rng: np.random.Generator) -> dict[str, Any]:
    """Return the columns that contain the descriptions of the images, by name."""
    parts = draw_variants(len(numbers) * num_variants, rng)
    stop = pa.repeat("stop", len(numbers) * num_variants)
    variants = pa.StructArray.from_arrays([*parts.values(), stop], fields=list(VARIANT))
    offsets = np.arange(0, len(stop) + 1, num_variants, dtype=np.int32)
    each = pc.binary_join_element_wise(*parts.values(), "\n")
    texts = pc.binary_join(pa.ListArray.from_arrays(offsets, each), "\n\n")
    return {
        "status": STATUS_OK,
        "captions": pa.ListArray.from_arrays(offsets, variants),
        "num_variants": num_variants,
        "text": texts,
        "caption_fingerprint": "0" * 32,
        "caption_model": "drawn",
        "prompt_id": "drawn",
        "embedding_model": "drawn",
        "unit_id": [f"{number // 48:032x}" for number in numbers],
        "run_id": "drawn",
        "created_at": _FIRST_DAY,
    }
