"""The manifest of a shard. It lists the images in the shard.

A manifest is a small Parquet object, ``T/state/manifest/{key}.parquet``. It contains the members of
the shard in order, the offset and the content hash of each member, and the etag of the shard. If
the etag of a shard has not changed, a run uses the manifest and does not read the shard again. A
reader writes the manifest only after it has read the shard to the end. At the end of a run, a check
compares the manifests with the table.
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
from skytext.table.store.state_files import StateStore

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
"""The schema of ``members``. It has one row per image.

``content_sha256`` is null if the content of the image could not be read.
"""


@dataclass(frozen=True, slots=True)
class Manifest:
    """The contents of a shard.

    Attributes:
        etag: etag of the shard when it was read.
        num_bytes: number of bytes that were read. If the shard is not damaged, this is the size of
            the shard.
        num_units: number of units that were made from the shard.
        members: table with schema `MANIFEST`.
    """

    etag: str
    num_bytes: int
    num_units: int
    members: pa.Table

    @property
    def is_damaged(self) -> bool:
        """Whether the shard or a part of the shard is damaged and could not be read."""
        return bool(pc.any(pc.equal(self.members.column("member"), "")).as_py())


def write_manifest(location: TableLocation, archive: str, shard: str, manifest: Manifest) -> None:
    """Store the manifest of a shard. An existing manifest is replaced.

    Args:
        location: the table.
        archive: the archive's name.
        shard: the shard's path.
        manifest: the manifest to store.
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
    """Return the manifest of a shard; None if it does not exist. The etag is not checked.

    Args:
        location: the table.
        archive: the archive's name.
        shard: the shard's path.
        columns: names of the columns of `MANIFEST` to read; None for all columns.
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
    """Return whether a manifest of skytext 0.1 has images whose content could not be read.

    In skytext 0.1, the reason could be an interrupted store request. So the shard is read again.
    """
    return bool(file.read(columns=["content_sha256"]).column(0).null_count)


def _path(archive: str, shard: str) -> str:
    key = hashlib.sha256(json.dumps([archive, shard]).encode()).hexdigest()[:32]
    # The manifests are stored in 256 folders, because some file systems are slow if one folder
    # contains a hundred thousand files.
    return f"manifest/{key[:2]}/{key}.parquet"
