"""Read a tar as a forward-only stream, and distinguish every way in which it can end.

The reader takes the members' data; the header walk skips them. Both use this code and visit the
same positions in the same order, so both end at the same place even in a damaged tar.
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
# Writers pad with zeros to a record, 10 KiB by default. An unfinished copy in a file of the full
# size looks the same, but has far more zeros.
_MAX_PADDING_BYTES = 1 << 20

# tarfile raises these at a damaged header: its own errors, and those of int(), decoding and
# recursion on the header's values.
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
    """An open stream that gives the bytes."""

    def read(self, size: int, /) -> bytes:
        """Return up to ``size`` bytes; none at the end."""
        ...


class SeekableSource(ByteSource, Protocol):
    """An open file that supports seek and knows its size."""

    def seek(self, offset: int, /) -> int:
        """Set the position."""
        ...

    def size(self) -> int:
        """Return the size in bytes."""
        ...


class Forward:
    """A forward-only stream for tarfile; skipped bytes are read and dropped."""

    def __init__(self, source: ByteSource) -> None:
        self._source = source
        self._position = 0
        self._ahead = b""

    def tell(self) -> int:
        """Return the position in bytes."""
        return self._position

    def peek(self, size: int) -> bytes:
        """Return the bytes that the next ``read`` begins with; for the stream's beginning only."""
        self._ahead = self._read(size)
        return self._ahead

    def read(self, size: int) -> bytes:
        """Return ``size`` bytes, fewer only at the end."""
        head, self._ahead = self._ahead[:size], self._ahead[size:]
        data = head + self._read(size - len(head)) if len(head) < size else head
        self._position += len(data)
        return data

    def seek(self, position: int) -> int:
        """Go forward to a position, or to the end if the end comes first."""
        if position < self._position:
            raise tarfile.StreamError("seeking backwards is not allowed")
        self.skip(position - self._position)
        return self._position

    def skip(self, num_bytes: int) -> int:
        """Go forward; return the number of bytes skipped, fewer only at the end."""
        left = num_bytes
        while left and (data := self.read(min(left, _READ_BYTES))):
            left -= len(data)
        return num_bytes - left

    def _read(self, size: int) -> bytes:
        # Read in pieces: a damaged header may claim far more bytes than exist.
        pieces = []
        while size and (piece := self._source.read(min(size, _READ_BYTES))):
            pieces.append(piece)
            size -= len(piece)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)


class Jumping(Forward):
    """The same for a file that can be read by ranges: skipped bytes are not read."""

    def __init__(self, source: SeekableSource) -> None:
        super().__init__(source)
        self._file = source

    def skip(self, num_bytes: int) -> int:
        """Go forward; return the number of bytes skipped, fewer only at the end."""
        num_bytes = min(num_bytes, max(self._file.size() - self._position, 0))
        head = self._ahead[:num_bytes]
        self._ahead = self._ahead[num_bytes:]
        self._position += num_bytes
        if len(head) < num_bytes:
            self._file.seek(self._position)
        return num_bytes


class _Header(tarfile.TarInfo):
    """A tar header that limits the bytes that tarfile reads for it, and records how the tar ended.

    tarfile stops silently at a damaged header, at the end of the file and at the end-of-archive
    marker. Only the error raised inside distinguishes them.
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
        # TarFile remembers every member (1 KB each), but this reader never needs them again.
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
        """Yield the header of every member; take its data before the next header.

        Raises:
            ShardEndError: the tar cannot be read, or cannot be read further.
            OSError: the store did not return the bytes.
        """
        head = self._stream.peek(tarfile.BLOCKSIZE)
        _check_head(head)
        try:
            self._tar = _Tar(
                mode="r",
                fileobj=cast(BinaryIO, self._stream),
                encoding="utf-8",
                # Columns need valid Unicode names.
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
        """Return the data of the member of the last header.

        Raises:
            ShardEndError: the data are truncated.
        """
        try:
            member = self._opened.extractfile(header)
            data = member.read() if member is not None else b""
        except _DAMAGE as err:
            raise self._truncated(f"{header.name}: {err}") from err
        return self._whole(header, data, len(data))

    def skip(self, header: tarfile.TarInfo) -> None:
        """Skip the same bytes as `data`, with the same errors.

        The parts of a sparse member are described by a map in its data: they are read.
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
            raise RuntimeError("the tar is not open: call headers() first")
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
        """Raise unless the tar ends with an end-of-archive marker and nothing after it."""
        end = self._opened.end
        if not isinstance(end, tarfile.EOFHeaderError):  # type: ignore[attr-defined]
            raise self._truncated(f"no end-of-archive marker ({end})")
        num_zeros = 0
        while rest := self._stream.read(_READ_BYTES):
            if rest != _ZEROS[: len(rest)]:
                raise self._truncated("data after its end-of-archive marker: repack the shard")
            num_zeros += len(rest)
            if num_zeros > _MAX_PADDING_BYTES:
                # The bytes after them change nothing, so they are not read.
                raise self._truncated(
                    f"more than {_MAX_PADDING_BYTES} zero bytes at its end: an unfinished copy, "
                    "or a second archive after the first"
                )

    def _truncated(self, why: str) -> ShardEndError:
        return ShardEndError(
            Reason.SHARD_TRUNCATED,
            f"cannot be read further after {self._num_members} members, the last at byte "
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
