"""The Arrow schemas and the column names of all stages of a job.

The job uses three kinds of rows:

* a *sample* row (``SAMPLE``) contains one image with its encoded bytes;
* a *unit* row (``unit_schema``) contains consecutive samples of one shard, in one Ray Data row.
  Because a unit is one row, Ray does not split or merge its samples. A unit is written, recorded
  and repeated as a whole;
* an *images* row (``images_schema``) is a row of the table, without the bytes of the image.

The fields ``datetime``, ``bbox``, ``gsd`` and ``collection`` have the same meanings as in STAC 1.0.
"""

from __future__ import annotations

import pyarrow as pa

from skytext.table.vector_columns import VectorColumn

# Lance 14 writes file version 2.2 by default. The finish reason is a nested column with a constant
# value. In version 2.2, such a column stores the lengths of its lists in one block per page. To
# fetch one row, Lance then reads 2 MB. Reading the captions of ten hits then takes 4.0 ms instead
# of 1.0 ms (docs/benchmarks.md).
FILE_VERSION = "2.1"
STATUS_OK = "ok"
STATUS_FAILED = "failed"
STATUS_WITHDRAWN = "withdrawn"
"""The archive does not contain the image any more. Searches omit the image. The captions are kept.
"""
HIT = "hit"
DONE = f"status = '{STATUS_OK}'"
"""Lance filter for rows with a description."""
PRESENT = f"status != '{STATUS_WITHDRAWN}'"
"""Lance filter for rows that are not withdrawn."""

BBOX = pa.struct(
    [
        pa.field("west", pa.float64()),
        pa.field("south", pa.float64()),
        pa.field("east", pa.float64()),
        pa.field("north", pa.float64()),
    ]
)
"""Degrees, EPSG:4326. If ``west > east``, the box crosses the antimeridian."""

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

# The fields that describe the source of an image. All stages have these columns, from the reader to
# the table.
SOURCE_FIELDS: list[pa.Field] = [
    pa.field("image_id", pa.string(), nullable=False),
    pa.field("archive", pa.string(), nullable=False),
    pa.field("shard", pa.string(), nullable=False),
    pa.field("member", pa.string(), nullable=False),
    pa.field("uri", pa.string(), nullable=False),
    pa.field("byte_offset", pa.int64()),
    pa.field("byte_length", pa.int64()),
    # Parquet shards use these two columns instead of the offset.
    pa.field("row_group", pa.int64()),
    pa.field("row", pa.int64()),
    pa.field("shard_etag", pa.string()),
    pa.field("datetime", TIMESTAMP),
    pa.field("bbox", BBOX),
    pa.field("gsd", pa.float64()),
    pa.field("collection", pa.string()),
]

# The fields that are computed when the image is decoded.
PIXEL_FIELDS: list[pa.Field] = [
    pa.field("content_sha256", pa.string()),
    pa.field("width_px", pa.int32()),
    pa.field("height_px", pa.int32()),
    pa.field("format", pa.string()),
]

# The captions, the model and the settings that made the captions, and the numbers of tokens.
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

# Fields of the existing row that a new row replaces. All fields are null if there is no existing
# row.
REPLACE_FIELDS: list[pa.Field] = [
    pa.field("replaces_unit", pa.string()),
    pa.field("earlier_attempts", pa.int32()),
    # True if the existing row has a description. A failed row then does not replace the existing
    # row.
    pa.field("keeps_row", pa.bool_()),
]

RUN_FIELDS: list[pa.Field] = [
    # The unit id is unique across all runs. It is the idempotency key of a commit, so it is stored
    # in the rows.
    pa.field("unit_id", pa.string(), nullable=False),
    pa.field("run_id", pa.string(), nullable=False),
    pa.field("created_at", TIMESTAMP, nullable=False),
]

# ``metadata`` is a JSON string during the job, and an Arrow JSON column in the table.
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
"""The schema of one image before it is captioned. ``data`` is null if ``failure`` is set."""

CAPTIONED = pa.schema(
    [
        *SOURCE_FIELDS,
        pa.field("metadata", pa.string()),
        *PIXEL_FIELDS,
        *REPLACE_FIELDS,
        *CAPTION_FIELDS,
    ]
)
"""The schema of one image after it is captioned. It has no column for the bytes of the image."""


PENDING_VECTORS = "pending_vectors"


def embedded(dim: int, pending_dim: int | None = None) -> pa.Schema:
    """Return the schema of an embedded image: ``CAPTIONED`` plus one unit vector per variant.

    Args:
        dim: length of a vector.
        pending_dim: length of a vector in the pending column; None if no column is pending.
    """
    fields = [*CAPTIONED, _vectors("vectors", dim), *EMBEDDING_FIELDS]
    if pending_dim is not None:
        fields.append(_vectors(PENDING_VECTORS, pending_dim))
    return pa.schema(fields)


def _vectors(name: str, dim: int) -> pa.Field:
    return pa.field(name, pa.list_(pa.list_(pa.float32(), dim)))


def unit_schema(samples: pa.Schema) -> pa.Schema:
    """Return the schema of a unit. A unit contains consecutive samples of one shard in one row.

    A unit may have no samples. This happens if the table already has all images of a shard. The
    unit then only reports the number of listed images.
    """
    return pa.schema(
        [
            pa.field("unit_id", pa.string(), nullable=False),
            pa.field("archive", pa.string(), nullable=False),
            pa.field("shard", pa.string(), nullable=False),
            # Later stages copy the following fields without changes.
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
"""The columns of a row of the table, without the vector columns.

``EMBEDDING_FIELDS`` describe the caption vectors that were written together with the row. All
vector columns are described in the metadata of the schema (`skytext.table.vector_columns`).
"""


def images_schema(column: VectorColumn) -> pa.Schema:
    """Return the schema of a new ``images`` data set, which has one row per image.

    Args:
        column: the column of the caption vectors.
    """
    return pa.schema(
        [
            *_BEFORE_VECTORS,
            column.field,
            *EMBEDDING_FIELDS,
            *RUN_FIELDS,
            # The hit fields. They are stored a second time as one JSON string, see
            # `queries.hit_column`.
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
"""The schema of ``runs``. The configuration, counts, timings and versions are JSON strings."""
