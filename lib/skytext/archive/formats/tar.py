"""Read the images out of a WebDataset tar shard, as a stream.

INPUT: a :class:`Shard`. OUTPUT: a :class:`Sample` for every image in it, in order.
FAN-OUT: one shard, as many samples as it has image members, plus one for an unreadable tail.
ON ERROR: a failed sample where the bytes are damaged; an OSError where the store does not give
them.

Members are grouped as WebDataset groups them (https://github.com/webdataset/webdataset): the key
is the member's path up to the first dot of its base name, and neighbours of one key belong
together. Every image of a key is a sample of its own. An image takes the ``.json`` and ``.txt``
beside it whose name equals its own up to the last suffix (``a.rgb.json`` for ``a.rgb.png``), else
the one named by the key alone (``a.json``).

Nothing is extracted, so a name is only a string, whatever path it spells.
"""

from __future__ import annotations

import contextlib
import tarfile
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import Enum

from skytext.archive.formats.tar_stream import Forward, Jumping, Tarball
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
from skytext.archive.suffixes import IMAGE_SUFFIXES, SIDECAR_SUFFIXES
from skytext.archive.unreadable import ShardEndError, failed_shard
from skytext.errors import Reason, SampleError, Stage

_MEMBER_OVERHEAD_BYTES = 512  # about what Python needs to remember a member of no bytes


def read_tar(
    shard: Shard, limits: ReadLimits, options: ReadOptions, counts: ShardCounts
) -> Iterator[Sample]:
    """Yield the images of a tar shard; never raises for what the shard holds.

    At most ``limits.max_group_bytes`` plus one member are held at any time.

    Args:
        shard: the shard, as :func:`skytext.archive.discover` found it.
        limits: how much may be held in memory.
        options: how the store is asked.
        counts: filled while reading.

    Raises:
        OSError: the store did not give all of it. Images whose sidecars may be missing are left
            out.
    """
    yield from _Reader(shard, limits, options, counts).samples()


def list_tar(shard: Shard, limits: ReadLimits, options: ReadOptions) -> Iterator[Member]:
    """Yield what `read_tar` would, without the images: their bytes are jumped over.

    The ids, their order and their number are those of `read_tar` on the same bytes, on a damaged
    tar too. Only headers are held.

    Raises:
        OSError: the store did not give all of it.
    """
    occurrences: dict[str, int] = defaultdict(int)
    end: ShardEndError | None = None
    try:
        with contextlib.closing(_open(shard, options, JUMPING)) as file:
            tarball = Tarball(Jumping(file))
            for header in tarball.headers():
                kind = _kind(header)
                if kind is _Kind.IMAGE:
                    image = _Image.of(header, occurrences)
                    if header.size <= limits.max_member_bytes:
                        tarball.skip(header)
                    yield _member(shard, limits, image)
                elif kind is _Kind.SIDECAR and header.size <= limits.max_sidecar_bytes:
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


class _Kind(Enum):
    """What a member of a tar is."""

    IMAGE = 1
    SIDECAR = 2
    IGNORED = 3
    SKIPPED = 4


def _kind(header: tarfile.TarInfo) -> _Kind:
    folder, _, base = header.name.rpartition("/")
    if not header.isreg() or base.startswith("._") or "__MACOSX" in folder.split("/"):
        return _Kind.SKIPPED
    suffix = base.rpartition(".")[2].lower()
    if suffix in IMAGE_SUFFIXES:
        return _Kind.IMAGE
    return _Kind.SIDECAR if suffix in SIDECAR_SUFFIXES else _Kind.IGNORED


def _stem(name: str) -> str:
    folder, slash, base = name.rpartition("/")
    return folder + slash + base.rpartition(".")[0]


@dataclass
class _Image:
    """An image member that waits for the sidecars of its key."""

    name: str
    occurrence: int
    offset: int | None
    length: int
    data: bytes | None = None

    @classmethod
    def of(cls, header: tarfile.TarInfo, occurrences: dict[str, int]) -> _Image:
        """Read a header, and count it among those of its name."""
        occurrence = occurrences[header.name]
        occurrences[header.name] += 1
        # A sparse member is not stored in one piece.
        offset = None if header.issparse() else header.offset_data
        return cls(header.name, occurrence, offset, header.size)

    @property
    def stem(self) -> str:
        """The name up to its last suffix."""
        return _stem(self.name)

    def failure(self, limits: ReadLimits) -> SampleError | None:
        """Say why the image is not read; None where it is."""
        if self.length <= limits.max_member_bytes:
            return None
        return SampleError(
            Stage.READ,
            Reason.MEMBER_TOO_LARGE,
            f"{self.name} has {self.length} bytes, more than the limit of "
            f"{limits.max_member_bytes}",
        )


def _member(shard: Shard, limits: ReadLimits, image: _Image) -> Member:
    return Member(
        image_id=image_id(shard.archive, shard.path, image.name, image.occurrence),
        member=image.name,
        uri=f"{shard.uri}#{image.name}",
        etag=shard.etag,
        byte_offset=image.offset,
        byte_length=None if image.offset is None else image.length,
        failure=image.failure(limits),
    )


