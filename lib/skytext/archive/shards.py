"""The records of a source: shards, members and samples.

An image's id must stay the same if the archive moves, or if the command line names the archive in a
different way. So the id depends only on these four values: the archive's name, the shard's path
relative to the source's root, the member's name, and the number of earlier members of this name:

========================  ===============  ==================
source                    archive          path of the shard
========================  ===============  ==================
``/data/aerial``          ``aerial``       ``a.tar``
``/data/aerial/*.tar``    ``aerial``       ``a.tar``
``/data/aerial/a.tar``    ``aerial``       ``a.tar``
``s3://maps/aerial/``     ``aerial``       ``a.tar``
========================  ===============  ==================

The root of a pattern is the deepest folder before the first wildcard. The root of a single file is
the folder of the file. So the ids of a shard in a *sub-folder* depend on the source. An example is
``/data/aerial/north/b.tar``. For the source ``/data/aerial/north`` the archive is ``north`` and the
path is ``b.tar``. For the source ``/data/aerial`` the archive is ``aerial`` and the path is
``north/b.tar``. If an archive has sub-folders, always give its root folder as the source.
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
"""West, south, east, north in degrees (EPSG:4326).

If west > east, the box crosses the antimeridian.
"""


@dataclass(frozen=True)
class ReadLimits:
    """Memory limits for reading a shard.

    Attributes:
        max_member_bytes: the maximum size of an image. A larger image becomes a failure, and its
            bytes are skipped.
        max_group_bytes: the maximum total size of images of one key that are kept in memory until
            their sidecar is read. If the total would be larger, these images are yielded without
            waiting for a sidecar. This limit matters for shards in which all images have the same
            key (``scene.0001.jpg``, ``scene.0002.jpg``, …).
        max_sidecar_bytes: the maximum size of a sidecar. A larger sidecar is not read.
    """

    max_member_bytes: int = 256 << 20
    max_group_bytes: int = 256 << 20
    max_sidecar_bytes: int = 1 << 20


@dataclass(frozen=True)
class ReadOptions:
    """The user's choices for reading shards.

    Attributes:
        image_column: the Parquet column of the images. If None, the reader finds the column. See
            :mod:`skytext.archive.formats.parquet_columns`.
        retry_s: how long a request is repeated while the store does not respond, in seconds.
    """

    image_column: str | None = None
    retry_s: float = DEFAULT_RETRY_S


@dataclass(frozen=True)
class Shard:
    """One file of many images, or one folder of image files.

    Attributes:
        archive: the archive's name.
        uri: the shard's address. The address of a folder ends with a slash.
        path: the shard's path relative to the source's root, '/'-separated. The path of a folder
            ends with a slash. The path of the root itself is ``./``.
        size_bytes: size in bytes; for a folder, the total size of its images.
        etag: a string that changes when the shard's content changes. The etag of a folder changes
            when an image or a sidecar directly in the folder is added, deleted or changed.
    """

    archive: str
    uri: str
    path: str
    size_bytes: int
    etag: str


@dataclass(frozen=True)
class Metadata:
    """The source's metadata about an image. A missing value is None.

    Attributes:
        datetime: time of acquisition, with time zone UTC.
        bbox: the bounding box of the image on the ground.
        gsd: ground sample distance in metres, positive and finite.
        collection: the id of the image's STAC collection.
        metadata: all other values, as the JSON text of an object with sorted keys.
    """

    datetime: datetime | None = None
    bbox: BBox | None = None
    gsd: float | None = None
    collection: str | None = None
    metadata: str | None = None


@dataclass(frozen=True)
class Sample(Metadata):
    """One image that the pipeline processes, or the reason why the image could not be read.

    Attributes:
        image_id: the id from :func:`image_id`.
        archive: the archive's name.
        shard: the shard's path relative to the source's root.
        member: the member's name in the shard. It is empty if the sample is the failure of a whole
            shard or of the unreadable end of a shard.
        uri: ``{shard uri}#{member}``. For a file in a folder it is the uri of the file. It is the
            shard's uri if ``member`` is empty.
        shard_etag: the etag of the file that contains the bytes. This file is the shard. If the
            shard is a folder, it is the image file.
        byte_offset: the position of the image's first byte in this file. None if the bytes do not
            exist, or are not stored in one piece (a Parquet row, a sparse member).
        byte_length: the number of bytes; None if ``byte_offset`` is None.
        row_group: the number of the Parquet row group, from 0; None in other formats.
        row: the number of the row in its Parquet row group, from 0; None in other formats.
        data: the encoded image. None if ``failure`` or ``fault`` is set, or if the caller does not
            need the bytes.
        failure: why the bytes are not a usable image, although the store returned them.
        fault: why the store did not return the bytes. It is then unknown whether the image is
            usable.
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
    """The facts about an image, or about an unreadable shard, that do not require its bytes.

    Attributes:
        image_id: as in `Sample`.
        member: as in `Sample`.
        uri: as in `Sample`.
        etag: as ``shard_etag`` in `Sample`.
        byte_offset: as in `Sample`.
        byte_length: as in `Sample`.
        row_group: as in `Sample`.
        row: as in `Sample`.
        failure: why the image cannot be read, as far as the headers show this. If None, reading
            may still fail: a Parquet cell may be empty, and a file may be deleted.
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
        """Return a member with the facts of a sample."""
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
            shard: the shard that contains the member.
            metadata: the metadata of the image.
            data: the encoded image. It is ignored if there is a failure.
            failure: why the image could not be read. If None, the member's ``failure`` is used.
            fault: why the store did not return the bytes.
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
    """The counts of a shard. The reader updates them while it reads the shard.

    Attributes:
        num_ok: number of images that were read.
        num_failed: number of failed samples.
        num_sidecars: number of sidecars that belong to an image.
        ignored: number of all other files by kind. See :mod:`skytext.archive.ignored`.
        num_bytes: for a tar, the number of bytes that were read. For a Parquet file, its size. For
            a folder, the total size of its images. It is set when the shard has been read.
        etag: the shard's etag. If a folder changed after it was listed, this is the etag of the
            files that were read, or empty if it is unknown.
    """

    num_ok: int = 0
    num_failed: int = 0
    num_sidecars: int = 0
    ignored: Counter[str] = field(default_factory=Counter)
    num_bytes: int = field(default=0, compare=False)
    etag: str = field(default="", compare=False)

    def ignore(self, kind: str | None, number: int = 1) -> None:
        """Count ignored files of a kind. If ``kind`` is None, count nothing."""
        if kind is not None and number:
            count_kind(self.ignored, kind, number)


def image_id(archive: str, shard_path: str, member: str, occurrence: int) -> str:
    """Return the id of an image: the first 32 hex digits of a SHA-256 hash.

    The four values are encoded in UTF-8, the number in decimal digits. For each value, the hash
    input contains the length of the encoded value (eight big-endian bytes) and then the encoded
    value. So two different lists of values never have the same hash input.

    Args:
        archive: the archive's name.
        shard_path: the shard's path relative to the source's root.
        member: the member's name in the shard.
        occurrence: the number of earlier members with this name in the shard.
    """
    digest = hashlib.sha256()
    for value in (archive, shard_path, member, str(occurrence)):
        # surrogateescape: a local file name may contain bytes that are not valid UTF-8.
        encoded = value.encode("utf-8", "surrogateescape")
        digest.update(len(encoded).to_bytes(8, "big"))
        digest.update(encoded)
    return digest.hexdigest()[:32]
