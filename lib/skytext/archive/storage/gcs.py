"""Google Cloud Storage, by the client that comes with Arrow.

The credentials are Google's application default ones (``GOOGLE_APPLICATION_CREDENTIALS``,
``gcloud auth application-default login``, or the machine's own). ``STORAGE_EMULATOR_HOST`` leads
to another server, without credentials, as it does for Google's own clients.

Arrow's client repeats requests itself, with growing pauses, for ``retry_s``; it resumes a body that
breaks off from the byte that it had reached. An open file stays at the generation that it
was opened at: bytes of two versions never meet.
"""

from __future__ import annotations

import contextlib
import functools
import os
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from skytext.addresses.address_parser import Location
from skytext.archive.storage.ranged_file import RangedFile, Window
from skytext.archive.storage.store import (
    ObjectStore,
    StoredFile,
    UnavailableError,
    changed_error,
    vanished_error,
)
from skytext.errors import SourceError

if TYPE_CHECKING:
    import pyarrow as pa


class GcsStore(ObjectStore):
    """The buckets that Google's application default credentials open."""

    def stat(self, location: Location) -> StoredFile:
        """Return the size and etag of one object."""
        from pyarrow.fs import FileType

        path = _arrow_path(location)
        with _errors(location):
            info = self._filesystem().get_file_info(path)
        if info.type != FileType.File:
            raise FileNotFoundError(f"{location.uri} does not exist")
        return _stored(info)

    def lookup(self, location: Location) -> StoredFile | None:
        """Return one object; None where there is none, or where the store will not say."""
        if location.path == location.prefix:
            return None
        with contextlib.suppress(FileNotFoundError, PermissionError):
            return self.stat(location)
        return None  # the listing that follows says why

    def objects(self, bucket: str, prefix: str, *, deep: bool) -> Iterator[tuple[str, StoredFile]]:
        """Yield the objects whose name begins with ``prefix``, with their names, in order."""
        from pyarrow.fs import FileSelector, FileType

        folder = Location("gs", bucket, prefix.rpartition("/")[0])
        base = _arrow_path(Location("gs", bucket, prefix)).rpartition("/")[0]
        with _errors(folder):
            infos = self._filesystem().get_file_info(
                FileSelector(base, recursive=deep, allow_not_found=bool(folder.path))
            )
        # Places that only look like folders come between; and Arrow promises no order.
        files = [info for info in infos if info.type == FileType.File]
        for info in sorted(files, key=lambda info: str(info.path)):
            key = info.path.partition("/")[2]
            if key.startswith(prefix):
                yield key, _stored(info)

    def open_ranged(
        self, location: Location, etag: str, size_bytes: int | None, window: Window
    ) -> RangedFile:
        """Open an object for reading by ranges, all of the generation that it has now."""
        file = self._open(location, etag)

        def fetch(offset: int, length: int) -> bytes:
            with _errors(location):
                data = bytes(file.read_at(length, offset))
            if len(data) < length:
                raise OSError(f"{location.uri} is shorter than it was listed: run again")
            return data

        return RangedFile(fetch, file.size(), window, on_close=file.close)

    def read_range(self, location: Location, offset: int, length: int, etag: str) -> bytes:
        """Read up to ``length`` bytes from ``offset``."""
        with self._open(location, etag) as file, _errors(location):
            return bytes(file.read_at(length, offset))

    def source_error(self, source: str, location: Location, err: OSError) -> SourceError:
        """Say why a source cannot be listed, and what to do about it, in one line."""
        if isinstance(err, EmptyPartError):
            then = str(err)
        elif isinstance(err, FileNotFoundError):
            then = f"bucket {location.bucket!r} does not exist: check its name"
        elif isinstance(err, PermissionError):
            then = (
                f"the store refuses access to bucket {location.bucket!r}: check "
                f"GOOGLE_APPLICATION_CREDENTIALS and its rights ({err})"
            )
        else:
            then = f"{err}: check the network and GOOGLE_APPLICATION_CREDENTIALS"
        return SourceError(" ".join(f"{source!r}: {then}".split()))

    def _open(self, location: Location, etag: str) -> pa.NativeFile:
        path = _arrow_path(location)
        with _errors(location):
            file = self._filesystem().open_input_file(path)
        try:
            # Of the generation that was opened.
            with _errors(location):
                opened = {key: bytes(value).decode() for key, value in file.metadata().items()}
            if etag and _etag(int(opened["size"]), opened["updated"]) != etag:
                raise changed_error(location.uri)
        except (OSError, KeyError, ValueError):
            file.close()
            raise
        return file

    def _filesystem(self) -> Any:
        """Return the client of this process for Google's settings as they stand now."""
        names = ("GOOGLE_APPLICATION_CREDENTIALS", "STORAGE_EMULATOR_HOST")
        return _make_filesystem(*(os.environ.get(name, "") for name in names), self.retry_s)


class EmptyPartError(OSError):
    """A name with an empty part, which Arrow's client lists and cannot read."""


def _arrow_path(location: Location) -> str:
    path = f"{location.bucket}/{location.path}"
    if "//" in path:
        raise EmptyPartError(
            "the client for gs:// cannot read names with an empty part ('//'): copy these objects "
            "to other names"
        )
    return path


@contextlib.contextmanager
def _errors(location: Location) -> Iterator[None]:
    """Turn what Arrow raises, one error for everything, into what other stores raise."""
    import pyarrow as pa

    try:
        yield
    except (OSError, pa.ArrowException) as err:
        said = f"{location.uri}: {' '.join(str(err).split())[:300]}"
        if isinstance(err, FileNotFoundError) or "NOT_FOUND" in said:
            raise vanished_error(said) from err
        if any(word in said for word in ("PERMISSION_DENIED", "UNAUTHENTICATED", "credentials")):
            raise PermissionError(
                f"the store refuses access: renew the credentials and run again ({said})"
            ) from err
        raise UnavailableError(f"the store gave no answer: run again later ({said})") from err


def _stored(info: Any) -> StoredFile:
    return StoredFile(
        f"gs://{info.path}", int(info.size), _etag(int(info.size), info.mtime.isoformat())
    )


def _etag(size_bytes: int, updated: str) -> str:
    """Return what changes with an object: Arrow's listings tell no generation."""
    moment = datetime.fromisoformat(updated).astimezone(UTC)
    return f"{size_bytes}-{moment:%Y%m%dT%H%M%S.%f}"


@functools.lru_cache(maxsize=4)
def _make_filesystem(credentials: str, emulator: str, retry_s: float) -> Any:
    from pyarrow.fs import GcsFileSystem

    retry = timedelta(seconds=retry_s)
    if not emulator:
        return GcsFileSystem(retry_time_limit=retry)
    scheme, _, host = emulator.rpartition("://")
    return GcsFileSystem(
        anonymous=True,
        scheme=scheme or "http",
        endpoint_override=host.rstrip("/"),
        retry_time_limit=retry,
    )
