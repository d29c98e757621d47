"""Arrow schemas and column names of every stage.

Three shapes travel through the job:

* a *sample* row (``SAMPLE``): one image on its way, encoded bytes included;
* a *unit* row (``unit_schema``): a run of samples of one shard as one Ray Data row, so that
  Ray neither splits nor merges it; the unit is what is written, recorded and repeated;
* an *images* row (``images_schema``): what the table keeps, without the bytes.

Geography follows STAC 1.0: ``datetime``, ``bbox``, ``gsd``, ``collection``.
"""

from __future__ import annotations

import pyarrow as pa

from skytext.table.vector_columns import VectorColumn

# Lance 14 writes 2.2 where nothing is said. There a column of one value, as the variants' finish
# reason is, keeps its lists' lengths in one piece a page: two megabytes to read for every row
# fetched, 4.0 ms instead of 1.0 for the captions of ten hits (docs/benchmarks.md).
FILE_VERSION = "2.1"
STATUS_OK = "ok"
STATUS_FAILED = "failed"
STATUS_WITHDRAWN = "withdrawn"
"""Of an image that its archive no longer has: no search finds it, and its captions stay."""
HIT = "hit"
DONE = f"status = '{STATUS_OK}'"
"""The condition of the rows that have a description, in Lance's filter language."""
PRESENT = f"status != '{STATUS_WITHDRAWN}'"
"""The condition of the rows of images that their archive has."""

BBOX = pa.struct(
    [
        pa.field("west", pa.float64()),
        pa.field("south", pa.float64()),
        pa.field("east", pa.float64()),
        pa.field("north", pa.float64()),
    ]
)
"""Degrees, EPSG:4326. ``west > east`` crosses the antimeridian."""

FAILURE = pa.struct(
    [
        pa.field("stage", pa.string()),
        pa.field("reason", pa.string()),
        pa.field("detail", pa.string()),
        pa.field("attempts", pa.int32()),
    ]
)

VARIANT = pa.struct(
    [
        pa.field("one_sentence", pa.string()),
        pa.field("feature", pa.string()),
        pa.field("caption", pa.string()),
        pa.field("finish_reason", pa.string()),
    ]
)

TIMESTAMP = pa.timestamp("us", tz="UTC")

# What the source says of an image: the same columns from the reader to the table.
SOURCE_FIELDS: list[pa.Field] = [
    pa.field("image_id", pa.string(), nullable=False),
    pa.field("archive", pa.string(), nullable=False),
    pa.field("shard", pa.string(), nullable=False),
    pa.field("member", pa.string(), nullable=False),
    pa.field("uri", pa.string(), nullable=False),
    pa.field("byte_offset", pa.int64()),
    pa.field("byte_length", pa.int64()),
    # Where the shard is a Parquet file, instead of the offset.
    pa.field("row_group", pa.int64()),
    pa.field("row", pa.int64()),
    pa.field("shard_etag", pa.string()),
    pa.field("datetime", TIMESTAMP),
    pa.field("bbox", BBOX),
    pa.field("gsd", pa.float64()),
    pa.field("collection", pa.string()),
]

# Found out by looking at the image.
PIXEL_FIELDS: list[pa.Field] = [
    pa.field("content_sha256", pa.string()),
    pa.field("width_px", pa.int32()),
    pa.field("height_px", pa.int32()),
    pa.field("format", pa.string()),
]

# How the captions were made, and what they cost.
CAPTION_FIELDS: list[pa.Field] = [
    pa.field("status", pa.string(), nullable=False),
    pa.field("failure", FAILURE),
    pa.field("captions", pa.list_(VARIANT)),
    pa.field("num_variants", pa.int32()),
    pa.field("text", pa.string()),
    pa.field("caption_fingerprint", pa.string()),
    pa.field("caption_model", pa.string()),
    pa.field("caption_model_revision", pa.string()),
    pa.field("prompt_id", pa.string()),
    pa.field("engine_version", pa.string()),
    pa.field("caption_device", pa.string()),
    pa.field("caption_precision", pa.string()),
    pa.field("caption_attempts", pa.int32()),
    pa.field("num_prompt_tokens", pa.int32()),
    pa.field("num_cached_tokens", pa.int32()),
    pa.field("num_output_tokens", pa.int32()),
]

EMBEDDING_FIELDS: list[pa.Field] = [
    pa.field("embedding_fingerprint", pa.string()),
    pa.field("embedding_model", pa.string()),
    pa.field("embedding_model_revision", pa.string()),
    pa.field("embedding_device", pa.string()),
    pa.field("embedding_precision", pa.string()),
    pa.field("num_truncated_variants", pa.int32()),
]

