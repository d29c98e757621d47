"""The manifest: what a run met in each shard, kept beside the table.

One small Parquet object a shard, ``state/manifest/{key}.parquet``: the members in their order with
their offsets and content hashes, and the shard's etag. While the etag is the same, the shard need
not be read again to know what is in it. Only a reader that went through the whole shard writes it.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Sequence

import pyarrow as pa
import pyarrow.parquet as pq

from skytext.table.location import TableLocation
from skytext.table.state_files import StateStore

_ETAG = b"skytext.etag"

MANIFEST = pa.schema(
    [
        pa.field("image_id", pa.string(), nullable=False),
        pa.field("member", pa.string(), nullable=False),
        pa.field("content_sha256", pa.string()),
        pa.field("byte_offset", pa.int64()),
        pa.field("byte_length", pa.int64()),
        pa.field("row_group", pa.int64()),
        pa.field("row", pa.int64()),
    ]
)
"""One row an image; ``content_sha256`` is null where there was none to be read."""


def write_manifest(
    location: TableLocation, archive: str, shard: str, etag: str, members: pa.Table
) -> None:
    """Keep what is in a shard, in place of what was known of it.

    Args:
        location: the table.
        archive: the archive's name.
        shard: the shard's path.
        etag: of the content that was read.
        members: of `MANIFEST`.
    """
    buffer = io.BytesIO()
    schema = MANIFEST.with_metadata({_ETAG: etag.encode("utf-8", "surrogateescape")})
    pq.write_table(members.cast(MANIFEST).cast(schema), buffer, compression="zstd")
    StateStore(location).put(_path(archive, shard), buffer.getvalue())


def read_manifest(
    location: TableLocation,
    archive: str,
    shard: str,
    etag: str,
    columns: Sequence[str] | None = None,
) -> pa.Table | None:
    """Return what is in a shard, or None where nothing is known of it at this etag."""
    data = StateStore(location).get(_path(archive, shard))
    if data is None:
        return None
    file = pq.ParquetFile(io.BytesIO(data))
    kept = (file.schema_arrow.metadata or {}).get(_ETAG)
    if kept != etag.encode("utf-8", "surrogateescape"):
        return None
    return file.read(columns=None if columns is None else list(columns), use_threads=False)


def _path(archive: str, shard: str) -> str:
    key = hashlib.sha256(json.dumps([archive, shard]).encode()).hexdigest()[:32]
    # Folders of a few hundred: some file systems are slow with a hundred thousand in one.
    return f"manifest/{key[:2]}/{key}.parquet"
