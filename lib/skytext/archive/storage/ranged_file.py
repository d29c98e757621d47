"""A stored file that supports ``seek`` and fetches only the byte ranges that are read.

The window is the number of bytes that one request fetches. It grows during sequential reads, and
becomes small after a jump. So if a program reads only headers that are far apart, only a few
kilobytes are fetched for each header. If the headers are close together, the whole file is fetched.
"""

from __future__ import annotations

import io
import os
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

NEAR_BYTES = 64 << 10
"""If the position moves forward by at most this number of bytes, the reads count as sequential."""


@dataclass(frozen=True, slots=True)
class Window:
    """The number of bytes that one request fetches.

    Attributes:
        first_bytes: the size of the window after a jump.
        max_bytes: the maximum size of the window. If the caller reads more bytes, they are still
            fetched completely.
        reads_ahead: true to fetch the next range while the caller processes the current range. This
            saves time, because a store needs 10 to 50 ms even for a small request.
    """

    first_bytes: int
    max_bytes: int
    reads_ahead: bool = False


JUMPING = Window(4 << 10, 4 << 20)
"""For random access. The first window is large enough for the header of a tar member with its
extension."""
STREAMING = Window(1 << 20, 8 << 20, reads_ahead=True)
"""For reading a file from the beginning to the end."""


class RangedFile(io.RawIOBase):
    """A read-only, seekable file. It calls a function to fetch byte ranges.

    Attributes:
        fault: the error from the last range that could not be fetched, or None. A library that
            reads this file may hide this error and report a damaged file instead. This attribute
            shows that the store is the cause.
        num_fetched_bytes: total number of fetched bytes.
    """

    def __init__(
        self,
        fetch: Callable[[int, int], bytes],
        size_bytes: int,
        window: Window = JUMPING,
        *,
        on_close: Callable[[], None] | None = None,
    ) -> None:
        """Make a file from the function ``fetch(offset, length)``.

        Args:
            fetch: the function that fetches a range. It returns exactly ``length`` bytes or raises
                an error. The requested range is always inside the file.
            size_bytes: the size of the file.
            window: how many bytes one request fetches.
            on_close: a function that is called once, when the file is closed.
        """
        super().__init__()
        self._fetch = fetch
        self._size = size_bytes
        self._on_close = on_close
        self._position = 0
        self._start = 0
        self._buffer = b""
        self._limits = window
        self._window = window.first_bytes
        self._ahead: tuple[int, Future[bytes]] | None = None
        # If ``on_close`` is given, the file is a local file. A local file must not be closed while
        # a thread reads from it. So do not read ahead.
        reads_ahead = window.reads_ahead and on_close is None
        self._pool = ThreadPoolExecutor(1, "read-ahead") if reads_ahead else None
        self.fault: Exception | None = None
        self.num_fetched_bytes = 0

    def readable(self) -> bool:
        """Return True."""
        return True

    def seekable(self) -> bool:
        """Return True."""
        return True

    def tell(self) -> int:
        """Return the position in bytes."""
        return self._position

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Set the position without fetching bytes."""
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._size}[whence]
        if base + offset < 0:
            raise ValueError(f"position {base + offset} is before the beginning of the file")
        self._position = base + offset
        return self._position

    def size(self) -> int:
        """Return the file's size in bytes."""
        return self._size

    def readinto(self, buffer: object) -> int:
        """Fill a buffer with the next bytes of the file. Return the number of bytes."""
        view = memoryview(buffer).cast("B")  # type: ignore[arg-type]
        data = self.read(len(view))
        view[: len(data)] = data
        return len(data)

    def read(self, size: int | None = -1) -> bytes:
        """Return ``size`` bytes, or fewer at the end of the file.

        If ``size`` is None or negative, return all remaining bytes.
        """
        rest = max(self._size - self._position, 0)
        size = rest if size is None or size < 0 else min(size, rest)
        if size == 0:
            return b""
        begin = self._position - self._start
        if not 0 <= begin <= len(self._buffer) - size:
            self._fill(size)
            begin = self._position - self._start
        self._position += size
        return self._buffer[begin : begin + size]

    def close(self) -> None:
        """Release the buffer and close the underlying file."""
        if not self.closed:
            self._buffer = b""
            if self._pool is not None:
                self._pool.shutdown(wait=False, cancel_futures=True)
            super().close()
            if self._on_close is not None:
                self._on_close()

    def _fill(self, size: int) -> None:
        """Fetch bytes, so that the buffer contains ``size`` bytes after the current position."""
        end = self._start + len(self._buffer)
        kept = b""
        if self._start <= self._position < end:
            kept = self._buffer[self._position - self._start :]
        gap = self._position + len(kept) - end
        if self._buffer and 0 <= gap <= NEAR_BYTES:
            self._window = min(self._window * 2, self._limits.max_bytes)
        else:
            self._window = self._limits.first_bytes
        offset = self._position + len(kept)
        length = min(max(self._window, size - len(kept)), self._size - offset)
        try:
            data = self._take_ahead(offset) or self._fetch(offset, length)
            missing = size - len(kept) - len(data)
            if missing > 0:
                data += self._fetch(offset + len(data), missing)
        except Exception as err:
            self.fault = err
            raise
        self.num_fetched_bytes += len(data)
        self._start, self._buffer = self._position, kept + data
        self._read_ahead(offset + len(data))

    def _take_ahead(self, offset: int) -> bytes | None:
        """Return the bytes that were read ahead, if they begin at ``offset``. Otherwise None."""
        if self._ahead is None:
            return None
        (start, future), self._ahead = self._ahead, None
        return future.result() if start == offset else None

    def _read_ahead(self, offset: int) -> None:
        length = min(self._window * 2, self._limits.max_bytes, self._size - offset)
        if self._pool is not None and length > 0:
            self._ahead = offset, self._pool.submit(self._fetch, offset, length)
