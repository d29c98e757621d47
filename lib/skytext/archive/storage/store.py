"""The interface of all stores, and the common code of object stores."""

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
"""How long a request is repeated while the store does not respond, in seconds."""


class ChangedError(OSError):
    """A file changed after it was listed."""


class UnavailableError(OSError):
    """The store sent no response or an incomplete response. The next request may succeed."""


def is_store_fault(error: Exception) -> bool:
    """Return whether the store caused an error, not the file. A later read may then succeed."""
    if isinstance(error, (UnavailableError, PermissionError)):
        return True
    # Errors of a disk or a network mount, such as EIO, ESTALE and ETIMEDOUT, have an error number.
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
        uri: the address of the file.
        size_bytes: size in bytes.
        etag: a string that changes when the content changes. On S3 it is the ETag without quotes.
            In other stores it consists of the size and the time of the last write. It is empty if
            the file is a broken link.
    """

    uri: str
    size_bytes: int
    etag: str


@dataclass(frozen=True)
class Found:
    """The files that a source names.

    Attributes:
        kind: whether the source is a file, a folder or a pattern.
        root: the folder to which paths are relative. For a folder, it is the folder itself. For a
            single file, it is the folder of the file. For a pattern, it is the deepest folder
            before the first wildcard.
        paths: the paths or keys of the files, with size and etag if the listing contains them.
    """

    kind: Kind
    root: Location
    paths: Iterator[str] | Iterator[tuple[str, StoredFile]]


class Store(Protocol):
    """A store of files.

    The parameter ``etag`` is the etag from a listing. If it is empty, the etag is not checked.

    Every method may raise an OSError: `FileNotFoundError`, `PermissionError`, `ChangedError`, or
    `UnavailableError` if the store did not respond within the retry time.
    """

    def find(self, source: str, location: Location) -> Found:
        """Find the files of a folder with its sub-folders, the files of a pattern, or one file.

        Raises:
            SourceError: the source does not exist, the store refuses access, or the store cannot
                be reached. The iteration over the paths may also raise this error.
        """
        ...

    def look(self, path: str) -> StoredFile | None:
        """Return the size and etag of a file if the listing does not contain them.

        None if the file was deleted.
        """
        ...

    def stat(self, location: Location) -> StoredFile:
        """Return the size and etag of one file."""
        ...

    def folder(self, location: Location) -> Iterator[tuple[str, StoredFile | None]]:
        """Yield the name and the record of each file directly in a folder, sorted by code point.

        The record is None if the listing has no size and etag. `look` returns the record.
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
    """A store with buckets and keys. Objects are listed by the prefix of their keys.

    Attributes:
        retry_s: how long a request is repeated while the store does not respond, in seconds.
    """

    retry_s: float = DEFAULT_RETRY_S

    @abstractmethod
    def stat(self, location: Location) -> StoredFile:
        """Return the size and etag of one object."""

    @abstractmethod
    def objects(self, bucket: str, prefix: str, *, deep: bool) -> Iterator[tuple[str, StoredFile]]:
        """Yield the key and the record of each object whose key begins with ``prefix``.

        The keys are in the order of the store, which is usually ascending.

        Args:
            bucket: the bucket.
            prefix: the beginning of the keys.
            deep: whether to yield also the objects whose key has a slash after the prefix.
        """

    @abstractmethod
    def source_error(self, source: str, location: Location, err: OSError) -> SourceError:
        """Return an error with one line that says why a source cannot be listed, and what to do."""

    @abstractmethod
    def read_range(self, location: Location, offset: int, length: int, etag: str) -> bytes:
        """Read up to ``length`` bytes from ``offset``."""

    def lookup(self, location: Location) -> StoredFile | None:
        """Return one object; None if it does not exist or the store refuses access.

        None also for the root of a bucket and for a path with a trailing slash, because these are
        folders.
        """
        if location.path == location.prefix:
            return None
        # The response to a HEAD request of S3 has no body. So it does not show whether the bucket,
        # the object or the permission is missing. The caller lists the folder next, and the error
        # of the listing shows this.
        with contextlib.suppress(FileNotFoundError, PermissionError):
            return self.stat(location)
        return None

    def find(self, source: str, location: Location) -> Found:
        """Find the objects below a prefix, the objects of a pattern, or one object."""
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
        """Not used, because listings of object stores already contain size and etag."""
        raise NotImplementedError(path)

    def folder(self, location: Location) -> Iterator[tuple[str, StoredFile | None]]:
        """Yield the objects directly below a prefix, sorted by code point."""
        prefix = location.prefix
        last = ""
        for key, file in self.objects(location.bucket, prefix, deep=False):
            name = key[len(prefix) :]
            if not name:
                continue  # the web consoles of stores create an empty object for a folder
            if name <= last:
                # S3 directory buckets list objects in no order. But the reader of a folder needs
                # an image and its sidecars next to each other.
                raise OSError(
                    f"the store does not list {location.uri} in sorted order, as a folder of image "
                    "files needs: pack the images into .tar shards"
                )
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
        """Send a request, and repeat it for ``retry_s`` seconds while the store is unavailable."""
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
                f"{source!r} does not exist: bucket {location.bucket!r} has no object with this "
                "name, and no object below this prefix: check the prefix"
            )
