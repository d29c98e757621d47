"""Read the images in a WebDataset tar shard, as a stream.

INPUT: a :class:`Shard`. OUTPUT: a :class:`Sample` for every image in the shard, in order.
FAN-OUT: one shard gives one sample for each image member, and one more sample if the end of the
shard cannot be read.
ON ERROR: damaged bytes give a failed sample. If the store does not return the bytes, the reader
raises an OSError.

"Member" means a file in the tar. Members are grouped as in WebDataset
(https://github.com/webdataset/webdataset). The key of a member is its path up to the first dot in
the base name. Consecutive members with the same key form a group. Every image in a group is a
sample. The sidecar of an image is a ``.json`` or ``.txt`` file in the same group that has the same
name up to the last dot. For example, ``a.rgb.json`` is the sidecar of ``a.rgb.png``. If the group
has no such file, the sidecar is the file with the key as its name (``a.json``).

A sidecar can also be outside the group of its image. The reader searches for it if an image has no
sidecar in its group, and if the tar has a group with sidecars but no image. To find the sidecar,
the reader reads all headers of the tar once (:mod:`skytext.archive.formats.tar_index`). If there is
also a sidecar in the group of the image, the sidecar in the group is used. Sidecars without an
image are counted.

A link is an image if the name of the link is an image name. The bytes of this image are the bytes
of the link's target.

The reader does not extract members to files. So it never uses the name of a member as a path.
"""

from __future__ import annotations

import contextlib
import tarfile
from array import array
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from skytext.archive.formats.tar_index import (
    MEMBER_OVERHEAD_BYTES,
    Place,
    Sidecar,
    TarIndex,
    too_large,
)
from skytext.archive.formats.tar_names import (
    Kind,
    ignored_as,
    is_link,
    key_of,
    kind_of,
    stem_of,
    suffix_of,
)
from skytext.archive.formats.tar_stream import Forward, Jumping, Tarball
from skytext.archive.ignored import SIDECAR
from skytext.archive.shards import (
    Member,
    Metadata,
    ReadLimits,
    ReadOptions,
    Sample,
    Shard,
    ShardCounts,
    image_id,
)
from skytext.archive.sidecar import parse_sidecar
from skytext.archive.storage.files import open_ranged
from skytext.archive.storage.ranged_file import JUMPING, STREAMING, RangedFile, Window
from skytext.archive.suffixes import SIDECAR_SUFFIXES
from skytext.archive.unreadable import ShardEndError, failed_shard
from skytext.errors import Reason, SampleError, Stage


def read_tar(
    shard: Shard, limits: ReadLimits, options: ReadOptions, counts: ShardCounts
) -> Iterator[Sample]:
    """Yield the images in a tar shard. Damaged content does not raise an error.

    Memory contains at most ``limits.max_group_bytes`` and one more member. After all headers have
    been read to find sidecars or links, memory contains at most twice as much.

    Args:
        shard: the shard, from :func:`skytext.archive.discover`.
        limits: memory limits.
        options: how to read from the store.
        counts: an object that the reader updates.

    Raises:
        OSError: the store did not return the whole tar. An image is not yielded if its sidecar may
            be in the missing part.
    """
    with contextlib.closing(_index(shard, limits, options)) as index:
        yield from _Reader(shard, limits, options, counts, index).samples()


def list_tar(
    shard: Shard, limits: ReadLimits, options: ReadOptions, counts: ShardCounts
) -> Iterator[Member]:
    """Yield the same members as `read_tar`. The bytes of the images are not read.

    The ids and their order are the same as in `read_tar`. This is also true for a damaged tar.
    Memory contains only headers. Ignored files are counted, but sidecars without an image are not
    counted.

    Raises:
        OSError: the store did not return the whole tar.
    """
    occurrences: dict[str, int] = defaultdict(int)
    end: ShardEndError | None = None
    with (
        contextlib.closing(_open(shard, options, JUMPING)) as file,
        contextlib.closing(_index(shard, limits, options)) as index,
    ):
        tarball = Tarball(Jumping(file))
        try:
            for header in tarball.headers():
                kind = kind_of(header)
                if kind is Kind.IMAGE:
                    image = _Image.of(header, occurrences, limits, index)
                    if header.size <= limits.max_member_bytes and not is_link(header):
                        tarball.skip(header)
                    yield _member(shard, image)
                elif kind is Kind.IGNORED:
                    counts.ignore(ignored_as(header))
                elif header.size <= limits.max_sidecar_bytes and not is_link(header):
                    tarball.skip(header)
        except ShardEndError as err:
            end = err
    if end is not None:
        yield Member.of(failed_shard(shard, end))


