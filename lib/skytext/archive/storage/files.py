"""Files in local folders and object stores: list them, stream them, read a range.

One function for each thing to do, whatever the store: local paths and ``file://``, ``s3://``
(:mod:`skytext.archive.storage.s3`) and ``gs://`` (:mod:`skytext.archive.storage.gcs`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import BinaryIO

from botocore.exceptions import BotoCoreError, ClientError
from urllib3.exceptions import HTTPError

from skytext.addresses.address_parser import Location, Scheme, parse_location
from skytext.archive.storage.gcs import GcsStore, describe_gcs
from skytext.archive.storage.local import LocalStore
from skytext.archive.storage.ranged_file import RangedFile
from skytext.archive.storage.s3 import S3Store, describe_s3
from skytext.archive.storage.store import Found, Kind, Store, StoredFile

READ_ERRORS: tuple[type[Exception], ...] = (OSError, BotoCoreError, ClientError, HTTPError)
"""What opening or reading a stored file may raise, whatever the store."""

_NUM_EXAMPLES = 3
_STORES: dict[Scheme, Store] = {"file": LocalStore(), "s3": S3Store(), "gs": GcsStore()}


class Listing:
    """What a source holds; iterate over it once.

    Attributes:
        kind: how the source named it.
        root: the folder that paths are relative to: the folder itself, the folder that holds
            the single file, or the deepest folder before the first wildcard.
        others: names of a few of the files that have none of the suffixes, once iterated.
        num_others: how many files have none of the suffixes, once iterated.
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

        Only files with one of the suffixes asked for, in the order of the store.

        Raises:
            SourceError: the store refuses, or cannot be reached any more.
        """
        prefix = self.root.prefix
        for item in self._found.paths:
            path, file = (item, None) if isinstance(item, str) else item
            if path.endswith("/") or path.rpartition("/")[2].startswith("."):
                continue
            relative = path[len(prefix) :]
            if path.lower().endswith(self._suffixes):
                yield relative, file or self._store.look(path)
            else:
                self.num_others += 1
                if len(self.others) < _NUM_EXAMPLES:
                    self.others.append(relative)


def list_files(source: str, suffixes: Sequence[str]) -> Listing:
    """List the files of a folder (with sub-folders), a wildcard pattern, or one single file.

    ``*`` and ``?`` stay within one folder level. Names that begin with a dot are left out.

    Args:
        source: a local path, ``file://``, ``s3://`` or ``gs://`` address.
        suffixes: lower-case suffixes with their dot; compared without regard to case.

    Raises:
        SourceError: missing, refused or unreachable.
        AddressError: as `parse_location`.
    """
    location = parse_location(source)
    store = _STORES[location.scheme]
    return Listing(store.find(source, location), store, suffixes)


def list_folder(uri: str) -> Iterator[tuple[str, StoredFile]]:
    """Yield the files directly in a folder: their names, sorted by code point, and the files.

    Names that begin with a dot are left out.

    Raises:
        OSError: and the others of `READ_ERRORS`: missing, refused or unreachable.
    """
    location = parse_location(uri)
    store = _STORES[location.scheme]
    for name, file in store.folder(location):
        if name and not name.startswith("."):
            yield name, file or store.look(f"{location.prefix}{name}")


def open_stream(uri: str, *, etag: str = "") -> BinaryIO:
    """Open a stored file for reading from its beginning.

    Args:
        uri: a local path, ``file://``, ``s3://`` or ``gs://`` address of one file.
        etag: the etag of the listing; where given, a file that changed since then is refused.

    Raises:
        OSError: missing, refused, or changed since it was listed.
        BotoCoreError: the store cannot be reached.
    """
    location = parse_location(uri)
    return _STORES[location.scheme].open_stream(location, etag)


def open_ranged(uri: str, *, etag: str = "", size_bytes: int | None = None) -> RangedFile:
    """Open a stored file for reading by ranges.

    Args:
        uri: a local path, ``file://``, ``s3://`` or ``gs://`` address of one file.
        etag: the etag of the listing; where given, a file that changed since then is refused.
        size_bytes: the size that came with the etag; spares an object store one request.

    Raises:
        OSError: missing, refused, or changed since it was listed.
        BotoCoreError: the store cannot be reached.
        ClientError: the store refuses.
    """
    location = parse_location(uri)
    return _STORES[location.scheme].open_ranged(location, etag, size_bytes)


def read_range(uri: str, offset: int, length: int, *, etag: str = "") -> bytes:
    """Read ``length`` bytes from byte ``offset`` of a stored file, in one request.

    Raises:
        OSError: missing, refused, changed since ``etag``, or shorter than asked for.
        BotoCoreError: the store cannot be reached.
    """
    if length == 0:
        return b""
    location = parse_location(uri)
    data = _STORES[location.scheme].read_range(location, offset, length, etag)
    if len(data) != length:
        raise OSError(f"{uri}: {len(data)} of {length} bytes at {offset}: the file is shorter")
    return data


def describe_fault(err: Exception) -> str:
    """Say in words what one of `READ_ERRORS` means, and what to do about it."""
    if isinstance(err, FileNotFoundError):
        return f"it vanished after it was listed: run again ({err})"
    return describe_s3(err) or describe_gcs(err) or str(err)