@dataclass
class _Group:
    """The neighbouring members of one key."""

    key: str | None = None
    images: list[_Image] = field(default_factory=list)
    names: set[str] = field(default_factory=set)
    sidecars: dict[tuple[str, str], bytes | str] = field(default_factory=dict)
    used: set[tuple[str, str]] = field(default_factory=set)
    num_bytes: int = 0


class _Reader:
    """Reads one shard once."""

    def __init__(
        self, shard: Shard, limits: ReadLimits, options: ReadOptions, counts: ShardCounts
    ) -> None:
        self._shard = shard
        self._limits = limits
        self._options = options
        self._counts = counts
        self._occurrences: dict[str, int] = defaultdict(int)
        self._group = _Group()

    def samples(self) -> Iterator[Sample]:
        """Yield the samples of the shard, a failed one last where its rest is unreadable."""
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
        if end is not None:
            yield failed_shard(self._shard, end)

    def _take(self, tarball: Tarball, header: tarfile.TarInfo) -> Iterator[Sample]:
        """Add a member to its group, which goes on when another key begins."""
        kind = _kind(header)
        if kind is _Kind.SKIPPED:
            self._counts.num_skipped += 1
            return
        name = header.name
        base = name.rpartition("/")[2]
        key = name[: len(name) - len(base)] + base.partition(".")[0]
        if key != self._group.key or name in self._group.names:
            # A name that comes again begins another sample of the same key.
            yield from self._flush()
            self._group.key = key
        if kind is _Kind.IMAGE:
            yield from self._take_image(tarball, header)
        elif kind is _Kind.SIDECAR:
            yield from self._take_sidecar(tarball, header)
        else:
            self._counts.num_ignored += 1

    def _take_image(self, tarball: Tarball, header: tarfile.TarInfo) -> Iterator[Sample]:
        image = _Image.of(header, self._occurrences)
        if header.size <= self._limits.max_member_bytes:
            yield from self._make_room(header.size)
            image.data = tarball.data(header)
        self._group.images.append(image)
        self._group.names.add(header.name)

    def _take_sidecar(self, tarball: Tarball, header: tarfile.TarInfo) -> Iterator[Sample]:
        content: bytes | str
        if header.size > self._limits.max_sidecar_bytes:
            content = f"{header.name} is larger than {self._limits.max_sidecar_bytes} bytes"
        else:
            yield from self._make_room(header.size)
            content = tarball.data(header)
        suffix = header.name.rpartition(".")[2].lower()
        self._group.sidecars[_stem(header.name), suffix] = content
        self._group.names.add(header.name)

    def _make_room(self, num_bytes: int) -> Iterator[Sample]:
        """Let the images that wait go on where the group would become too large."""
        num_bytes += _MEMBER_OVERHEAD_BYTES
        if self._group.num_bytes + num_bytes > self._limits.max_group_bytes:
            yield from self._flush(key_goes_on=True)
        self._group.num_bytes += num_bytes

    def _flush(self, *, key_goes_on: bool = False) -> Iterator[Sample]:
        """Yield the images that wait; keep the sidecars that later ones of the key may need."""
        group = self._group
        for image in group.images:
            yield self._sample(image, self._metadata(image))
        if key_goes_on:
            done = {image.stem for image in group.images}
            kept = {
                place: content
                for place, content in group.sidecars.items()
                if place[0] == group.key or place[0] not in done
            }
            num_bytes = sum(_MEMBER_OVERHEAD_BYTES + len(content) for content in kept.values())
            if num_bytes > self._limits.max_group_bytes // 2:
                # Sidecars without an image, too many to wait for one any longer.
                kept, num_bytes = {}, 0
        else:
            kept, num_bytes = {}, 0
        gone = group.sidecars.keys() - kept.keys()
        self._counts.num_sidecars += len(gone & group.used)
        self._counts.num_ignored += len(gone - group.used)
        self._group = _Group(
            key=group.key,
            sidecars=kept,
            used=group.used & kept.keys(),
            num_bytes=num_bytes,
        )

    def _metadata(self, image: _Image) -> Metadata:
        found: dict[str, bytes] = {}
        errors = []
        for suffix in sorted(SIDECAR_SUFFIXES):
            places = ((image.stem, suffix), (self._group.key or "", suffix))
            place = next((place for place in places if place in self._group.sidecars), None)
            if place is None:
                continue
            self._group.used.add(place)
            content = self._group.sidecars[place]
            if isinstance(content, str):
                errors.append(content)
            else:
                found[suffix] = content
        if not found and not errors:
            return Metadata()
        return parse_sidecar(found.get("json"), found.get("txt"), errors=tuple(errors))

    def _sample(self, image: _Image, said: Metadata) -> Sample:
        member = _member(self._shard, self._limits, image)
        return member.sample(self._shard, said, image.data)
