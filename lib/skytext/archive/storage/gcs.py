"""Google Cloud Storage through its JSON API.

The module uses Google's application default credentials. They come from
``GOOGLE_APPLICATION_CREDENTIALS``, from ``gcloud auth application-default login``, or from the
service account of the machine. If ``STORAGE_EMULATOR_HOST`` is set, requests are sent to this
server without credentials. Google's own clients also use this variable.

`ObjectStore.ask` repeats a request while the store is unavailable. An object in the store can have
several versions, which are called generations. Each request for bytes names the generation with the
expected etag. So the bytes of two versions are never mixed.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

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
    import requests

_SCOPE = "https://www.googleapis.com/auth/devstorage.read_only"
_FIELDS = "name,size,updated,generation"
_TIMEOUT_S = (10, 60)


class GcsStore(ObjectStore):
    """The store of all buckets that the application default credentials can read."""

    def stat(self, location: Location) -> StoredFile:
        """Return the size and etag of one object."""
        return _stored(location.bucket, self._describe(location))

    def objects(self, bucket: str, prefix: str, *, deep: bool) -> Iterator[tuple[str, StoredFile]]:
        """Yield the name and the facts of each object whose name begins with ``prefix``.

        The names are in ascending order.
        """
        folder = Location("gs", bucket, prefix.rpartition("/")[0])
        asked = {"prefix": prefix, "fields": f"items({_FIELDS}),nextPageToken"}
        if not deep:
            asked["delimiter"] = "/"
        while True:
            page = json.loads(self._get(folder, "", asked))
            for item in page.get("items", ()):
                yield item["name"], _stored(bucket, item)
            if not page.get("nextPageToken"):
                return
            asked["pageToken"] = page["nextPageToken"]

    def open_ranged(
        self, location: Location, etag: str, size_bytes: int | None, window: Window
    ) -> RangedFile:
        """Open the current generation of an object, so that byte ranges of it can be read."""
        item = self._describe(location, etag)

        def fetch(offset: int, length: int) -> bytes:
            data = self._media(location, item, offset, length)
            if len(data) < length:
                raise UnavailableError(
                    f"{location.uri} is shorter than its listed size. Run the command again"
                )
            return data

        return RangedFile(fetch, int(item["size"]), window)

    def read_range(self, location: Location, offset: int, length: int, etag: str) -> bytes:
        """Read up to ``length`` bytes, beginning at byte ``offset``."""
        return self._media(location, self._describe(location, etag), offset, length)

    def source_error(self, source: str, location: Location, err: OSError) -> SourceError:
        """Return an error that says in one line why a source cannot be listed, and what to do."""
        if isinstance(err, FileNotFoundError):
            then = f"bucket {location.bucket!r} does not exist: check its name"
        elif isinstance(err, PermissionError):
            then = (
                f"the store refuses access to bucket {location.bucket!r}: check "
                f"GOOGLE_APPLICATION_CREDENTIALS and the permissions of this account ({err})"
            )
        else:
            then = f"{err}: check the network and GOOGLE_APPLICATION_CREDENTIALS"
        return SourceError(" ".join(f"{source!r}: {then}".split()))

    def _describe(self, location: Location, etag: str = "") -> dict[str, str]:
        """Return the size, time, name and generation of an object, as the store returns them.

        Raises:
            ChangedError: ``etag`` is given, and the object has a different etag.
        """
        said = self._get(location, location.path, {"fields": _FIELDS})
        item: dict[str, str] = json.loads(said)
        if etag and _stored(location.bucket, item).etag != etag:
            raise changed_error(location.uri)
        return item

    def _media(self, location: Location, item: dict[str, str], offset: int, length: int) -> bytes:
        asked = {"alt": "media", "ifGenerationMatch": item["generation"]}
        # Without Accept-Encoding, the store decompresses gzip objects and ignores the byte range.
        headers = {"Range": f"bytes={offset}-{offset + length - 1}", "Accept-Encoding": "gzip"}
        return self._get(location, location.path, asked, headers)

    def _get(
        self,
        location: Location,
        name: str,
        asked: dict[str, str],
        headers: dict[str, str] | None = None,
    ) -> bytes:
        """Return the body of a response. If ``headers`` are given, do not decompress the body."""

        def request() -> bytes:
            with _errors(location):
                session, endpoint = _session()
                url = f"{endpoint}/storage/v1/b/{quote(location.bucket, safe='')}/o"
                url += f"/{quote(name, safe='')}" if name else ""
                answer = session.get(
                    url, params=asked, headers=headers, timeout=_TIMEOUT_S, stream=True
                )
                body = bytes(answer.raw.read(decode_content=headers is None))
            if not answer.ok:
                raise _answered(location, answer.status_code)
            return body

        return self.ask(request)


@contextlib.contextmanager
def _errors(location: Location) -> Iterator[None]:
    """Convert errors of Google's client libraries to the error classes that all stores use."""
    from google.auth.exceptions import GoogleAuthError, TransportError
    from requests import RequestException
    from urllib3.exceptions import HTTPError

    try:
        yield
    except GoogleAuthError as err:
        if isinstance(err, TransportError) or err.retryable:
            raise _unavailable(location, str(err)) from err
        raise _refused(location, str(err)) from err
    except (RequestException, HTTPError) as err:
        raise _unavailable(location, str(err)) from err


def _answered(location: Location, status: int) -> OSError:
    """Convert an HTTP error status to one of the error classes that all stores use."""
    if status == 404:
        return vanished_error(location.uri)
    if status == 412:
        return changed_error(location.uri)
    if status in (401, 403):
        return _refused(location, f"status {status}")
    if status in (408, 429) or status >= 500:
        return _unavailable(location, f"status {status}")
    return OSError(f"the store returned status {status} for {location.uri}. Check this address")


def _refused(location: Location, why: str) -> PermissionError:
    return PermissionError(
        f"the store refuses access to {location.uri} ({why}). Renew the credentials and run the "
        "command again"
    )


def _unavailable(location: Location, why: str) -> UnavailableError:
    return UnavailableError(
        f"the store did not respond to a request for {location.uri} ({why}). Run the command again "
        "later"
    )


def _stored(bucket: str, item: dict[str, str]) -> StoredFile:
    updated = datetime.fromisoformat(item["updated"]).astimezone(UTC)
    # Do not change this format, because existing tables contain etags in this format.
    etag = f"{item['size']}-{updated:%Y%m%dT%H%M%S.%f}"
    return StoredFile(f"gs://{bucket}/{item['name']}", int(item["size"]), etag)


def _session() -> tuple[requests.Session, str]:
    """Return the HTTP session for the current Google settings, and the address of the store."""
    names = ("GOOGLE_APPLICATION_CREDENTIALS", "STORAGE_EMULATOR_HOST")
    return _make_session(*(os.environ.get(name, "") for name in names))


@functools.lru_cache(maxsize=4)
def _make_session(credentials: str, emulator: str) -> tuple[requests.Session, str]:
    import requests
    from requests.adapters import HTTPAdapter

    session: Any
    if emulator:
        session = requests.Session()
        scheme, _, host = emulator.rpartition("://")
        endpoint = f"{scheme or 'http'}://{host.rstrip('/')}"
    else:
        import google.auth
        from google.auth.transport.requests import AuthorizedSession

        found, _ = google.auth.default(scopes=[_SCOPE])
        session = AuthorizedSession(found)  # type: ignore[no-untyped-call]
        endpoint = "https://storage.googleapis.com"
    # The pool must be large enough for parallel reads of the files in a folder.
    session.mount(endpoint, HTTPAdapter(pool_maxsize=32))
    return session, endpoint
