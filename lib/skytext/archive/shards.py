"""The records of a source: a shard, and a sample on its way out of it.

An image's id must survive a move of the archive and a change of the way it is named on the
command line. It is therefore made of the archive's name, the shard's path relative to the
source's root, the member's name and its occurrence number, and of nothing else:

========================  ===============  ==================
source                    archive          path of the shard
========================  ===============  ==================
``/data/aerial``          ``aerial``       ``a.tar``
``/data/aerial/*.tar``    ``aerial``       ``a.tar``
``/data/aerial/a.tar``    ``aerial``       ``a.tar``
``s3://maps/aerial/``     ``aerial``       ``a.tar``
========================  ===============  ==================

The root of a pattern is the deepest folder before its first wildcard, the root of a single file
the folder that holds it. A shard in a *sub-folder* (``/data/aerial/north/b.tar``) therefore has
other ids when it is named from inside that folder (archive ``north``, path ``b.tar``) than when
it is found from ``/data/aerial`` (archive ``aerial``, path ``north/b.tar``): name such archives
from their root, always.
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
    """How much of a shard may be held in memory.

    Attributes:
        max_member_bytes: a larger image becomes a failure and its bytes are skipped.
        max_group_bytes: images under one key wait for a sidecar that may follow them; once
            they hold more than this together, they go on without waiting. It bounds shards
            whose names all begin alike (``scene.0001.jpg``, ``scene.0002.jpg``, …).
        max_sidecar_bytes: a larger sidecar is not read.
    """

    max_member_bytes: int = 256 << 20
    max_group_bytes: int = 256 << 20
    max_sidecar_bytes: int = 1 << 20


@dataclass(frozen=True)
class ReadOptions:
    """What a person chose about the way shards are read.

    Attributes:
        image_column: the Parquet column that holds the images; None: the one that looks like it,
            see :mod:`skytext.archive.formats.parquet_columns`.
        retry_s: for how long a request that the store does not answer is repeated.
    """

    image_column: str | None = None
    retry_s: float = DEFAULT_RETRY_S


@dataclass(frozen=True)
class Shard:
    """One file of many images, or one folder of image files.

    Attributes:
        archive: the archive's name.
        uri: where the shard is now; a folder's ends with a slash.
        path: the shard's path relative to the source's root, '/'-separated; a folder's ends
            with a slash, and is ``./`` for the root itself.
        size_bytes: its size in bytes; of a folder, that of its images.
        etag: changes when the shard's content does; a folder's, when any image or sidecar
            directly in it is added, taken away or changed.
    """

    archive: str
    uri: str
    path: str
    size_bytes: int
    etag: str


@dataclass(frozen=True)
class Metadata:
    """What a source says of an image; None where it says nothing.

    Attributes:
        datetime: when it was taken, aware, UTC.
        bbox: its footprint.
        gsd: ground sample distance in metres, positive and finite.
        collection: the STAC collection it belongs to.
        metadata: everything else, as the text of a JSON object with sorted keys.
    """

    datetime: datetime | None = None
    bbox: BBox | None = None
    gsd: float | None = None
    collection: str | None = None
    metadata: str | None = None


@dataclass(frozen=True)
class Sample(Metadata):
    """One image on its way through, or the reason why there is none.

    Attributes:
        image_id: see :func:`image_id`.
        archive: the archive's name.
        shard: the shard's path relative to the source's root.
        member: the member's name in the shard; empty for the failure of a whole shard or of its
            unreadable tail.
        uri: ``{shard uri}#{member}``, for a file in a folder its own uri; the shard's own uri
            where ``member`` is empty.
        shard_etag: the etag of the file that holds the bytes: the shard's, and for a file in a
            folder its own.
        byte_offset: where the image's bytes begin in that file; None where they are not stored
            in one piece (a Parquet row, a sparse member) or where there are none.
        byte_length: how many bytes they are; None where ``byte_offset`` is.
        row_group: of a Parquet row: its row group, from 0; else None.
        row: of a Parquet row: its number in the row group, from 0; else None.
        data: the encoded image; None where ``failure`` or ``fault`` is set, or where the caller
            knows the image already.
        failure: why the bytes, which were all read, are no image.
        fault: why the store did not give the bytes. Nothing is known of the image then.
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
    fault: str | None = field(kw_only=True, default=None)


@dataclass(frozen=True)
class Member:
    """What is known of an image, or of an unreadable shard, without reading the image.

    Attributes:
        image_id: that of the sample.
        member: its name in the shard; empty for an unreadable shard or tail.
        uri: that of the sample.
        etag: the sample's ``shard_etag``: of a file in a folder its own, else the shard's.
        byte_offset: as in the sample.
        byte_length: as in the sample.
        row_group: as in the sample.
        row: as in the sample.
        failure: why it cannot be read, as far as headers tell. None promises nothing: a Parquet
            cell may be empty, and a file may vanish.
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
        """Return what the walk says of a sample."""
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
        said: Metadata,
        data: bytes | None,
        failure: SampleError | None = None,
        fault: str | None = None,
    ) -> Sample:
        """Return the sample of this member.

        Args:
            shard: the shard it was met in.
            said: what the source says of it.
            data: its bytes; left out where there is a failure.
            failure: why it could not be read; the member's own where None.
            fault: why the store did not give its bytes.
        """
        failure = failure or self.failure
        return Sample(
            **vars(said),
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
    """What was met in a shard; filled while it is read.

    Attributes:
        num_ok: images that went on.
        num_failed: failed samples.
        num_sidecars: sidecars that belong to an image.
        ignored: what else there is, by its kind, see :mod:`skytext.archive.ignored`.
        num_bytes: bytes of the shard that were read or, in a Parquet file, could be; all of them
            where the shard was read to its end. Of a folder, the bytes of its images.
        etag: of what was read: the shard's; of a folder that changed after it was listed, that of
            the files that were met.
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

    Hashed is the UTF-8 of each of the four values (the number in decimal), each preceded by its
    length in bytes as eight big-endian bytes, so that no two lists of values look the same.

    Args:
        archive: the archive's name.
        shard_path: the shard's path relative to the source's root.
        member: the member's name in the shard.
        occurrence: how many members of this name came before it in the shard.
    """
    digest = hashlib.sha256()
    for value in (archive, shard_path, member, str(occurrence)):
        # surrogateescape: a local file name need not be valid UTF-8.
        encoded = value.encode("utf-8", "surrogateescape")
        digest.update(len(encoded).to_bytes(8, "big"))
        digest.update(encoded)
    return digest.hexdigest()[:32]
