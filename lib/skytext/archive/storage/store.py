"""What every store can do, and what object stores have in common."""

from __future__ import annotations

import contextlib
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Literal, Protocol, TypeVar

import tenacity

from skytext.addresses.address_parser import Location
from skytext.archive.storage.patterns import is_pattern, pattern_regex, pattern_root
from skytext.archive.storage.ranged_file import RangedFile, Window
from skytext.errors import SourceError

Kind = Literal["file", "folder", "glob"]
T = TypeVar("T")

DEFAULT_RETRY_S = 120.0
"""How long a request that the store does not answer is repeated."""


class ChangedError(OSError):
    """A file is not the one that was listed."""


class UnavailableError(OSError):
    """The store gave no answer, or not all of it; the next request may succeed."""


def is_store_fault(error: Exception) -> bool:
    """Return whether an error says nothing of the file: the store may give it another time."""
    if isinstance(error, (UnavailableError, PermissionError)):
        return True
    # A disk or a mount that fails: EIO, ESTALE, ETIMEDOUT and so on.
    is_of_system = isinstance(error, OSError) and error.errno is not None
    return is_of_system and not isinstance(error, FileNotFoundError)


def changed_error(name: str) -> ChangedError:
    """Return the error of a file that is not the one that was listed."""
    return ChangedError(f"{name} changed after it was listed: run again")


def vanished_error(name: str) -> FileNotFoundError:
    """Return the error of a file that is not there any more."""
    return FileNotFoundError(f"{name} vanished after it was listed: run again")


@dataclass(frozen=True)
class StoredFile:
    """One file as a listing saw it.

    Attributes:
        uri: where it is.
        size_bytes: its size in bytes.
        etag: changes when the content does: the S3 ETag without quotes, elsewhere
            size and time of the last write; empty where the file could not be looked at.
    """

    uri: str
    size_bytes: int
    etag: str


@dataclass(frozen=True)
class Found:
    """What a source names, before anything of it is read.

    Attributes:
        kind: how the source named it.
        root: the folder that paths are relative to: the folder itself, the folder that holds
            the single file, or the deepest folder before the first wildcard.
        paths: the paths or keys of its files, with what a listing that tells more has told.
    """

    kind: Kind
    root: Location
    paths: Iterator[str] | Iterator[tuple[str, StoredFile]]


class Store(Protocol):
    """A place that files lie in. ``etag`` is that of a listing, or empty for none.

    Every method may raise OSError: `FileNotFoundError`, `PermissionError`, `ChangedError`, and
    `UnavailableError` where the store did not answer for as long as requests are repeated.
    """

    def find(self, source: str, location: Location) -> Found:
        """Find the files of a folder with its sub-folders, of a pattern, or one single file.

        Raises:
            SourceError: missing, refused or unreachable; also while the paths are iterated.
        """
        ...

    def look(self, path: str) -> StoredFile | None:
        """Return the size and etag of a file that a listing named without them.

        None where the file is gone since.
        """
        ...

    def stat(self, location: Location) -> StoredFile:
        """Return the size and etag of one file."""
        ...

    def folder(self, location: Location) -> Iterator[tuple[str, StoredFile | None]]:
        """Yield the names of the files directly in a folder, sorted by code point.

        None where the listing did not tell size and etag: `look` does.
        """
        ...

    def open_ranged(
        self, location: Location, etag: str, size_bytes: int | None, window: Window
    ) -> RangedFile:
        """Open a file for reading by ranges."""
        ...

    def read_range(self, location: Location, offset: int, length: int, etag: str) -> bytes:
        """Read up to ``length`` bytes from ``offset``."""
        ...


