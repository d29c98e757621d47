"""List files in local folders and object stores, and read them by ranges.

Each function works with every store: local paths and ``file://``, ``s3://``
(:mod:`skytext.archive.storage.s3`) and ``gs://`` (:mod:`skytext.archive.storage.gcs`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from skytext.addresses.address_parser import Location, parse_location
from skytext.archive.storage.gcs import GcsStore
from skytext.archive.storage.local import LocalStore
from skytext.archive.storage.ranged_file import JUMPING, RangedFile, Window
from skytext.archive.storage.s3 import S3Store
from skytext.archive.storage.store import (
    DEFAULT_RETRY_S,
    Found,
    Kind,
    ObjectStore,
    Store,
    StoredFile,
)
from skytext.archive.suffixes import is_hidden
from skytext.errors import SourceError

_NUM_EXAMPLES = 3


class Listing:
    """The files of a source; iterate over it once.

    Attributes:
        kind: how the source was named.
        root: the folder that paths are relative to: the folder itself, the folder of the single
            file, or the deepest folder before the first wildcard.
        others: names of some files that have none of the suffixes; complete after iteration.
        num_others: number of files that have none of the suffixes; complete after iteration.
    """

    def __init__(self, found: Found, store: Store, suffixes: Sequence[str]) -> None:
        self.kind: Kind = found.kind
        self.root: Location = found.root
        self.others: list[str] = []
        self.num_others = 0
        self._found = found
        self._store = store
        self._suffixes = tuple(suffixes)

    def __iter__(self) -> Iterator[tuple[str, StoredFile]]:
        """Yield pairs of the path relative to ``root`` ('/'-separated) and the file.

        Only files with one of the requested suffixes, in the order of the store.

        Raises:
            SourceError: the store refuses, or can no longer be reached.
        """
        prefix = self.root.prefix
        for item in self._found.paths:
            path, file = (item, None) if isinstance(item, str) else item
            relative = path[len(prefix) :]
            if path.endswith("/") or is_hidden(relative):
                continue
            if path.lower().endswith(self._suffixes):
                file = file or self._look(path)
                if file is not None:
                    yield relative, file
            else:
                self.num_others += 1
                if len(self.others) < _NUM_EXAMPLES:
                    self.others.append(relative)

    def _look(self, path: str) -> StoredFile | None:
        try:
            return self._store.look(path)
        except OSError as err:
            raise SourceError(f"cannot read {path}: {err.strerror or err}") from err


def list_files(
    source: str, suffixes: Sequence[str], *, retry_s: float = DEFAULT_RETRY_S
) -> Listing:
    """List the files of a folder (with sub-folders), a wildcard pattern, or one single file.

    ``*`` and ``?`` stay within one folder level. Hidden files are left out.

    Args:
        source: a local path, ``file://``, ``s3://`` or ``gs://`` address.
        suffixes: lower-case suffixes with their dot; compared without regard to case.
        retry_s: seconds for which a request without an answer is repeated.

    Raises:
        SourceError: missing, refused or unreachable.
        AddressError: as `parse_location`.
    """
    location = parse_location(source)
    store = _store(location, retry_s)
    return Listing(store.find(source, location), store, suffixes)


def list_folder(uri: str, *, retry_s: float = DEFAULT_RETRY_S) -> Iterator[tuple[str, StoredFile]]:
    """Yield the files directly in a folder: their names, sorted by code point, and the files.

    Raises:
        OSError: missing, refused or unavailable.
    """
    location = parse_location(uri)
    store = _store(location, retry_s)
    for name, file in store.folder(location):
        if name:
            file = file or store.look(f"{location.prefix}{name}")
            if file is not None:
                yield name, file


def open_ranged(
    uri: str,
    *,
    etag: str = "",
    size_bytes: int | None = None,
    window: Window = JUMPING,
    retry_s: float = DEFAULT_RETRY_S,
) -> RangedFile:
    """Open a stored file for reading by ranges.

    Args:
        uri: a local path, ``file://``, ``s3://`` or ``gs://`` address of one file.
        etag: the etag of the listing; if given, a file that changed since then is refused.
        size_bytes: the size that belongs to the etag; saves one request to an object store.
        window: how much is fetched at once.
        retry_s: seconds for which a request without an answer is repeated.

    Raises:
        OSError: missing, refused, unavailable, or changed since it was listed.
    """
    location = parse_location(uri)
    return _store(location, retry_s).open_ranged(location, etag, size_bytes, window)


def read_range(
    uri: str, offset: int, length: int, *, etag: str = "", retry_s: float = DEFAULT_RETRY_S
) -> bytes:
    """Read ``length`` bytes from byte ``offset`` of a stored file, in one request.

    Raises:
        OSError: missing, refused, unavailable, changed since ``etag``, or shorter than requested.
    """
    if length == 0:
        return b""
    location = parse_location(uri)
    data = _store(location, retry_s).read_range(location, offset, length, etag)
    if len(data) != length:
        raise OSError(f"{uri}: {len(data)} of {length} bytes at {offset}: the file is shorter")
    return data


def stat_file(uri: str, *, retry_s: float = DEFAULT_RETRY_S) -> StoredFile:
    """Return the current size and etag of a stored file.

    Raises:
        OSError: missing, refused or unavailable.
    """
    location = parse_location(uri)
    return _store(location, retry_s).stat(location)


def is_listed(uri: str, *, retry_s: float = DEFAULT_RETRY_S) -> bool:
    """Return whether a listing contains this file now.

    Raises:
        OSError: refused or unavailable.
    """
    location = parse_location(uri)
    store = _store(location, retry_s)
    if not isinstance(store, ObjectStore):
        return store.look(location.path) is not None
    found = store.objects(location.bucket, location.path, deep=False)
    return any(key == location.path for key, _ in found)


def _store(location: Location, retry_s: float) -> Store:
    if location.scheme == "s3":
        return S3Store(retry_s)
    return GcsStore(retry_s) if location.scheme == "gs" else LocalStore()
