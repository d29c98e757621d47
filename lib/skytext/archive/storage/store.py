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
"""If the store does not respond, a request is repeated for this number of seconds."""


class ChangedError(OSError):
    """A file changed after it was listed."""


class UnavailableError(OSError):
    """The store sent no response or an incomplete response. The next request may succeed."""


def is_store_fault(error: Exception) -> bool:
    """Return true if the store caused an error, and false if the file is the cause.

    After an error of the store, a later read can succeed.
    """
    if isinstance(error, (UnavailableError, PermissionError)):
        return True
    # Errors of a disk or a network file system, such as EIO and ESTALE, have an error number.
    is_of_system = isinstance(error, OSError) and error.errno is not None
    return is_of_system and not isinstance(error, FileNotFoundError)


def changed_error(name: str) -> ChangedError:
    """Return the error for a file that changed after it was listed."""
    return ChangedError(f"{name} changed after it was listed. Run the command again")


def vanished_error(name: str) -> FileNotFoundError:
    """Return the error for a file that was deleted after it was listed."""
    return FileNotFoundError(f"{name} was deleted after it was listed. Run the command again")


@dataclass(frozen=True)
class StoredFile:
    """One file in a listing.

    Attributes:
        uri: the address of the file.
        size_bytes: size in bytes.
        etag: a string that changes when the content changes. On S3 it is the ETag without quotes.
            In other stores it contains the size and the time of the last write. If the file is a
            broken link, the etag is empty.
    """

    uri: str
    size_bytes: int
    etag: str


@dataclass(frozen=True)
class Found:
    """The files in a source.

    Attributes:
        kind: the kind of the source: a file, a folder or a pattern.
        root: the root folder. If the source is a folder, the root is the source. If it is a single
            file, the root is the folder that contains the file. If it is a pattern, the root is the
            deepest folder before the first wildcard.
        paths: the paths or keys of the files. If the listing contains sizes and etags, each item is
            a pair of the key and the file.
    """

    kind: Kind
    root: Location
    paths: Iterator[str] | Iterator[tuple[str, StoredFile]]


class Store(Protocol):
    """A store of files.

    The parameter ``etag`` is the etag of the file from a listing. If it is empty, the etag is not
    checked.

    Every method can raise an OSError: `FileNotFoundError`, `PermissionError`, `ChangedError`, or
    `UnavailableError` if the store did not respond within the retry time.
    """

    def find(self, source: str, location: Location) -> Found:
        """Find one file, files in a folder and its sub-folders, or files that match a pattern.

        Raises:
            SourceError: the source does not exist, the store refuses access, or the store cannot
                be reached. The iteration over the paths can also raise this error.
        """
        ...

    def look(self, path: str) -> StoredFile | None:
        """Return the size and etag of a file. Use this if the listing does not contain them.

        Return None if the file was deleted.
        """
        ...

    def stat(self, location: Location) -> StoredFile:
        """Return the size and etag of one file."""
        ...

    def folder(self, location: Location) -> Iterator[tuple[str, StoredFile | None]]:
        """Yield the name and the facts of each file directly in a folder, sorted by code point.

        The facts are size and etag. If the listing does not contain the facts, they are None. In
        this case, call `look`.
        """
        ...

    def open_ranged(
        self, location: Location, etag: str, size_bytes: int | None, window: Window
    ) -> RangedFile:
        """Open a file, so that byte ranges of it can be read."""
        ...

    def read_range(self, location: Location, offset: int, length: int, etag: str) -> bytes:
        """Read up to ``length`` bytes, beginning at byte ``offset``."""
        ...


@dataclass(frozen=True, slots=True)
class ObjectStore(ABC):
    """A store with buckets and keys. The listing of a prefix contains the keys that begin with it.

    Attributes:
        retry_s: if the store does not respond, the request is repeated for this number of seconds.
    """

    retry_s: float = DEFAULT_RETRY_S

    @abstractmethod
    def stat(self, location: Location) -> StoredFile:
        """Return the size and etag of one object."""

    @abstractmethod
    def objects(self, bucket: str, prefix: str, *, deep: bool) -> Iterator[tuple[str, StoredFile]]:
        """Yield the key and the facts of each object whose key begins with ``prefix``.

        The order is the order in which the store lists the keys. It is usually ascending.

        Args:
            bucket: the bucket.
            prefix: the beginning of the keys.
            deep: false to leave out objects whose key contains a slash after the prefix.
        """

    @abstractmethod
    def source_error(self, source: str, location: Location, err: OSError) -> SourceError:
        """Return an error that says in one line why a source cannot be listed, and what to do."""

    @abstractmethod
    def read_range(self, location: Location, offset: int, length: int, etag: str) -> bytes:
        """Read up to ``length`` bytes, beginning at byte ``offset``."""

    def lookup(self, location: Location) -> StoredFile | None:
        """Return one object. Return None if it does not exist or the store refuses access.

        Also return None if the address is the root of a bucket or ends with a slash, because such
        an address is a folder.
        """
        if location.path == location.prefix:
            return None
        # The response of S3 to a HEAD request has no body, so it does not show the reason of the
        # error. The bucket, the object or the permission can be missing. Ignore the error here,
        # because the caller then lists the folder, and the error from the listing shows the reason.
        with contextlib.suppress(FileNotFoundError, PermissionError):
            return self.stat(location)
        return None

    def find(self, source: str, location: Location) -> Found:
        """Find the objects below a prefix, the objects that match a pattern, or one object."""
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
        """Raise an error. This method is not used, because listings contain sizes and etags."""
        raise NotImplementedError(path)

    def folder(self, location: Location) -> Iterator[tuple[str, StoredFile | None]]:
        """Yield the objects directly below a prefix, sorted by code point."""
        prefix = location.prefix
        last = ""
        for key, file in self.objects(location.bucket, prefix, deep=False):
            name = key[len(prefix) :]
            if not name:
                continue  # an empty object that a web console has created for the folder
            if name <= last:
                # S3 directory buckets list objects in arbitrary order. But the reader needs a
                # sorted list, so that an image and its sidecars follow each other.
                raise OSError(
                    f"the store does not list {location.uri} in sorted order, so image files in "
                    "this folder cannot be read: pack the images into .tar shards"
                )
            last = name
            yield name, file

    def open_ranged(
        self, location: Location, etag: str, size_bytes: int | None, window: Window
    ) -> RangedFile:
        """Open an object, so that byte ranges of it can be read."""
        if size_bytes is None or not etag:
            stored = self.stat(location)
            if etag and stored.etag != etag:
                raise changed_error(location.uri)
            size_bytes, etag = stored.size_bytes, stored.etag

        def fetch(offset: int, length: int) -> bytes:
            data = self.read_range(location, offset, length, etag)
            if len(data) < length:
                raise OSError(
                    f"{location.uri} is shorter than its listed size. Run the command again"
                )
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
                f"{source!r} does not exist. Bucket {location.bucket!r} has no object whose name "
                f"is {location.path!r} or starts with {location.prefix!r}. Check the address"
            )