# What is known of an image that has a row already, which this one is to replace; all null
# where it has none.
REPLACE_FIELDS: list[pa.Field] = [
    pa.field("replaces_unit", pa.string()),
    pa.field("earlier_attempts", pa.int32()),
    # The row is good: a failed one does not take its place.
    pa.field("keeps_row", pa.bool_()),
]

RUN_FIELDS: list[pa.Field] = [
    # Names the commit's smallest piece, of all runs: what makes a commit idempotent is in the data.
    pa.field("unit_id", pa.string(), nullable=False),
    pa.field("run_id", pa.string(), nullable=False),
    pa.field("created_at", TIMESTAMP, nullable=False),
]

# ``metadata`` is JSON text on its way and becomes an Arrow JSON column in the table.
SAMPLE = pa.schema(
    [
        *SOURCE_FIELDS,
        pa.field("metadata", pa.string()),
        *PIXEL_FIELDS,
        *REPLACE_FIELDS,
        pa.field("data", pa.large_binary()),
        pa.field("failure", FAILURE),
    ]
)
"""One image between the reader and the captioner. ``data`` is null once ``failure`` is not."""

CAPTIONED = pa.schema(
    [
        *SOURCE_FIELDS,
        pa.field("metadata", pa.string()),
        *PIXEL_FIELDS,
        *REPLACE_FIELDS,
        *CAPTION_FIELDS,
    ]
)
"""One image behind the captioner: the bytes are gone, the captions are there."""


PENDING_VECTORS = "pending_vectors"


def embedded(dim: int, pending_dim: int | None = None) -> pa.Schema:
    """One image behind the embedder: ``CAPTIONED`` and one unit vector a variant.

    Args:
        dim: length of a vector.
        pending_dim: length of those of a second model; None where there is none.
    """
    fields = [*CAPTIONED, _vectors("vectors", dim), *EMBEDDING_FIELDS]
    if pending_dim is not None:
        fields.append(_vectors(PENDING_VECTORS, pending_dim))
    return pa.schema(fields)


def _vectors(name: str, dim: int) -> pa.Field:
    return pa.field(name, pa.list_(pa.list_(pa.float32(), dim)))


def unit_schema(samples: pa.Schema) -> pa.Schema:
    """A run of samples of one shard as one row.

    ``samples`` may be empty: a shard all of whose images are in the table already still
    reports what it listed.
    """
    return pa.schema(
        [
            pa.field("unit_id", pa.string(), nullable=False),
            pa.field("archive", pa.string(), nullable=False),
            pa.field("shard", pa.string(), nullable=False),
            # Counts that every later stage passes on untouched.
            pa.field("num_listed", pa.int64(), nullable=False),
            pa.field("num_skipped", pa.int64(), nullable=False),
            pa.field("removes", pa.list_(pa.string()), nullable=False),
            pa.field("fault", pa.string(), nullable=False),
            pa.field("ignored", pa.map_(pa.string(), pa.int64()), nullable=False),
            pa.field("shard_bytes_read", pa.int64(), nullable=False),
            pa.field("is_store_away", pa.bool_(), nullable=False),
            pa.field("num_many_bands", pa.int64(), nullable=False),
            pa.field("samples", pa.list_(pa.struct(list(samples))), nullable=False),
        ]
    )


_BEFORE_VECTORS = [
    *SOURCE_FIELDS,
    pa.field("metadata", pa.json_()),
    *PIXEL_FIELDS,
    *CAPTION_FIELDS,
]
ROW = pa.schema([*_BEFORE_VECTORS, *EMBEDDING_FIELDS, *RUN_FIELDS])
"""What the table says of an image, ``ok`` or ``failed``, but for vectors.

``EMBEDDING_FIELDS`` are of the vectors that were written with the row. What other columns of
vectors were made with stands in the metadata of the schema (`skytext.table.vector_columns`).
"""


def images_schema(column: VectorColumn) -> pa.Schema:
    """The ``images`` table as it is made: one row an image.

    Args:
        column: of the vectors of the descriptions.
    """
    return pa.schema(
        [
            *_BEFORE_VECTORS,
            column.field,
            *EMBEDDING_FIELDS,
            *RUN_FIELDS,
            # Once more what a search tells of an image, as one text: `queries.hit_column`.
            pa.field(HIT, pa.string()),
        ]
    )


RUNS = pa.schema(
    [
        pa.field("run_id", pa.string(), nullable=False),
        pa.field("command", pa.string(), nullable=False),
        pa.field("state", pa.string(), nullable=False),
        pa.field("started_at", TIMESTAMP, nullable=False),
        pa.field("ended_at", TIMESTAMP),
        pa.field("config", pa.string()),
        pa.field("counts", pa.string()),
        pa.field("timings_s", pa.string()),
        pa.field("versions", pa.string()),
        pa.field("table_version", pa.int64()),
    ]
)
"""The ``runs`` table: configuration, counts, timings and versions of each run, as JSON texts."""