def _open(shard: Shard, options: ReadOptions, window: Window) -> RangedFile:
    return open_ranged(
        shard.uri,
        etag=shard.etag,
        size_bytes=shard.size_bytes,
        window=window,
        retry_s=options.retry_s,
    )


def _index(shard: Shard, limits: ReadLimits, options: ReadOptions) -> TarIndex:
    return TarIndex(lambda: _open(shard, options, JUMPING), limits)


@dataclass
class _Image:
    """An image in the tar. It is kept in memory until the sidecars with its key are read."""

    name: str
    occurrence: int
    offset: int | None
    length: int
    failure: SampleError | None
    data: bytes | None = None

    @classmethod
    def of(
        cls,
        header: tarfile.TarInfo,
        occurrences: dict[str, int],
        limits: ReadLimits,
        index: TarIndex,
    ) -> _Image:
        """Make an image from a header. Also add its name to ``occurrences``.

        Raises:
            OSError: the member is a link, and the store did not return the headers of the tar.
        """
        name, occurrence = header.name, occurrences[header.name]
        occurrences[name] += 1
        offset: int | None = header.offset_data
        length = header.size
        if is_link(header):
            place = index.target(header)
            if place is None:
                return cls(name, occurrence, None, 0, _link_failure(header))
            offset, length = place
        elif header.issparse():
            offset = None  # the bytes are not stored in one piece
        failure = _size_failure(name, length, limits)
        return cls(name, occurrence, offset, length, failure)


def _link_failure(header: tarfile.TarInfo) -> SampleError:
    return SampleError(
        Stage.READ,
        Reason.LINK_WITHOUT_TARGET,
        f"{header.name} is a link to {header.linkname}, but the tar does not contain this file, or "
        "stores it as a sparse file. Pack the files instead of the links (tar --dereference)",
    )


def _size_failure(name: str, length: int, limits: ReadLimits) -> SampleError | None:
    if length <= limits.max_member_bytes:
        return None
    return SampleError(
        Stage.READ,
        Reason.MEMBER_TOO_LARGE,
        f"{name} has {length} bytes. The limit is {limits.max_member_bytes} bytes",
    )


def _member(shard: Shard, image: _Image) -> Member:
    return Member(
        image_id=image_id(shard.archive, shard.path, image.name, image.occurrence),
        member=image.name,
        uri=f"{shard.uri}#{image.name}",
        etag=shard.etag,
        byte_offset=image.offset,
        byte_length=None if image.offset is None else image.length,
        failure=image.failure,
    )


@dataclass
class _Group:
    """Consecutive members with the same key."""

    key: str | None = None
    images: list[_Image] = field(default_factory=list)
    names: set[str] = field(default_factory=set)
    sidecars: dict[tuple[str, str], Sidecar] = field(default_factory=dict)
    num_bytes: int = 0


