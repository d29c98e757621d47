"""The records of a source: shards, members and samples.

An image's id must stay the same if the archive moves or is named differently on the command line.
So it depends only on the archive's name, the shard's path relative to the source's root, the
member's name and its occurrence number:

========================  ===============  ==================
source                    archive          path of the shard
========================  ===============  ==================
``/data/aerial``          ``aerial``       ``a.tar``
``/data/aerial/*.tar``    ``aerial``       ``a.tar``
``/data/aerial/a.tar``    ``aerial``       ``a.tar``
``s3://maps/aerial/``     ``aerial``       ``a.tar``
========================  ===============  ==================

The root of a pattern is the deepest folder before its first wildcard. The root of a single file is
its folder. So a shard in a *sub-folder* (``/data/aerial/north/b.tar``) gets different ids if it is
named from inside that folder (archive ``north``, path ``b.tar``) or found from ``/data/aerial``
(archive ``aerial``, path ``north/b.tar``): always name such archives from their root.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime

from skytext.archive.ignored import count_kind
from skytext.archive.storage.store import DEFAULT_RETRY_S
from skytext.errors import SampleError

BBox = tuple[float, float, float, float]
"""West, south, east, north in degrees, EPSG:4326; west > east crosses the antimeridian."""


@dataclass(frozen=True)
class ReadLimits:
    """Memory limits for reading a shard.

    Attributes:
        max_member_bytes: a larger image becomes a failure and its bytes are skipped.
        max_group_bytes: images of one key wait for a later sidecar. Above this total they are
            yielded without waiting. It matters for shards whose names all begin alike
            (``scene.0001.jpg``, ``scene.0002.jpg``, …).
        max_sidecar_bytes: a larger sidecar is not read.
    """

    max_member_bytes: int = 256 << 20
    max_group_bytes: int = 256 << 20
    max_sidecar_bytes: int = 1 << 20


@dataclass(frozen=True)
class ReadOptions:
    """The user's choices for reading shards.

    Attributes:
        image_column: the Parquet column of the images; None to find it, see
            :mod:`skytext.archive.formats.parquet_columns`.
        retry_s: seconds for which a request without an answer is repeated.
    """

    image_column: str | None = None
    retry_s: float = DEFAULT_RETRY_S


@dataclass(frozen=True)
class Shard:
    """One file of many images, or one folder of image files.

    Attributes:
        archive: the archive's name.
        uri: the shard's address; a folder's ends with a slash.
        path: the shard's path relative to the source's root, '/'-separated; a folder's ends
            with a slash, and is ``./`` for the root itself.
        size_bytes: size in bytes; for a folder, the total size of its images.
        etag: changes when the shard's content changes. A folder's etag changes when an image or
            sidecar directly in it is added, deleted or changed.
    """

    archive: str
    uri: str
    path: str
    size_bytes: int
    etag: str


@dataclass(frozen=True)
class Metadata:
    """The source's metadata about an image; None for missing values.

    Attributes:
        datetime: time of acquisition, with time zone UTC.
        bbox: its footprint.
        gsd: ground sample distance in metres, positive and finite.
        collection: its STAC collection.
        metadata: everything else, as the text of a JSON object with sorted keys.
    """

    datetime: datetime | None = None
    bbox: BBox | None = None
    gsd: float | None = None
    collection: str | None = None
    metadata: str | None = None


@dataclass(frozen=True)
class Sample(Metadata):
    """One image on its way through the pipeline, or the reason why there is none.

    Attributes:
        image_id: see :func:`image_id`.
        archive: the archive's name.
        shard: the shard's path relative to the source's root.
        member: the member's name in the shard; empty for the failure of a whole shard or of its
            unreadable tail.
        uri: ``{shard uri}#{member}``; for a file in a folder the file's uri; the shard's uri if
            ``member`` is empty.
        shard_etag: the etag of the file that holds the bytes: the shard, or the file itself for a
            file in a folder.
        byte_offset: where the image's bytes begin in that file; None if they are not stored in
            one piece (a Parquet row, a sparse member) or do not exist.
        byte_length: the number of bytes; None if ``byte_offset`` is None.
        row_group: for a Parquet row: its row group, from 0; else None.
        row: for a Parquet row: its number in the row group, from 0; else None.
        data: the encoded image; None if ``failure`` or ``fault`` is set, or if the caller already
            knows the image.
        failure: why the bytes, which were all read, are not a usable image.
        fault: why the store did not return the bytes. The image is then unknown.
    """

    image_id: str = field(kw_only=True)
    archive: str = field(kw_only=True)
    shard: str = field(kw_only=True)
    member: str = field(kw_only=True)
    uri: str = field(kw_only=True)
    shard_etag: str = field(kw_only=True)
    byte_offset: int | None = field(kw_only=True)
    byte_length: int | None = field(kw_only=True)
    row_group: int | None = field(kw_only=True, default=None)
    row: int | None = field(kw_only=True, default=None)
    data: bytes | None = field(kw_only=True, repr=False)
    failure: SampleError | None = field(kw_only=True, default=None)
    fault: OSError | None = field(kw_only=True, default=None)


@dataclass(frozen=True)
class Member:
    """The facts about an image, or about an unreadable shard, that need no read of the image.

    Attributes:
        image_id: as in the sample.
        member: its name in the shard; empty for an unreadable shard or tail.
        uri: as in the sample.
        etag: as ``shard_etag`` in the sample.
        byte_offset: as in the sample.
        byte_length: as in the sample.
        row_group: as in the sample.
        row: as in the sample.
        failure: why it cannot be read, according to the headers. None is no guarantee: a Parquet
            cell may be empty, and a file may be deleted.
    """

    image_id: str
    member: str
    uri: str
    etag: str
    byte_offset: int | None = None
    byte_length: int | None = None
    row_group: int | None = None
    row: int | None = None
    failure: SampleError | None = None

    @classmethod
    def of(cls, sample: Sample) -> Member:
        """Return the member of a sample."""
        return cls(
            image_id=sample.image_id,
            member=sample.member,
            uri=sample.uri,
            etag=sample.shard_etag,
            byte_offset=sample.byte_offset,
            byte_length=sample.byte_length,
            row_group=sample.row_group,
            row=sample.row,
            failure=sample.failure,
        )

    def sample(
        self,
        shard: Shard,
        metadata: Metadata,
        data: bytes | None,
        failure: SampleError | None = None,
        fault: OSError | None = None,
    ) -> Sample:
        """Return the sample of this member.

        Args:
            shard: the shard that contains it.
            metadata: its metadata.
            data: its bytes; ignored if there is a failure.
            failure: why it could not be read; None for the member's own failure.
            fault: why the store did not return its bytes.
        """
        failure = failure or self.failure
        return Sample(
            **vars(metadata),
            image_id=self.image_id,
            archive=shard.archive,
            shard=shard.path,
            member=self.member,
            uri=self.uri,
            shard_etag=self.etag,
            byte_offset=self.byte_offset,
            byte_length=self.byte_length,
            row_group=self.row_group,
            row=self.row,
            data=None if failure else data,
            failure=failure,
            fault=fault,
        )


@dataclass
class ShardCounts:
    """The counts of a shard; filled while it is read.

    Attributes:
        num_ok: images that were read.
        num_failed: failed samples.
        num_sidecars: sidecars of an image.
        ignored: all other files by kind, see :mod:`skytext.archive.ignored`.
        num_bytes: bytes of the shard that were read or, in a Parquet file, could be read; all of
            them once the shard is read to its end. For a folder, the bytes of its images.
        etag: the shard's etag; for a folder that changed after it was listed, the etag of the
            files that were read.
    """

    num_ok: int = 0
    num_failed: int = 0
    num_sidecars: int = 0
    ignored: Counter[str] = field(default_factory=Counter)
    num_bytes: int = field(default=0, compare=False)
    etag: str = field(default="", compare=False)

    def ignore(self, kind: str | None, number: int = 1) -> None:
        """Count what is ignored; None is not counted."""
        if kind is not None and number:
            count_kind(self.ignored, kind, number)


def image_id(archive: str, shard_path: str, member: str, occurrence: int) -> str:
    """The id of an image: the first 32 hex digits of a SHA-256.

    It hashes the UTF-8 of each of the four values (the number in decimal), each after its length
    in bytes as eight big-endian bytes. So two different lists of values never hash the same input.

    Args:
        archive: the archive's name.
        shard_path: the shard's path relative to the source's root.
        member: the member's name in the shard.
            occurrence: the number of earlier members with this name in the shard.
    """
    digest = hashlib.sha256()
    for value in (archive, shard_path, member, str(occurrence)):
        # surrogateescape: a local file name need not be valid UTF-8.
        encoded = value.encode("utf-8", "surrogateescape")
        digest.update(len(encoded).to_bytes(8, "big"))
        digest.update(encoded)
    return digest.hexdigest()[:32]
