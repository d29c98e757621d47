"""Local files as a store."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterator
from typing import BinaryIO, NoReturn

from skytext.addresses.address_parser import Location
from skytext.archive.storage.patterns import is_pattern, pattern_root
from skytext.archive.storage.ranged_file import RangedFile
from skytext.archive.storage.store import Found, StoredFile, changed_error
from skytext.errors import SourceError

_STREAM_BUFFER_BYTES = 1 << 20


class LocalStore:
    """The files of this machine."""

    def find(self, source: str, location: Location) -> Found:
        """Find the files of a folder with its sub-folders, of a pattern, or one single file."""
        path = location.path
        if os.path.isfile(path):
            return Found("file", location.parent, iter([path]))
        if os.path.isdir(path):
            return Found("folder", location, _walk(path))
        if is_pattern(path):
            # Brackets are ordinary characters here, as they are in the pattern of an S3 source.
            names = glob.iglob(path.replace("[", "[[]"))
            files = (name for name in names if not os.path.isdir(name))
            return Found("glob", pattern_root(location), files)
        raise SourceError(f"{source!r} does not exist ({path}): check the path")

    def look(self, path: str) -> StoredFile:
        """Return the size and etag of a file that a listing named."""
        uri = Location("file", "", path).uri
        try:
            stat = os.stat(path)
        except OSError:
            # A dangling link, say: it is listed, so that reading it becomes a failed row.
            return StoredFile(uri, 0, "")
        return StoredFile(uri, stat.st_size, _etag(stat))

    def stat(self, location: Location) -> StoredFile:
        """Return the size and etag of one file."""
        return StoredFile(location.uri, *_size_and_etag(os.stat(location.path)))

    def folder(self, location: Location) -> Iterator[tuple[str, StoredFile | None]]:
        """Yield the names directly in a folder, sorted by code point."""
        with os.scandir(location.path) as entries:
            names = sorted(entry.name for entry in entries if not _is_folder(entry))
        for name in names:
            yield name, None

    def open_stream(self, location: Location, etag: str) -> BinaryIO:
        """Open a file for reading from its beginning."""
        stream = open(location.path, "rb", buffering=_STREAM_BUFFER_BYTES)  # noqa: SIM115
        try:
            self._check(location, stream.fileno(), etag)
        except OSError:
            stream.close()
            raise
        return stream

    def open_ranged(self, location: Location, etag: str, size_bytes: int | None) -> RangedFile:
        """Open a file for reading by ranges."""
        fd = os.open(location.path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            stat = self._check(location, fd, etag)
        except OSError:
            os.close(fd)
            raise

        def fetch(offset: int, length: int) -> bytes:
            data = b""
            while len(data) < length and (piece := os.pread(fd, length - len(data), offset)):
                data = data + piece if data else piece
                offset += len(piece)
            if len(data) < length:
                raise OSError(f"{location.path} became shorter while it was read: run again")
            return data

        return RangedFile(fetch, stat.st_size, on_close=lambda: os.close(fd))

    def read_range(self, location: Location, offset: int, length: int, etag: str) -> bytes:
        """Read up to ``length`` bytes from ``offset``."""
        with self.open_stream(location, etag) as stream:
            stream.seek(offset)
            return stream.read(length)

    @staticmethod
    def _check(location: Location, fd: int, etag: str) -> os.stat_result:
        stat = os.fstat(fd)
        if etag and _etag(stat) != etag:
            raise changed_error(location.path)
        return stat


def _etag(stat: os.stat_result) -> str:
    return f"{stat.st_size}-{stat.st_mtime_ns}"


def _size_and_etag(stat: os.stat_result) -> tuple[int, str]:
    return stat.st_size, _etag(stat)


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link into a folder that may not be entered
        return False


def _walk(root: str) -> Iterator[str]:
    """Yield the files below a folder, links followed, each real folder entered once."""
    seen: set[str] = set()
    try:
        for folder, folders, names in os.walk(root, onerror=_raise, followlinks=True):
            real = os.path.realpath(folder)
            if real in seen:
                folders.clear()
                continue
            seen.add(real)
            folders[:] = sorted(name for name in folders if not name.startswith("."))
            yield from (os.path.join(folder, name) for name in names if not name.startswith("."))
    except OSError as err:
        raise SourceError(f"cannot list {err.filename or root}: {err.strerror or err}") from err


def _raise(err: OSError) -> NoReturn:
    raise err
