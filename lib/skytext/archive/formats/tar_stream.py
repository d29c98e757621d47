"""Read a tar as a forward-only stream, and check that the tar ends correctly.

The reader of images reads the data of the members. The code that reads only headers skips the data.
Both use this module, so they read the headers at the same positions. They also end at the same
position if the tar is damaged.
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
# A tar usually ends with zeros, because its size is a multiple of the record size (10 KiB by
# default). An unfinished copy can also end with zeros, if the copying program first created a file
# with the full size. Such a copy usually has many more zeros.
_MAX_PADDING_BYTES = 1 << 20

# The errors that tarfile raises for a damaged header. TarError is tarfile's own error. The other
# errors are raised when tarfile parses the values in the header.
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
    """An open stream of bytes."""

    def read(self, size: int, /) -> bytes:
        """Return up to ``size`` bytes. At the end of the stream, return no bytes."""
        ...


class SeekableSource(ByteSource, Protocol):
    """An open file that supports ``seek`` and ``size``."""

    def seek(self, offset: int, /) -> int:
        """Set the position."""
        ...

    def size(self) -> int:
        """Return the size in bytes."""
        ...


class Forward:
    """A forward-only stream for tarfile. Skipped bytes are read and discarded."""

    def __init__(self, source: ByteSource) -> None:
        self._source = source
        self._position = 0
        self._ahead = b""

    def tell(self) -> int:
        """Return the position in bytes."""
        return self._position

    def peek(self, size: int) -> bytes:
        """Return the next ``size`` bytes and keep the position.

        Call this method only at the beginning of the stream.
        """
        self._ahead = self._read(size)
        return self._ahead

    def read(self, size: int) -> bytes:
        """Return ``size`` bytes, or fewer at the end of the stream."""
        head, self._ahead = self._ahead[:size], self._ahead[size:]
        data = head + self._read(size - len(head)) if len(head) < size else head
        self._position += len(data)
        return data

    def seek(self, position: int) -> int:
        """Move forward to a position. If the stream ends before this position, stop at the end."""
        if position < self._position:
            raise tarfile.StreamError("seeking backwards is not allowed")
        self.skip(position - self._position)
        return self._position

    def skip(self, num_bytes: int) -> int:
        """Skip ``num_bytes`` bytes, or fewer at the end. Return the number of skipped bytes."""
        left = num_bytes
        while left and (data := self.read(min(left, _READ_BYTES))):
            left -= len(data)
        return num_bytes - left

    def _read(self, size: int) -> bytes:
        # Read in pieces, because the size in a damaged header can be much larger than the file.
        pieces = []
        while size and (piece := self._source.read(min(size, _READ_BYTES))):
            pieces.append(piece)
            size -= len(piece)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)


class Jumping(Forward):
    """A forward-only stream over a file with range requests. Skipped bytes are not read."""

    def __init__(self, source: SeekableSource) -> None:
        super().__init__(source)
        self._file = source

    def skip(self, num_bytes: int) -> int:
        """Skip ``num_bytes`` bytes, or fewer at the end. Return the number of skipped bytes."""
        num_bytes = min(num_bytes, max(self._file.size() - self._position, 0))
        head = self._ahead[:num_bytes]
        self._ahead = self._ahead[num_bytes:]
        self._position += num_bytes
        if len(head) < num_bytes:
            self._file.seek(self._position)
        return num_bytes


class _Header(tarfile.TarInfo):
    """A tar header. It refuses very large header extensions, and stores the last error of tarfile.

    tarfile stops without an error in three cases: at a damaged header, at the end of the file, and
    at the end-of-archive marker. Only the error that tarfile handles internally shows which case it
    is.
    """

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> Self:
        header = super().frombuf(buf, encoding, errors)
        extended = header.type in (
            *(tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE),
            *(tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK),
        )
        if header.size < 0 or (extended and header.size > _MAX_HEADER_BYTES):
            raise tarfile.HeaderError(f"a header contains the invalid size {header.size}")
        return header

    @classmethod
    def fromtarfile(cls, tarfile: tarfile.TarFile) -> Self:
        try:
            return super().fromtarfile(tarfile)
        except Exception as err:
            cast(_Tar, tarfile).end = err
            raise


class _Tar(tarfile.TarFile):
    """A tar that is read from a stream. ``end`` is the error that stopped the reading."""

    end: Exception | None = None
    tarinfo = _Header

    def next(self) -> tarfile.TarInfo | None:
        header = super().next()
        # TarFile stores all members in a list (1 KB per member). This list is not needed.
        self.members.clear()  # type: ignore[attr-defined]
        return header


class Tarball:
    """The members in a tar, in order."""

    def __init__(self, stream: Forward) -> None:
        self._stream = stream
        self._tar: _Tar | None = None
        self._num_members = 0
        self._offset = 0

    def headers(self) -> Iterator[tarfile.TarInfo]:
        """Yield the header of every member.

        The caller must read or skip the data of a member before it takes the next header.

        Raises:
            ShardEndError: the tar cannot be read at all, or cannot be read to its end.
            OSError: the store did not return the bytes.
        """
        head = self._stream.peek(tarfile.BLOCKSIZE)
        _check_head(head)
        try:
            self._tar = _Tar(
                mode="r",
                fileobj=cast(BinaryIO, self._stream),
                encoding="utf-8",
                # Names in the table must be valid Unicode.
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
        """Return the data of a member. ``header`` must be the last header from `headers`.

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
        """Skip the bytes that `data` reads, and raise the same errors as `data`.

        If the member is sparse, its data are read, because they contain the map of its parts.
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
            raise self._truncated(
                f"{header.name}: only {length} of {header.size} bytes could be read"
            )
        return data

    def _next(self) -> tarfile.TarInfo | None:
        try:
            header = self._opened.next()
        except _DAMAGE as err:
            raise self._truncated(str(err)) from err
        if header is not None:
            if header.size < 0:
                raise self._truncated(f"a header contains the invalid size {header.size}")
            self._num_members += 1
            self._offset = header.offset
        return header

    def _check_end(self) -> None:
        """Check that the tar ends with an end-of-archive marker, and that only zeros follow.

        Raises:
            ShardEndError: the tar does not end correctly.
        """
        end = self._opened.end
        if not isinstance(end, tarfile.EOFHeaderError):  # type: ignore[attr-defined]
            raise self._truncated(f"the end-of-archive marker is missing ({end})")
        num_zeros = 0
        while rest := self._stream.read(_READ_BYTES):
            if rest != _ZEROS[: len(rest)]:
                raise self._truncated(
                    "there are data after the end-of-archive marker: pack the shard again"
                )
            num_zeros += len(rest)
            if num_zeros > _MAX_PADDING_BYTES:
                # Stop here, because the result is the same for all bytes that can follow.
                raise self._truncated(
                    f"the tar ends with more than {_MAX_PADDING_BYTES} zero bytes: the file may be "
                    "an unfinished copy, or two archives in one file"
                )

    def _truncated(self, why: str) -> ShardEndError:
        return ShardEndError(
            Reason.SHARD_TRUNCATED,
            f"cannot be read after {self._num_members} members (the last of these members begins "
            f"at byte {self._offset}): {why}",
        )


def _check_head(head: bytes) -> None:
    if not head:
        raise ShardEndError(Reason.SHARD_UNREADABLE, "is empty: it has 0 bytes")
    for magic, name in _MAGICS:
        if head.startswith(magic):
            raise ShardEndError(
                Reason.SHARD_COMPRESSED,
                f"is compressed ({name}), and skytext cannot read single images from a compressed "
                "tar: decompress it",
            )


def _is_header(block: bytes) -> bool:
    """Return true if a block is a tar header with the correct checksum."""
    try:
        tarfile.TarInfo.frombuf(block, "utf-8", "backslashreplace")
    except tarfile.HeaderError:
        return False
    return True
