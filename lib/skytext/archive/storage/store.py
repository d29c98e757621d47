"""The interface of every store, and the common part of object stores."""

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
"""Seconds for which a request without an answer is repeated."""


class ChangedError(OSError):
    """A file changed after it was listed."""


class UnavailableError(OSError):
    """The store sent no answer, or not all of it; the next request may succeed."""


def is_store_fault(error: Exception) -> bool:
    """Return whether an error is the store's, not the file's: a later read may succeed."""
    if isinstance(error, (UnavailableError, PermissionError)):
        return True
    # Errors of a disk or a mount: EIO, ESTALE, ETIMEDOUT and so on.
    is_of_system = isinstance(error, OSError) and error.errno is not None
    return is_of_system and not isinstance(error, FileNotFoundError)


def changed_error(name: str) -> ChangedError:
    """Return the error for a file that changed after it was listed."""
    return ChangedError(f"{name} changed after it was listed: run again")


def vanished_error(name: str) -> FileNotFoundError:
    """Return the error for a file that was deleted after it was listed."""
    return FileNotFoundError(f"{name} was deleted after it was listed: run again")


@dataclass(frozen=True)
class StoredFile:
    """One file from a listing.

    Attributes:
        uri: its address.
        size_bytes: size in bytes.
        etag: changes when the content changes: the S3 ETag without quotes, elsewhere size and
            time of the last write; empty for a file that cannot be read.
    """

    uri: str
    size_bytes: int
    etag: str


@dataclass(frozen=True)
class Found:
    """The files that a source names, before any is read.

    Attributes:
        kind: how the source was named.
        root: the folder that paths are relative to: the folder itself, the folder of the single
            file, or the deepest folder before the first wildcard.
        paths: the paths or keys of its files, with size and etag if the listing has them.
    """

    kind: Kind
    root: Location
    paths: Iterator[str] | Iterator[tuple[str, StoredFile]]


class Store(Protocol):
    """A store of files. ``etag`` is that of a listing, or empty for none.

    Every method may raise OSError: `FileNotFoundError`, `PermissionError`, `ChangedError`, or
    `UnavailableError` if the store did not answer within the retry time.
    """

    def find(self, source: str, location: Location) -> Found:
        """Find the files of a folder with its sub-folders, of a pattern, or one single file.

        Raises:
            SourceError: missing, refused or unreachable; also while the paths are iterated.
        """
        ...

    def look(self, path: str) -> StoredFile | None:
        """Return the size and etag of a file that was listed without them.

        None if the file was deleted.
        """
        ...

    def stat(self, location: Location) -> StoredFile:
        """Return the size and etag of one file."""
        ...

    def folder(self, location: Location) -> Iterator[tuple[str, StoredFile | None]]:
        """Yield the names of the files directly in a folder, sorted by code point.

        None if the listing has no size and etag: `look` returns them.
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
        retry_s: seconds for which requests without an answer are repeated.
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
            prefix: the beginning of the keys.
            deep: also keys with a slash after the prefix.
        """

    @abstractmethod
    def source_error(self, source: str, location: Location, err: OSError) -> SourceError:
        """Return one line that says why a source cannot be listed, and what to do."""

    @abstractmethod
    def read_range(self, location: Location, offset: int, length: int, etag: str) -> bytes:
        """Read up to ``length`` bytes from ``offset``."""

    def lookup(self, location: Location) -> StoredFile | None:
        """Return one object; None if it does not exist or the store refuses.

        Also None for the root of a bucket and for a path with a trailing slash: that is a folder.
        """
        if location.path == location.prefix:
            return None
        # A HEAD of S3 has no body that distinguishes a missing bucket, a missing object and a
        # missing permission. The listing that follows does, so its error is reported.
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
        """Unused: listings of object stores already have size and etag."""
        raise NotImplementedError(path)

    def folder(self, location: Location) -> Iterator[tuple[str, StoredFile | None]]:
        """Yield the objects directly below a prefix, sorted by code point."""
        prefix = location.prefix
        last = ""
        for key, file in self.objects(location.bucket, prefix, deep=False):
            name = key[len(prefix) :]
            if not name:
                continue  # consoles create an empty object to show a folder
            if name <= last:
                # S3 directory buckets list without order, so files of one key are not neighbours.
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
                raise OSError(f"{location.uri} is shorter than its listed size: run again")
            return data

        return RangedFile(fetch, size_bytes, window)

    def ask(self, request: Callable[[], T]) -> T:
        """Send a request; repeat it for ``retry_s`` seconds while the store is unavailable."""
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
