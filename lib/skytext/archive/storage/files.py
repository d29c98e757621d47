"""List files in local folders and object stores, and read byte ranges of these files.

Each function works with every store: local paths and ``file://`` addresses, ``s3://`` addresses
(:mod:`skytext.archive.storage.s3`) and ``gs://`` addresses (:mod:`skytext.archive.storage.gcs`).
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
    """The files in a source. A listing can be iterated only once.

    Attributes:
        kind: the kind of the source: a file, a folder or a pattern.
        root: the root folder. Paths are relative to the root. If the source is a folder, the root
            is the source. If it is a single file, the root is the folder that contains the file. If
            it is a pattern, the root is the deepest folder before the first wildcard.
        others: the names of some files without a requested suffix. The list is complete after the
            iteration.
        num_others: number of files without a requested suffix. The number is complete after the
            iteration.
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
        """Yield the files with one of the requested suffixes, in the order of the store.

        Each item is a pair: the path of the file relative to ``root`` ('/'-separated), and the
        file.

        Raises:
            SourceError: the store refuses access, or can no longer be reached.
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
    """List the files in a source.

    The source is a folder with its sub-folders, a wildcard pattern, or a single file. The wildcards
    ``*`` and ``?`` do not match a slash. Hidden files are not listed.

    Args:
        source: a local path, or a ``file://``, ``s3://`` or ``gs://`` address.
        suffixes: the requested suffixes in lower case, with the dot. In file names, upper and lower
            case are not distinguished.
        retry_s: if the store does not respond, the request is repeated for this number of seconds.

    Raises:
        SourceError: the source does not exist, the store refuses access, or the store cannot be
            reached.
        AddressError: the source is not a valid address.
    """
    location = parse_location(source)
    store = _store(location, retry_s)
    return Listing(store.find(source, location), store, suffixes)


def list_folder(uri: str, *, retry_s: float = DEFAULT_RETRY_S) -> Iterator[tuple[str, StoredFile]]:
    """Yield the name and the facts of each file directly in a folder, sorted by code point.

    Raises:
        OSError: the folder does not exist, or the store refuses access or does not respond.
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
    """Open a stored file, so that byte ranges of the file can be read.

    Args:
        uri: the local path, or the ``file://``, ``s3://`` or ``gs://`` address, of one file.
        etag: the etag of the file from the listing, or empty. If it is given and the file has
            changed since the listing, an error is raised.
        size_bytes: the size of the file from the listing, or None. If it is given, an object store
            needs one request less.
        window: how many bytes one request fetches.
        retry_s: if the store does not respond, the request is repeated for this number of seconds.

    Raises:
        OSError: the file does not exist, or has changed since it was listed. The store refuses
            access or does not respond.
    """
    location = parse_location(uri)
    return _store(location, retry_s).open_ranged(location, etag, size_bytes, window)


def read_range(
    uri: str, offset: int, length: int, *, etag: str = "", retry_s: float = DEFAULT_RETRY_S
) -> bytes:
    """Read ``length`` bytes of a stored file, beginning at byte ``offset``, with one request.

    Raises:
        OSError: the file does not exist, is too short, or its etag is no longer ``etag``. Or the
            store refuses access or does not respond.
    """
    if length == 0:
        return b""
    location = parse_location(uri)
    data = _store(location, retry_s).read_range(location, offset, length, etag)
    if len(data) != length:
        raise OSError(
            f"{uri} is shorter than expected: got {len(data)} of {length} bytes at byte {offset}"
        )
    return data


def stat_file(uri: str, *, retry_s: float = DEFAULT_RETRY_S) -> StoredFile:
    """Return the current size and etag of a stored file.

    Raises:
        OSError: the file does not exist, or the store refuses access or does not respond.
    """
    location = parse_location(uri)
    return _store(location, retry_s).stat(location)


def is_listed(uri: str, *, retry_s: float = DEFAULT_RETRY_S) -> bool:
    """List the files again. Return true if the listing contains this file.

    Raises:
        OSError: the store refuses access or does not respond.
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
