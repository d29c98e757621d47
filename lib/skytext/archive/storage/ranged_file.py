"""A stored file that supports seek and fetches only the ranges that are read.

The window grows during sequential reads and shrinks after a jump. So headers far apart cost a few
kilobytes each, and a file of small members, whose headers are close together, is read completely.
"""

from __future__ import annotations

import io
import os
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

NEAR_BYTES = 64 << 10
"""A shorter jump forward counts as sequential reading."""


@dataclass(frozen=True, slots=True)
class Window:
    """How much is fetched at once.

    Attributes:
        first_bytes: the window after a jump.
        max_bytes: the most that is fetched beyond the request.
        reads_ahead: fetch the next range while the caller works on this one. A store needs 10 to
            50 ms for a request of any size.
    """

    first_bytes: int
    max_bytes: int
    reads_ahead: bool = False


JUMPING = Window(4 << 10, 4 << 20)
"""For random access: holds a header with its extension, of any format."""
STREAMING = Window(1 << 20, 8 << 20, reads_ahead=True)
"""For reading from the beginning to the end."""


class RangedFile(io.RawIOBase):
    """A read-only, seekable file over a function that fetches ranges.

    Attributes:
        fault: the error of the last range that could not be fetched. Libraries that read this
            file may turn it into an error about a damaged file; this attribute allows to tell
            them apart.
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
        """Wrap ``fetch(offset, length)``, which returns exactly that many bytes or raises.

        Args:
            fetch: called for ranges inside the file only.
            size_bytes: the file's size.
            window: how much is fetched at once.
            on_close: called once, when the file is closed.
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
        # A file must not be closed while a thread reads it.
        reads_ahead = window.reads_ahead and on_close is None
        self._pool = ThreadPoolExecutor(1, "read-ahead") if reads_ahead else None
        self.fault: Exception | None = None
        self.num_fetched_bytes = 0

    def readable(self) -> bool:
        """It is."""
        return True

    def seekable(self) -> bool:
        """It is."""
        return True

    def tell(self) -> int:
        """Return the position in bytes."""
        return self._position

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Set the position; nothing is fetched."""
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._size}[whence]
        if base + offset < 0:
            raise ValueError(f"position {base + offset} is before the file's beginning")
        self._position = base + offset
        return self._position

    def size(self) -> int:
        """Return the file's size in bytes."""
        return self._size

    def readinto(self, buffer: object) -> int:
        """Fill a buffer, up to the end of the file."""
        view = memoryview(buffer).cast("B")  # type: ignore[arg-type]
        data = self.read(len(view))
        view[: len(data)] = data
        return len(data)

    def read(self, size: int | None = -1) -> bytes:
        """Return ``size`` bytes, fewer only at the end of the file; -1 for the whole rest."""
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
        """Make the buffer begin at or before the position and hold ``size`` bytes from there."""
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
        """Return the bytes that were fetched ahead, if they begin at ``offset``."""
        if self._ahead is None:
            return None
        (start, future), self._ahead = self._ahead, None
        return future.result() if start == offset else None

    def _read_ahead(self, offset: int) -> None:
        length = min(self._window * 2, self._limits.max_bytes, self._size - offset)
        if self._pool is not None and length > 0:
            self._ahead = offset, self._pool.submit(self._fetch, offset, length)
