"""Read and write the small objects of a table, such as claims, unit records and manifests.

The objects are stored under ``T/state/``, next to the data sets. Each object is written completely
or not at all. This module and Lance use the same client library (Rust's object_store). So if
Lance's commits are safe in a store, these objects are also safe.
"""

from __future__ import annotations

import functools
import socket
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

import obstore
from obstore.exceptions import AlreadyExistsError, BaseError
from obstore.store import LocalStore, ObjectStore, from_url

from skytext.aws.session import S3Access
from skytext.errors import JobError, disk_failure
from skytext.table.location import TableLocation
from skytext.table.store.store_retry import again

_STATE = "state"
_CLOCK = "clock"
_RETRY: Any = {
    "max_retries": 8,
    "retry_timeout": timedelta(seconds=90),
    "backoff": {
        "init_backoff": timedelta(milliseconds=200),
        "max_backoff": timedelta(seconds=10),
        "base": 2,
    },
}
_DELETE_AT_ONCE = 1000


def new_holder() -> str:
    """Return a new name for a process that stores its own objects in a table.

    The name starts with the name of the host, so a person can see which machine stored an object.
    """
    return f"{socket.gethostname()}-{uuid.uuid4().hex[:12]}"


@dataclass(frozen=True, slots=True)
class StateStore:
    """The small objects of one table. Paths are relative to ``T/state``.

    Attributes:
        location: the table.
        client: number of the client. `StateStore` objects with the same number share connections.
        folder: the folder of the objects, relative to the table; empty if the objects are directly
            in the folder of the table.
    """

    location: TableLocation
    client: int = 0
    folder: str = _STATE

    @property
    def uri(self) -> str:
        """The address of the folder."""
        return f"{self.location.uri}/{self.folder}" if self.folder else self.location.uri

    def create(self, path: str, data: bytes) -> bool:
        """Create an object. Return False if a different object already has this path.

        If several callers create the same path at the same time, exactly one caller gets True. Each
        caller must pass different ``data``. If the stored object equals ``data``, the result is
        True. In this case, this caller wrote the object, but the response was lost and the client
        sent the request again.

        Raises:
            JobError: a store request failed.
        """
        try:
            _put(self._store(writing=True), path, data, mode="create")
        except AlreadyExistsError:
            return self.get(path) == data
        except (BaseError, OSError) as error:
            raise self._refused("write", path, error) from error
        return True

    def put(self, path: str, data: bytes) -> None:
        """Write an object. An existing object is replaced.

        Raises:
            JobError: a store request failed.
        """
        try:
            _put(self._store(writing=True), path, data, mode="overwrite")
        except (BaseError, OSError) as error:
            raise self._refused("write", path, error) from error

    def get(self, path: str) -> bytes | None:
        """Return the bytes of an object, or None if the object does not exist.

        Raises:
            JobError: a store request failed.
        """
        if self._is_missing():
            return None
        try:
            return _get(self._store(), path)
        except FileNotFoundError:
            return None
        except (BaseError, OSError) as error:
            raise self._refused("read", path, error) from error

    def modified_at(self, path: str) -> datetime:
        """Return the time when an object was last written, by the store's clock.

        Raises:
            JobError: a store request failed, or the object does not exist.
        """
        try:
            return _modified_at(self._store(), path)
        except (BaseError, OSError) as error:
            raise self._refused("read", path, error) from error

    def now(self) -> datetime:
        """Return the current time, by the store's clock.

        Raises:
            JobError: a store request failed.
        """
        self.put(_CLOCK, b"")
        return self.modified_at(_CLOCK)

    def modified_times(self, prefix: str) -> dict[str, datetime]:
        """Return the modification times of the objects under a prefix, by path.

        Raises: the same errors as `list`.
        """
        if self._is_missing():
            return {}
        try:
            return _list(self._store(), prefix)
        except (BaseError, OSError) as error:
            raise self._refused("list", prefix, error) from error

    def list(self, prefix: str) -> Iterator[str]:
        """Yield the paths of the objects in a folder, in the order of the store's listing.

        Raises:
            JobError: a store request failed.
        """
        yield from self.modified_times(prefix)

    def delete(self, paths: Sequence[str]) -> None:
        """Delete objects. A missing object is not an error.

        Raises:
            JobError: a store request failed.
        """
        for start in range(0, len(paths), _DELETE_AT_ONCE):
            some = list(paths[start : start + _DELETE_AT_ONCE])
            try:
                _delete(self._store(writing=True), some)
            except FileNotFoundError:
                for path in some:
                    self._delete_one(path)
            except (BaseError, OSError) as error:
                raise self._refused("delete", some[0], error) from error

    def _delete_one(self, path: str) -> None:
        try:
            _delete(self._store(), path)
        except FileNotFoundError:
            return
        except (BaseError, OSError) as error:
            raise self._refused("delete", path, error) from error

    def _is_missing(self) -> bool:
        return self.location.is_local and not Path(self.uri).is_dir()

    def _store(self, *, writing: bool = False) -> ObjectStore:
        if self.location.is_local and writing:
            Path(self.uri).mkdir(parents=True, exist_ok=True)
        return open_store(self.location, self.folder, self.client)

    def _refused(self, verb: str, path: str, error: Exception) -> JobError:
        where = f"{self.uri}/{path}"
        disk = disk_failure(error, where)
        if disk is not None:
            return JobError(f"cannot {verb} a file of the table: {disk}")
        what = " ".join(str(error).split())[:300]
        return JobError(
            f"cannot {verb} {where}: {what} (committed work is kept; to continue, run the same "
            "command again)"
        )


@again
def _put(
    store: ObjectStore, path: str, data: bytes, *, mode: Literal["create", "overwrite"]
) -> None:
    obstore.put(store, path, data, mode=mode, use_multipart=False)


@again
def _get(store: ObjectStore, path: str) -> bytes:
    return bytes(obstore.get(store, path).bytes())


@again
def _modified_at(store: ObjectStore, path: str) -> datetime:
    return obstore.head(store, path)["last_modified"]


@again
def _list(store: ObjectStore, prefix: str) -> dict[str, datetime]:
    pages = obstore.list(store, prefix)
    return {entry["path"]: entry["last_modified"] for page in pages for entry in page}


@again
def _delete(store: ObjectStore, paths: str | list[str]) -> None:
    obstore.delete(store, paths)


def open_store(location: TableLocation, folder: str, client: int = 0) -> ObjectStore:
    """Open a folder of a table. Lance uses the same credentials and the same endpoint.

    Args:
        location: the table.
        folder: path of the folder, relative to the table. A local folder must exist.
        client: number of the client. Clients with different numbers do not share connections.

    Raises:
        TableError: the AWS settings give no access to an ``s3://`` table.
    """
    if location.is_local:
        return LocalStore(Path(location.uri, folder))
    access = location.s3_access() if location.is_s3 else None
    return _open(f"{location.uri}/{folder}".rstrip("/"), access, client)


@functools.lru_cache(maxsize=8)
def _open(url: str, access: S3Access | None, client: int) -> ObjectStore:
    options: Any = {"timeout": timedelta(seconds=30)}
    more: Any = {}
    if access is not None:
        more["config"] = access.settings(urlsplit(url).netloc)
        options["allow_http"] = bool(more["config"].pop("allow_http", False))
        if not access.is_anonymous:
            more["credential_provider"] = access.keys
    store: ObjectStore = from_url(url, client_options=options, retry_config=_RETRY, **more)
    return store