@dataclass(frozen=True, slots=True)
class ObjectStore(ABC):
    """A store of buckets and keys, listed by prefix.

    Attributes:
        retry_s: for how long requests without an answer are repeated.
    """

    retry_s: float = DEFAULT_RETRY_S

    @abstractmethod
    def stat(self, location: Location) -> StoredFile:
        """Return the size and etag of one object."""

    @abstractmethod
    def objects(self, bucket: str, prefix: str, *, deep: bool) -> Iterator[tuple[str, StoredFile]]:
        """Yield the objects whose key begins with ``prefix``, with their keys, in key order.

        Args:
            bucket: the bucket.
            prefix: what the keys begin with.
            deep: also those with a slash behind the prefix.
        """

    @abstractmethod
    def source_error(self, source: str, location: Location, err: OSError) -> SourceError:
        """Say why a source cannot be listed, and what to do about it, in one line."""

    @abstractmethod
    def read_range(self, location: Location, offset: int, length: int, etag: str) -> bytes:
        """Read up to ``length`` bytes from ``offset``."""

    def lookup(self, location: Location) -> StoredFile | None:
        """Return one object; None where there is none, or where the store will not say.

        None for the root of a bucket and for a path with a slash at its end: that is a folder.
        """
        if location.path == location.prefix:
            return None
        # A HEAD of S3 has no body to tell a missing bucket, a missing object and a missing right
        # apart; the listing that follows does, and its error is the one to report.
        with contextlib.suppress(FileNotFoundError, PermissionError):
            return self.stat(location)
        return None

    def find(self, source: str, location: Location) -> Found:
        """Find the objects below a prefix, of a pattern, or one single object."""
        try:
            if is_pattern(location.path):
                location = replace(location, path=location.path.removesuffix("/"))
                paths = self._matching(source, location)
                return Found("glob", pattern_root(location), paths)
            single = self.lookup(location)
        except OSError as err:
            raise self.source_error(source, location, err) from err
        if single is not None:
            return Found("file", location.parent, iter([(location.path, single)]))
        return Found("folder", location, self._below(source, location))

    def look(self, path: str) -> StoredFile | None:
        """Listings of object stores tell everything."""
        raise NotImplementedError(path)

    def folder(self, location: Location) -> Iterator[tuple[str, StoredFile | None]]:
        """Yield the objects directly below a prefix, sorted by code point."""
        prefix = location.prefix
        last = ""
        for key, file in self.objects(location.bucket, prefix, deep=False):
            name = key[len(prefix) :]
            if not name:
                continue  # an empty object that consoles make to show a folder
            if name <= last:
                # Directory buckets of S3 list in no order; what belongs together lies apart.
                raise OSError(f"the store lists {location.uri} unsorted: pack it into .tar shards")
            last = name
            yield name, file

    def open_ranged(
        self, location: Location, etag: str, size_bytes: int | None, window: Window
    ) -> RangedFile:
        """Open an object for reading by ranges."""
        if size_bytes is None or not etag:
            stored = self.stat(location)
            if etag and stored.etag != etag:
                raise changed_error(location.uri)
            size_bytes, etag = stored.size_bytes, stored.etag

        def fetch(offset: int, length: int) -> bytes:
            data = self.read_range(location, offset, length, etag)
            if len(data) < length:
                raise OSError(f"{location.uri} is shorter than it was listed: run again")
            return data

        return RangedFile(fetch, size_bytes, window)

    def ask(self, request: Callable[[], T]) -> T:
        """Send a request, again and again for ``retry_s`` where the store is unavailable."""
        retrying = tenacity.Retrying(
            retry=tenacity.retry_if_exception_type(UnavailableError),
            wait=tenacity.wait_random_exponential(multiplier=0.5, max=10),
            stop=tenacity.stop_before_delay(self.retry_s),
            reraise=True,
        )
        return retrying(request)

    def _matching(self, source: str, location: Location) -> Iterator[tuple[str, StoredFile]]:
        matches = pattern_regex(location.path).fullmatch
        prefix = re.split(r"[*?]", location.path)[0]
        try:
            for key, file in self.objects(location.bucket, prefix, deep=True):
                if matches(key):
                    yield key, file
        except OSError as err:
            raise self.source_error(source, location, err) from err

    def _below(self, source: str, location: Location) -> Iterator[tuple[str, StoredFile]]:
        num_found = 0
        try:
            for key, file in self.objects(location.bucket, location.prefix, deep=True):
                num_found += 1
                yield key, file
        except OSError as err:
            raise self.source_error(source, location, err) from err
        if not num_found and location.path:
            raise SourceError(
                f"{source!r} does not exist: bucket {location.bucket!r} has no object of this "
                "name and none below it: check the prefix"
            )