class _Reader:
    """Reads one shard once."""

    def __init__(
        self,
        shard: Shard,
        limits: ReadLimits,
        options: ReadOptions,
        counts: ShardCounts,
        index: TarIndex,
    ) -> None:
        self._shard = shard
        self._limits = limits
        self._options = options
        self._counts = counts
        self._index = index
        self._occurrences: dict[str, int] = defaultdict(int)
        self._group = _Group()
        self._num_sidecars = 0
        self._has_met_stray = False
        # Offsets of the sidecars that belong to an image. If a sidecar belongs to several images,
        # its offset is added once for each of these images.
        self._taken = array("Q")

    def samples(self) -> Iterator[Sample]:
        """Yield the samples in the shard.

        If the end of the shard cannot be read, the last sample is a failed sample that reports it.
        """
        end: ShardEndError | None = None
        with contextlib.closing(_open(self._shard, self._options, STREAMING)) as file:
            stream = Forward(file)
            tarball = Tarball(stream)
            try:
                for header in tarball.headers():
                    yield from self._take(tarball, header)
            except ShardEndError as err:
                end = err
        self._counts.num_bytes = stream.tell()
        yield from self._flush()
        self._counts.num_sidecars = len(np.unique(self._taken))
        self._counts.ignore(SIDECAR, self._num_sidecars - self._counts.num_sidecars)
        if end is not None:
            yield failed_shard(self._shard, end)

    def _take(self, tarball: Tarball, header: tarfile.TarInfo) -> Iterator[Sample]:
        """Add a member to the group.

        If the member has another key, yield the images of the group and begin a new group.
        """
        kind = kind_of(header)
        if kind is Kind.IGNORED:
            self._counts.ignore(ignored_as(header))
            return
        name, key = header.name, key_of(header.name)
        if key != self._group.key or name in self._group.names:
            # If the name is already in the group, begin a new group with the same key.
            yield from self._flush()
            self._group.key = key
        if kind is Kind.IMAGE:
            yield from self._take_image(tarball, header)
        else:
            yield from self._take_sidecar(tarball, header)
        self._group.names.add(name)

    def _take_image(self, tarball: Tarball, header: tarfile.TarInfo) -> Iterator[Sample]:
        image = _Image.of(header, self._occurrences, self._limits, self._index)
        if image.failure is None:
            yield from self._make_room(image.length)
            if is_link(header) and image.offset is not None:
                image.data = self._index.read(Place(image.offset, image.length))
            else:
                image.data = tarball.data(header)
        self._group.images.append(image)

    def _take_sidecar(self, tarball: Tarball, header: tarfile.TarInfo) -> Iterator[Sample]:
        content: bytes | str
        if is_link(header):
            content = self._index.linked_sidecar(header)
        elif header.size > self._limits.max_sidecar_bytes:
            content = too_large(header.name, self._limits)
        else:
            content = tarball.data(header)
        yield from self._make_room(len(content))
        place = (stem_of(header.name), suffix_of(header.name))
        self._group.sidecars[place] = Sidecar(header.offset_data, content)
        self._num_sidecars += 1

    def _make_room(self, num_bytes: int) -> Iterator[Sample]:
        """If the group would become too large with ``num_bytes`` more, yield its images."""
        num_bytes += MEMBER_OVERHEAD_BYTES
        if self._group.num_bytes + num_bytes > self._limits.max_group_bytes:
            yield from self._flush(key_goes_on=True)
        self._group.num_bytes += num_bytes

    def _flush(self, *, key_goes_on: bool = False) -> Iterator[Sample]:
        """Yield the images in the group, and begin an empty group.

        If ``key_goes_on`` is true, more members with the same key can follow. In this case, keep
        the sidecars that later images may need.
        """
        group = self._group
        for image in group.images:
            member = _member(self._shard, image)
            yield member.sample(self._shard, self._metadata(image), image.data)
        self._has_met_stray |= bool(group.sidecars) and not (group.images or key_goes_on)
        kept: dict[tuple[str, str], Sidecar] = {}
        num_bytes = 0
        if key_goes_on:
            done = {stem_of(image.name) for image in group.images}
            kept = {
                place: sidecar
                for place, sidecar in group.sidecars.items()
                if place[0] == group.key or place[0] not in done
            }
            num_bytes = sum(MEMBER_OVERHEAD_BYTES + len(s.content) for s in kept.values())
            if num_bytes > self._limits.max_group_bytes // 2:
                # The sidecars need too much memory, so do not keep them.
                kept, num_bytes = {}, 0
        self._group = _Group(key=group.key, sidecars=kept, num_bytes=num_bytes)

    def _has_strays(self) -> bool:
        """Return true if the tar may contain sidecars outside the group of their image."""
        return self._has_met_stray or self._index.ends_in_strays

    def _metadata(self, image: _Image) -> Metadata:
        sidecars = {suffix: self._beside(image, suffix) for suffix in sorted(SIDECAR_SUFFIXES)}
        if self._index.is_made or (not any(sidecars.values()) and self._has_strays()):
            for suffix, beside in sidecars.items():
                sidecars[suffix] = beside or self._index.sidecar(image.name, suffix)
        found: dict[str, bytes] = {}
        errors = []
        for suffix, sidecar in sidecars.items():
            if sidecar is None:
                continue
            self._taken.append(sidecar.offset)
            if isinstance(sidecar.content, str):
                errors.append(sidecar.content)
            else:
                found[suffix] = sidecar.content
        if not found and not errors:
            return Metadata()
        return parse_sidecar(found.get("json"), found.get("txt"), errors=tuple(errors))

    def _beside(self, image: _Image, suffix: str) -> Sidecar | None:
        own, shared = (stem_of(image.name), suffix), (key_of(image.name), suffix)
        return self._group.sidecars.get(own) or self._group.sidecars.get(shared)
