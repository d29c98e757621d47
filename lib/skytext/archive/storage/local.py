"""The store for files on this machine."""

from __future__ import annotations

import errno
import io
import os
from collections.abc import Iterator
from typing import NoReturn

from skytext.addresses.address_parser import Location
from skytext.archive.storage.patterns import is_pattern, pattern_regex, pattern_root
from skytext.archive.storage.ranged_file import RangedFile, Window
from skytext.archive.storage.store import Found, StoredFile, changed_error, vanished_error
from skytext.errors import SourceError

_DANGLING = (errno.ENOENT, errno.ELOOP, errno.ENOTDIR)
"""The error numbers that a broken link causes."""


class LocalStore:
    """The files on this machine."""

    def find(self, source: str, location: Location) -> Found:
        """Find one file, files in a folder and its sub-folders, or files that match a pattern."""
        path = location.path
        if os.path.isfile(path):
            return Found("file", location.parent, iter([path]))
        if os.path.isdir(path):
            return Found("folder", location, _walk(path))
        if is_pattern(path):
            root = pattern_root(location)
            return Found("glob", root, _matching(root.path, path[len(root.prefix) :]))
        raise SourceError(f"{source!r} does not exist ({path}): check the path")

    def look(self, path: str) -> StoredFile | None:
        """Return the size and etag of a listed file. Return None if the file was deleted."""
        uri = Location("file", "", path).uri
        try:
            return StoredFile(uri, *_size_and_etag(os.stat(path)))
        except OSError as err:
            if err.errno in _DANGLING and os.path.islink(path):
                # Do not leave out a broken link, because the table must get a failed row for it.
                return StoredFile(uri, 0, "")
            if isinstance(err, FileNotFoundError):
                return None
            raise

    def stat(self, location: Location) -> StoredFile:
        """Return the size and etag of one file."""
        return StoredFile(location.uri, *_size_and_etag(os.stat(location.path)))

    def folder(self, location: Location) -> Iterator[tuple[str, StoredFile | None]]:
        """Yield the names directly in a folder, sorted by code point."""
        with os.scandir(location.path) as entries:
            names = sorted(entry.name for entry in entries if not _is_folder(entry))
        for name in names:
            yield name, None

    def open_ranged(
        self, location: Location, etag: str, size_bytes: int | None, window: Window
    ) -> RangedFile:
        """Open a file, so that byte ranges of it can be read."""
        file = self._open(location, etag)
        fd = file.fileno()

        def fetch(offset: int, length: int) -> bytes:
            data = b""
            while len(data) < length and (piece := os.pread(fd, length - len(data), offset)):
                data = data + piece if data else piece
                offset += len(piece)
            if len(data) < length:
                raise OSError(
                    f"{location.path} was truncated while it was read. Run the command again"
                )
            return data

        return RangedFile(fetch, os.fstat(fd).st_size, window, on_close=file.close)

    def read_range(self, location: Location, offset: int, length: int, etag: str) -> bytes:
        """Read up to ``length`` bytes, beginning at byte ``offset``."""
        with self._open(location, etag) as file:
            file.seek(offset)
            return file.read(length)

    @staticmethod
    def _open(location: Location, etag: str) -> io.FileIO:
        try:
            file = open(location.path, "rb", buffering=0)  # noqa: SIM115  # the caller closes it
        except FileNotFoundError as err:
            raise vanished_error(location.path) from err
        if etag and _etag(os.fstat(file.fileno())) != etag:
            file.close()
            raise changed_error(location.path)
        return file


def _etag(stat: os.stat_result) -> str:
    return f"{stat.st_size}-{stat.st_mtime_ns}"


def _size_and_etag(stat: os.stat_result) -> tuple[int, str]:
    return stat.st_size, _etag(stat)


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # the entry is a link into a folder that is not readable
        return False


def _walk(root: str) -> Iterator[str]:
    """Yield the files in a folder and its sub-folders.

    Links to folders are followed. If a folder has several paths because of links, it is listed only
    once.
    """
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


def _matching(folder: str, pattern: str) -> Iterator[str]:
    """Yield the files that match a pattern. The pattern is relative to ``folder``.

    Do not use the standard module `glob`, because it raises no error if it cannot list a folder.
    """
    part, slash, rest = pattern.partition("/")
    matches = pattern_regex(part).fullmatch
    try:
        with os.scandir(folder) as entries:
            found = [(entry.name, _is_folder(entry)) for entry in entries if matches(entry.name)]
    except OSError as err:
        if err.errno in _DANGLING:
            return
        raise SourceError(f"cannot list {folder}: {err.strerror or err}") from err
    for name, is_folder in sorted(found):
        path = os.path.join(folder, name)
        if slash and name.startswith(".") == part.startswith("."):
            yield from _matching(path, rest)
        elif not slash and not is_folder:
            yield path


def _raise(err: OSError) -> NoReturn:
    raise err
