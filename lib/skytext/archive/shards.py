"""The classes for the contents of a source: shards, members and samples.

The id of an image must stay the same if the archive is moved, or if the command line names the
archive in a different way. So the id depends only on four values: the name of the archive, the path
of the shard relative to the root of the source, the name of the member in the shard, and the number
of earlier members with this name. The following table shows the first two values for some sources:

========================  ===============  ==================
source                    archive          path of the shard
========================  ===============  ==================
``/data/aerial``          ``aerial``       ``a.tar``
``/data/aerial/*.tar``    ``aerial``       ``a.tar``
``/data/aerial/a.tar``    ``aerial``       ``a.tar``
``s3://maps/aerial/``     ``aerial``       ``a.tar``
========================  ===============  ==================

If the source is a pattern, its root is the deepest folder before the first wildcard. If the source
is a single file, its root is the folder that contains the file. If a shard is in a *sub-folder* of
the archive, the ids of its images depend on the source. An example is the shard
``/data/aerial/north/b.tar``. With the source ``/data/aerial/north``, the archive is ``north`` and
the path is ``b.tar``. With the source ``/data/aerial``, the archive is ``aerial`` and the path is
``north/b.tar``. So if an archive has sub-folders, always use the root folder of the archive as the
source.
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
        max_member_bytes: the maximum size of an image. A larger image is not read. It becomes a
            failed sample.
        max_group_bytes: the maximum total size of the images that are kept in memory until their
            sidecar is read. These images have the same key. If the total would be larger, they are
            yielded before the sidecar is read. This limit is needed for shards in which all images
            have the same key (``scene.0001.jpg``, ``scene.0002.jpg``, …).
        max_sidecar_bytes: the maximum size of a sidecar. A larger sidecar is not read.
    """

    max_member_bytes: int = 256 << 20
    max_group_bytes: int = 256 << 20
    max_sidecar_bytes: int = 1 << 20


@dataclass(frozen=True)
class ReadOptions:
    """The user's choices for reading shards.

    Attributes:
        image_column: the name of the Parquet column that contains the images. If it is None, the
            reader chooses the column. See :mod:`skytext.archive.formats.parquet_columns`.
        retry_s: if the store does not respond, the request is repeated for this number of seconds.
    """

    image_column: str | None = None
    retry_s: float = DEFAULT_RETRY_S


@dataclass(frozen=True)
class Shard:
    """One file that contains many images, or one folder that contains image files.

    Attributes:
        archive: the name of the archive.
        uri: the address of the shard. If the shard is a folder, the address ends with a slash.
        path: the path of the shard relative to the root of the source, '/'-separated. If the shard
            is a folder, the path ends with a slash. If the shard is the root folder itself, the
            path is ``./``.
        size_bytes: size in bytes. If the shard is a folder, it is the total size of its images.
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
    """The metadata that the source contains about an image. A missing value is None.

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
        archive: the name of the archive.
        shard: the path of the shard relative to the root of the source.
        member: the name of the member in the shard. It is empty if the sample reports that a whole
            shard, or the end of a shard, cannot be read.
        uri: ``{shard uri}#{member}``. If the shard is a folder, it is the uri of the image file. If
            ``member`` is empty, it is the uri of the shard.
        shard_etag: the etag of the file that contains the image. If the shard is a folder, this
            file is the image file. Otherwise this file is the shard.
        byte_offset: the position of the image's first byte in this file. None if the bytes do not
            exist, or if they are not stored in one piece (a Parquet row, a sparse member).
        byte_length: the number of bytes. None if ``byte_offset`` is None.
        row_group: the number of the Parquet row group, from 0. None in other formats.
        row: the number of the row in its Parquet row group, from 0. None in other formats.
        data: the encoded image. None if ``failure`` or ``fault`` is set, or if the caller does not
            need the bytes.
        failure: the reason why the bytes are not a usable image. It is set only if the store
            returned the bytes. Otherwise it is None.
        fault: the reason why the store did not return the bytes. In this case, it is not known if
            the image is usable. Otherwise it is None.
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
    """Facts about an image that can be found without reading the image.

    If a shard cannot be read, a member describes the whole shard instead of an image.

    Attributes:
        image_id: see `Sample`.
        member: see `Sample`.
        uri: see `Sample`.
        etag: see ``shard_etag`` in `Sample`.
        byte_offset: see `Sample`.
        byte_length: see `Sample`.
        row_group: see `Sample`.
        row: see `Sample`.
        failure: the reason why the image cannot be read, if the headers show a reason. If it is
            None, it is still possible that the image cannot be read. For example, a Parquet cell
            can be empty, or a file can be deleted.
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
            shard: the shard that contains the member.
            metadata: the metadata of the image.
            data: the encoded image. It is ignored if there is a failure.
            failure: the reason why the image could not be read. If it is None, the ``failure`` of
                the member is used.
            fault: the reason why the store did not return the bytes, or None.
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
    """Numbers of files and images in a shard. The reader updates them while it reads the shard.

    Attributes:
        num_ok: number of images that were read.
        num_failed: number of failed samples.
        num_sidecars: number of sidecars that belong to an image.
        ignored: number of all other files, by kind. See :mod:`skytext.archive.ignored`.
        num_bytes: in a tar, the number of bytes that were read. In a Parquet file, the size of the
            file. In a folder, the total size of its images. It is set when the whole shard has been
            read.
        etag: the etag of the shard. If a folder has changed since it was listed, it is the etag of
            the files that were read, or empty if this etag is not known.
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
    """Return the id of an image. It is the first 32 hexadecimal digits of a SHA-256 hash.

    The hash input contains the four arguments in UTF-8. The number is written in decimal digits.
    Before each encoded value, the hash input contains the length of this value as eight big-endian
    bytes. So two different lists of values never have the same hash input.

    Args:
        archive: the name of the archive.
        shard_path: the path of the shard relative to the root of the source.
        member: the name of the member in the shard.
        occurrence: the number of earlier members with this name in the shard.
    """
    digest = hashlib.sha256()
    for value in (archive, shard_path, member, str(occurrence)):
        # Use surrogateescape, because a local file name can contain bytes that are not valid UTF-8.
        encoded = value.encode("utf-8", "surrogateescape")
        digest.update(len(encoded).to_bytes(8, "big"))
        digest.update(encoded)
    return digest.hexdigest()[:32]
