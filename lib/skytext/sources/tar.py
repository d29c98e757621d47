"""Read the images out of a WebDataset tar shard, as a stream.

INPUT: a :class:`Shard`. OUTPUT: a :class:`Sample` for every image in it, in order.
FAN-OUT: one shard, as many samples as it has image members, plus one for an unreadable tail.
ON ERROR: a failed sample; nothing that a shard holds makes reading raise.

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
from typing import BinaryIO, Self, cast

from skytext.errors import Reason, SampleError, Stage
from skytext.sources.base import Metadata, ReadLimits, Sample, Shard, ShardCounts, image_id
from skytext.sources.sidecar import parse_sidecar
from skytext.sources.storage import READ_ERRORS, open_stream

IMAGE_SUFFIXES = frozenset({"jpg", "jpeg", "png", "webp", "tif", "tiff"})
_SIDECAR_SUFFIXES = frozenset({"json", "txt"})

_READ_BYTES = 64 << 10
_MAX_HEADER_BYTES = 1 << 20
_MEMBER_OVERHEAD_BYTES = 512  # about what Python needs to remember a member of no bytes
_ZEROS = bytes(_READ_BYTES)
# Writers pad with zeros to a record, 10 KiB by default. A copy that was broken off in a file of
# the full size looks the same, but for the amount.
_MAX_PADDING_BYTES = 1 << 20

# What a damaged header makes tarfile raise: its own errors, and those of the int(), decoding
# and recursion that it does with what the header says.
_DAMAGE = (
    tarfile.TarError,
    ValueError,
    LookupError,
    ArithmeticError,
    TypeError,
    AttributeError,
    RecursionError,
    EOFError,
)

_MAGICS = (
    (b"\x1f\x8b", "gzip"),
    (b"BZh", "bzip2"),
    (b"\xfd7zXZ\x00", "xz"),
    (b"\x28\xb5\x2f\xfd", "zstd"),
    (b"\x04\x22\x4d\x18", "lz4"),
    (b"\x1f\x9d", "compress"),
)


def read_shard(
    shard: Shard, *, limits: ReadLimits | None = None, counts: ShardCounts | None = None
) -> Iterator[Sample]:
    """Yield the images of a tar shard; never raises for what the shard holds.

    At most ``limits.max_group_bytes`` plus one member are held at any time.

    Args:
        shard: the shard, as :func:`skytext.sources.discover` found it.
        limits: how much may be held in memory; the defaults where None.
        counts: filled while reading, where given.
    """
    limits = limits or ReadLimits()
    counts = counts if counts is not None else ShardCounts()
    for sample in _Reader(shard, limits, counts).samples():
        if sample.failure is None:
            counts.num_ok += 1
        else:
            counts.num_failed += 1
        yield sample


class _End(Exception):
    """The shard, or the rest of it, cannot be read."""

    def __init__(self, reason: Reason, detail: str) -> None:
        self.reason = reason
        self.detail = detail
        super().__init__(detail)


class _Header(tarfile.TarInfo):
    """A tar header that bounds what tarfile would read for it, and tells how the tar ended.

    tarfile ends silently at a damaged header and at the end of the file, as it does at the
    end-of-archive marker; only the error raised inside tells them apart.
    """

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> Self:
        header = super().frombuf(buf, encoding, errors)
        extended = header.type in (
            *(tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE),
            *(tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK),
        )
        if header.size < 0 or (extended and header.size > _MAX_HEADER_BYTES):
            raise tarfile.HeaderError(f"a header claims {header.size} bytes")
        return header

    @classmethod
    def fromtarfile(cls, tarfile: tarfile.TarFile) -> Self:
        try:
            return super().fromtarfile(tarfile)
        except Exception as err:
            cast(_Tar, tarfile).end = err
            raise


class _Tar(tarfile.TarFile):
    """A tar read from a stream; ``end`` is the error that its last header raised."""

    end: Exception | None = None
    tarinfo = _Header

    def next(self) -> tarfile.TarInfo | None:
        header = super().next()
        # TarFile remembers every member it met, 1 KB each, and never looks at them again here.
        self.members.clear()  # type: ignore[attr-defined]
        return header


class _Tail:
    """A stream with a few bytes put back before it."""

    def __init__(self, head: bytes, stream: BinaryIO) -> None:
        self._head = head
        self._stream = stream

    def read(self, size: int) -> bytes:
        if self._head:
            head, self._head = self._head, b""
            return head
        return self._stream.read(size)


@dataclass
class _Image:
    """An image member that waits for the sidecars of its key."""

    name: str
    stem: str
    occurrence: int
    offset: int | None
    length: int
    data: bytes | None


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

    def __init__(self, shard: Shard, limits: ReadLimits, counts: ShardCounts) -> None:
        self._shard = shard
        self._limits = limits
        self._counts = counts
        self._occurrences: dict[str, int] = defaultdict(int)
        self._group = _Group()
        self._num_members = 0
        self._offset = 0

    def samples(self) -> Iterator[Sample]:
        """Yield the samples of the shard, a failed one last where its rest is unreadable."""
        end: _End | None = None
        try:
            with contextlib.closing(open_stream(self._shard.uri, etag=self._shard.etag)) as stream:
                yield from self._read(stream)
        except _End as err:
            end = err
        except READ_ERRORS as err:
            end = _End(Reason.SHARD_UNREADABLE, f"cannot be read: {err}")
        yield from self._flush()
        if end is not None:
            yield self._failed_shard(end)

    def _read(self, stream: BinaryIO) -> Iterator[Sample]:
        head = stream.read(tarfile.BLOCKSIZE)
        _check_head(head)
        try:
            tar = _Tar.open(
                fileobj=cast(BinaryIO, _Tail(head, stream)),
                mode="r|",
                bufsize=_READ_BYTES,
                encoding="utf-8",
                # A name must be valid Unicode in every column it reaches.
                errors="backslashreplace",
            )
        except _DAMAGE as err:
            if _is_header(head):
                raise self._truncated(str(err)) from err
            raise _End(Reason.SHARD_UNREADABLE, f"is not a tar archive: {err}") from err
        with contextlib.closing(tar):
            while (header := self._next(tar)) is not None:
                yield from self._take(tar, header)
            self._check_end(tar)

    def _next(self, tar: _Tar) -> tarfile.TarInfo | None:
        try:
            header = tar.next()
        except _DAMAGE as err:
            raise self._truncated(str(err)) from err
        if header is not None:
            if header.size < 0:
                raise self._truncated(f"a header claims {header.size} bytes")
            self._num_members += 1
            self._offset = header.offset
        return header

    def _check_end(self, tar: _Tar) -> None:
        """Tell an end-of-archive marker with nothing behind it from any other end."""
        if not isinstance(tar.end, tarfile.EOFHeaderError):  # type: ignore[attr-defined]
            raise self._truncated(f"no end-of-archive marker ({tar.end})")
        num_zeros = 0
        while rest := (tar.fileobj.read(_READ_BYTES) if tar.fileobj is not None else b""):
            if rest != _ZEROS[: len(rest)]:
                raise self._truncated("data follow its end-of-archive marker: repack the shard")
            num_zeros += len(rest)
        if num_zeros > _MAX_PADDING_BYTES:
            raise self._truncated(
                f"{num_zeros} zero bytes where its rest should be: an unfinished copy"
            )

    def _truncated(self, why: str) -> _End:
        return _End(
            Reason.SHARD_TRUNCATED,
            f"cannot be read on after {self._num_members} members, the last at byte "
            f"{self._offset}: {why}",
        )

    def _take(self, tar: _Tar, header: tarfile.TarInfo) -> Iterator[Sample]:
        """Add a member to its group, which goes on when another key begins."""
        name = header.name
        folder, _, base = name.rpartition("/")
        if not header.isreg() or base.startswith("._") or "__MACOSX" in folder.split("/"):
            self._counts.num_skipped += 1
            return
        key = name[: len(name) - len(base)] + base.partition(".")[0]
        if key != self._group.key or name in self._group.names:
            # A name that comes again begins another sample of the same key.
            yield from self._flush()
            self._group.key = key
        stem, _, suffix = base.rpartition(".")
        stem = name[: len(name) - len(base)] + stem
        if suffix.lower() in IMAGE_SUFFIXES:
            yield from self._take_image(tar, header, stem)
        elif suffix.lower() in _SIDECAR_SUFFIXES:
            yield from self._take_sidecar(tar, header, stem, suffix.lower())
        else:
            self._counts.num_ignored += 1

    def _take_image(self, tar: _Tar, header: tarfile.TarInfo, stem: str) -> Iterator[Sample]:
        occurrence = self._occurrences[header.name]
        self._occurrences[header.name] += 1
        data = None
        if header.size <= self._limits.max_member_bytes:
            yield from self._make_room(header.size)
            data = self._data(tar, header)
        offset = None if header.issparse() else header.offset_data
        self._group.images.append(_Image(header.name, stem, occurrence, offset, header.size, data))
        self._group.names.add(header.name)

    def _take_sidecar(
        self, tar: _Tar, header: tarfile.TarInfo, stem: str, suffix: str
    ) -> Iterator[Sample]:
        content: bytes | str
        if header.size > self._limits.max_sidecar_bytes:
            content = f"{header.name} is larger than {self._limits.max_sidecar_bytes} bytes"
        else:
            yield from self._make_room(header.size)
            content = self._data(tar, header)
        self._group.sidecars[stem, suffix] = content
        self._group.names.add(header.name)

    def _make_room(self, num_bytes: int) -> Iterator[Sample]:
        """Let the images that wait go on where the group would become too large."""
        num_bytes += _MEMBER_OVERHEAD_BYTES
        if self._group.num_bytes + num_bytes > self._limits.max_group_bytes:
            yield from self._flush(key_goes_on=True)
        self._group.num_bytes += num_bytes

    def _data(self, tar: _Tar, header: tarfile.TarInfo) -> bytes:
        try:
            member = tar.extractfile(header)
            data = member.read() if member is not None else b""
        except _DAMAGE as err:
            raise self._truncated(f"{header.name}: {err}") from err
        if len(data) != header.size:
            raise self._truncated(f"{header.name}: {len(data)} of {header.size} bytes")
        return data

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
        for suffix in sorted(_SIDECAR_SUFFIXES):
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
        shard = self._shard
        failure = None
        if image.data is None:
            failure = SampleError(
                Stage.READ,
                Reason.MEMBER_TOO_LARGE,
                f"{image.name} has {image.length} bytes, more than the limit of "
                f"{self._limits.max_member_bytes}",
            )
        return Sample(
            **vars(said),
            image_id=image_id(shard.archive, shard.path, image.name, image.occurrence),
            archive=shard.archive,
            shard=shard.path,
            member=image.name,
            uri=f"{shard.uri}#{image.name}",
            shard_etag=shard.etag,
            byte_offset=image.offset,
            byte_length=None if image.offset is None else image.length,
            data=image.data,
            failure=failure,
        )

    def _failed_shard(self, end: _End) -> Sample:
        shard = self._shard
        return Sample(
            image_id=image_id(shard.archive, shard.path, "", 0),
            archive=shard.archive,
            shard=shard.path,
            member="",
            uri=shard.uri,
            shard_etag=shard.etag,
            byte_offset=None,
            byte_length=None,
            data=None,
            failure=SampleError(Stage.READ, end.reason, f"shard {shard.path} {end.detail}"),
        )


def _check_head(head: bytes) -> None:
    if not head:
        raise _End(Reason.SHARD_UNREADABLE, "is empty: it has 0 bytes")
    for magic, name in _MAGICS:
        if head.startswith(magic):
            raise _End(
                Reason.SHARD_COMPRESSED,
                f"is compressed ({name}): unpack it, because random access into a compressed "
                "tar is impossible",
            )


def _is_header(block: bytes) -> bool:
    """Whether a block is a tar header with the right checksum."""
    try:
        tarfile.TarInfo.frombuf(block, "utf-8", "backslashreplace")
    except tarfile.HeaderError:
        return False
    return True
