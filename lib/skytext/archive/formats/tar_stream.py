"""Walk a tar as a stream that only goes forward, and tell every way in which it may end.

One walk serves two callers: the reader, which takes the members' data, and the header walk, which
jumps over them. Both move through the same places in the same order, so both end alike on any
tar, however damaged it is.
"""

from __future__ import annotations

import tarfile
from collections.abc import Iterator
from typing import BinaryIO, Protocol, Self, cast

from skytext.archive.unreadable import ShardEndError
from skytext.errors import Reason

_READ_BYTES = 64 << 10
_MAX_HEADER_BYTES = 1 << 20
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


class ByteSource(Protocol):
    """Where the bytes come from: an open stream."""

    def read(self, size: int, /) -> bytes:
        """Return up to ``size`` bytes; none at the end."""
        ...


class SeekableSource(ByteSource, Protocol):
    """An open file that can jump, and knows its size."""

    def seek(self, offset: int, /) -> int:
        """Set the position."""
        ...

    def size(self) -> int:
        """Return the size in bytes."""
        ...


class Forward:
    """A stream for tarfile that goes forward only; what is skipped is read and dropped."""

    def __init__(self, source: ByteSource) -> None:
        self._source = source
        self._position = 0
        self._ahead = b""

    def tell(self) -> int:
        """Return the position in bytes."""
        return self._position

    def peek(self, size: int) -> bytes:
        """Return what the next ``read`` will begin with; called at the beginning only."""
        self._ahead = self._read(size)
        return self._ahead

    def read(self, size: int) -> bytes:
        """Return ``size`` bytes, fewer only at the end."""
        head, self._ahead = self._ahead[:size], self._ahead[size:]
        data = head + self._read(size - len(head)) if len(head) < size else head
        self._position += len(data)
        return data

    def seek(self, position: int) -> int:
        """Go forward to a position, or to the end where that comes first."""
        if position < self._position:
            raise tarfile.StreamError("seeking backwards is not allowed")
        self.skip(position - self._position)
        return self._position

    def skip(self, num_bytes: int) -> int:
        """Go forward; return by how many bytes, fewer only at the end."""
        left = num_bytes
        while left and (data := self.read(min(left, _READ_BYTES))):
            left -= len(data)
        return num_bytes - left

    def _read(self, size: int) -> bytes:
        # In pieces: a damaged header may claim far more than there is.
        pieces = []
        while size and (piece := self._source.read(min(size, _READ_BYTES))):
            pieces.append(piece)
            size -= len(piece)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)


class Jumping(Forward):
    """The same over a file that can be read by ranges: what is skipped is not read."""

    def __init__(self, source: SeekableSource) -> None:
        super().__init__(source)
        self._file = source

    def skip(self, num_bytes: int) -> int:
        """Go forward; return by how many bytes, fewer only at the end."""
        num_bytes = min(num_bytes, max(self._file.size() - self._position, 0))
        head = self._ahead[:num_bytes]
        self._ahead = self._ahead[num_bytes:]
        self._position += num_bytes
        if len(head) < num_bytes:
            self._file.seek(self._position)
        return num_bytes


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


class Tarball:
    """The members of a tar, in order."""

    def __init__(self, stream: Forward) -> None:
        self._stream = stream
        self._tar: _Tar | None = None
        self._num_members = 0
        self._offset = 0

    def headers(self) -> Iterator[tarfile.TarInfo]:
        """Yield the header of every member; its data may be taken before the next one is.

        Raises:
            ShardEndError: the tar cannot be read, or not any further.
            OSError: the store did not give the bytes.
        """
        head = self._stream.peek(tarfile.BLOCKSIZE)
        _check_head(head)
        try:
            self._tar = _Tar(
                mode="r",
                fileobj=cast(BinaryIO, self._stream),
                encoding="utf-8",
                # A name must be valid Unicode in every column it reaches.
                errors="backslashreplace",
            )
        except _DAMAGE as err:
            if _is_header(head):
                raise self._truncated(str(err)) from err
            raise ShardEndError(Reason.SHARD_UNREADABLE, f"is not a tar archive: {err}") from err
        while (header := self._next()) is not None:
            yield header
        self._check_end()

    def data(self, header: tarfile.TarInfo) -> bytes:
        """Return the data of the member whose header came last.

        Raises:
            ShardEndError: they are cut off.
        """
        try:
            member = self._opened.extractfile(header)
            data = member.read() if member is not None else b""
        except _DAMAGE as err:
            raise self._truncated(f"{header.name}: {err}") from err
        return self._whole(header, data, len(data))

    def skip(self, header: tarfile.TarInfo) -> None:
        """Pass over the same bytes as `data`, with the same errors.

        The parts of a sparse member lie where a map of its own says: they are read.
        """
        if header.issparse():
            self.data(header)
        elif header.size:
            try:
                self._stream.seek(header.offset_data)
            except _DAMAGE as err:
                raise self._truncated(f"{header.name}: {err}") from err
            if self._stream.skip(header.size) < header.size:
                raise self._truncated(f"{header.name}: unexpected end of data")

    @property
    def _opened(self) -> _Tar:
        if self._tar is None:
            raise RuntimeError("the tar was not opened: take its headers first")
        return self._tar

    def _whole(self, header: tarfile.TarInfo, data: bytes, length: int) -> bytes:
        if length != header.size:
            raise self._truncated(f"{header.name}: {length} of {header.size} bytes")
        return data

    def _next(self) -> tarfile.TarInfo | None:
        try:
            header = self._opened.next()
        except _DAMAGE as err:
            raise self._truncated(str(err)) from err
        if header is not None:
            if header.size < 0:
                raise self._truncated(f"a header claims {header.size} bytes")
            self._num_members += 1
            self._offset = header.offset
        return header

    def _check_end(self) -> None:
        """Tell an end-of-archive marker with nothing behind it from any other end."""
        end = self._opened.end
        if not isinstance(end, tarfile.EOFHeaderError):  # type: ignore[attr-defined]
            raise self._truncated(f"no end-of-archive marker ({end})")
        num_zeros = 0
        while rest := self._stream.read(_READ_BYTES):
            if rest != _ZEROS[: len(rest)]:
                raise self._truncated("data follow its end-of-archive marker: repack the shard")
            num_zeros += len(rest)
            if num_zeros > _MAX_PADDING_BYTES:
                # What comes behind them changes nothing: it need not be read.
                raise self._truncated(
                    f"more than {_MAX_PADDING_BYTES} zero bytes where its rest should be: an "
                    "unfinished copy, or a second archive behind the first"
                )

    def _truncated(self, why: str) -> ShardEndError:
        return ShardEndError(
            Reason.SHARD_TRUNCATED,
            f"cannot be read on after {self._num_members} members, the last at byte "
            f"{self._offset}: {why}",
        )


def _check_head(head: bytes) -> None:
    if not head:
        raise ShardEndError(Reason.SHARD_UNREADABLE, "is empty: it has 0 bytes")
    for magic, name in _MAGICS:
        if head.startswith(magic):
            raise ShardEndError(
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
