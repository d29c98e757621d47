"""The manifest: what a run met in each shard, kept beside the table.

One small Parquet object a shard, ``state/manifest/{key}.parquet``: the members in their order with
their offsets and content hashes, and the shard's etag. While the etag is the same, the shard need
not be read again to know what is in it. Only a reader that came to the shard's real end writes it:
it is the evidence that the end of a run compares the table with.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from skytext.table.location import TableLocation
from skytext.table.state_files import StateStore

_ETAG = b"skytext.etag"
_NUM_BYTES = b"skytext.num_bytes"
_NUM_UNITS = b"skytext.num_units"

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


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a reader met in a shard.

    Attributes:
        etag: of the content that was read.
        num_bytes: bytes that were read; all of the shard's unless it is damaged.
        num_units: units that it was cut into.
        members: of `MANIFEST`.
    """

    etag: str
    num_bytes: int
    num_units: int
    members: pa.Table

    @property
    def is_damaged(self) -> bool:
        """Whether the shard, or a part of it, could not be read for its damage."""
        return bool(pc.any(pc.equal(self.members.column("member"), "")).as_py())


def write_manifest(location: TableLocation, archive: str, shard: str, manifest: Manifest) -> None:
    """Keep what is in a shard, in place of what was known of it.

    Args:
        location: the table.
        archive: the archive's name.
        shard: the shard's path.
        manifest: what was met.
    """
    buffer = io.BytesIO()
    metadata = {
        _ETAG: manifest.etag.encode("utf-8", "surrogateescape"),
        _NUM_BYTES: str(manifest.num_bytes).encode(),
        _NUM_UNITS: str(manifest.num_units).encode(),
    }
    schema = MANIFEST.with_metadata(metadata)
    pq.write_table(manifest.members.cast(MANIFEST).cast(schema), buffer, compression="zstd")
    StateStore(location).put(_path(archive, shard), buffer.getvalue())


def read_manifest(
    location: TableLocation, archive: str, shard: str, columns: Sequence[str] | None = None
) -> Manifest | None:
    """Return what is known of a shard, at whatever etag, or None.

    Args:
        location: the table.
        archive: the archive's name.
        shard: the shard's path.
        columns: of `MANIFEST`; None for all.
    """
    data = StateStore(location).get(_path(archive, shard))
    if data is None:
        return None
    file = pq.ParquetFile(io.BytesIO(data))
    metadata = file.schema_arrow.metadata or {}
    if _NUM_UNITS not in metadata and _has_unread(file):
        return None
    return Manifest(
        etag=metadata.get(_ETAG, b"").decode("utf-8", "surrogateescape"),
        num_bytes=int(metadata.get(_NUM_BYTES, 0)),
        num_units=int(metadata.get(_NUM_UNITS, 0)),
        members=file.read(columns=None if columns is None else list(columns), use_threads=False),
    )


def forget_manifest(location: TableLocation, archive: str, shard: str) -> None:
    """Delete the manifest of a shard, so that the next run reads the shard again."""
    StateStore(location).delete([_path(archive, shard)])


def _has_unread(file: pq.ParquetFile) -> bool:
    """Whether images without content are in a manifest of skytext 0.1.

    There a store that broke off could be the reason: the shard is read again.
    """
    return bool(file.read(columns=["content_sha256"]).column(0).null_count)


def _path(archive: str, shard: str) -> str:
    key = hashlib.sha256(json.dumps([archive, shard]).encode()).hexdigest()[:32]
    # Folders of a few hundred: some file systems are slow with a hundred thousand in one.
    return f"manifest/{key[:2]}/{key}.parquet"
