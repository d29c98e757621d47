"""S3 and compatible stores.

All settings come from the AWS environment variables and the AWS config files. The module
`skytext.aws.session` reads these settings. So skytext needs no S3 settings of its own, and works
with every S3-compatible store.

`ObjectStore.ask` repeats a request while the store is unavailable. A store is unavailable if it
limits the request rate, returns a server error, cannot be reached, or ends a response body too
early. botocore itself repeats requests only if ``AWS_MAX_ATTEMPTS`` is set. Every read sends
``If-Match`` with the ETag from the listing. So the bytes of two versions of an object are never
mixed.
"""

from __future__ import annotations

import contextlib
import functools
import os
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConnectionError,
    HTTPClientError,
    ResponseStreamingError,
)
from urllib3.exceptions import HTTPError

from skytext.addresses.address_parser import Location
from skytext.archive.storage.store import (
    ObjectStore,
    StoredFile,
    UnavailableError,
    changed_error,
    vanished_error,
)
from skytext.aws.session import S3Access, access_problem, s3_access
from skytext.errors import SourceError

T = TypeVar("T")

_CONNECT_TIMEOUT_S = 10
_READ_TIMEOUT_S = 60
_MISSING = frozenset({"404", "NoSuchKey", "NotFound"})
_CHANGED = frozenset({"412", "PreconditionFailed"})
_REFUSED = frozenset(
    {
        "403",
        "AccessDenied",
        "AllAccessDisabled",
        "ExpiredToken",
        "ExpiredTokenException",
        "Forbidden",
        "InvalidAccessKeyId",
        "InvalidToken",
        "RequestExpired",
        "SignatureDoesNotMatch",
        "TokenRefreshRequired",
    }
)
# After one of these errors, the request is sent again. RequestTimeTooSkewed can mean that a request
# waited too long before it was sent. A repeated request gets a new time and signature.
_PASSING = frozenset(
    {
        *("429", "RequestLimitExceeded", "SlowDown", "Throttling", "TooManyRequests"),
        *("RequestTimeout", "RequestTimeTooSkewed"),
    }
)


class S3Store(ObjectStore):
    """The S3 store that is named in the AWS settings of this process."""

    def stat(self, location: Location) -> StoredFile:
        """Return the size and etag of one object."""
        head = self._send(location, "head_object", Bucket=location.bucket, Key=location.path)
        return StoredFile(location.uri, int(head["ContentLength"]), head["ETag"].strip('"'))

    def objects(self, bucket: str, prefix: str, *, deep: bool) -> Iterator[tuple[str, StoredFile]]:
        """Yield the key and the facts of each object whose key begins with ``prefix``.

        The keys are in the order of the store.
        """
        location = Location("s3", bucket, prefix)
        more: dict[str, str] = {} if deep else {"Delimiter": "/"}
        while True:
            page = self._send(location, "list_objects_v2", Bucket=bucket, Prefix=prefix, **more)
            for item in page.get("Contents", ()):
                key = item["Key"]
                uri = f"s3://{bucket}/{key}"
                yield key, StoredFile(uri, int(item["Size"]), item["ETag"].strip('"'))
            if not page.get("IsTruncated"):
                return
            more["ContinuationToken"] = page["NextContinuationToken"]

    def read_range(self, location: Location, offset: int, length: int, etag: str) -> bytes:
        """Read up to ``length`` bytes, beginning at byte ``offset``, with one request."""
        match = {"IfMatch": f'"{etag}"'} if etag else {}
        place = {"Bucket": location.bucket, "Key": location.path}
        span = f"bytes={offset}-{offset + length - 1}"

        def request() -> bytes:
            answer = _client().get_object(**place, **match, Range=span)
            return bytes(answer["Body"].read())

        return self._ask(location, request)

    def _send(self, location: Location, operation: str, **arguments: Any) -> Any:
        return self._ask(location, lambda: getattr(_client(), operation)(**arguments))

    def _ask(self, location: Location, request: Callable[[], T]) -> T:
        def checked() -> T:
            with _errors(location):
                return request()

        return self.ask(checked)

    def source_error(self, source: str, location: Location, err: OSError) -> SourceError:
        """Return an error that says in one line why a source cannot be listed, and what to do."""
        bucket, cause = location.bucket, err.__cause__
        if isinstance(cause, ClientError) and _error_code(cause) == "NoSuchBucket":
            reason = (
                f"bucket {bucket!r} does not exist: check its name, and AWS_ENDPOINT_URL if the "
                "store is not AWS"
            )
        elif isinstance(err, PermissionError) and isinstance(cause, ClientError):
            reason = (
                f"the store refuses access to bucket {bucket!r} ({_error_code(cause)}): check the "
                "credentials (AWS_PROFILE, AWS_ACCESS_KEY_ID) and their permissions"
            )
        else:
            reason = str(err)
        return SourceError(" ".join(f"{source!r}: {reason}".split()))


@contextlib.contextmanager
def _errors(location: Location) -> Iterator[None]:
    """Convert errors of botocore to the error classes that all stores use."""
    try:
        yield
    except ClientError as err:
        raise _answered(location, err) from err
    except (ConnectionError, HTTPClientError, ResponseStreamingError, HTTPError) as err:
        raise UnavailableError(
            f"cannot reach the store at {_endpoint()} ({err}). Check the network and the "
            "environment variable AWS_ENDPOINT_URL, and run the command again"
        ) from err
    except BotoCoreError as err:
        raise PermissionError(access_problem(err)) from err


def _answered(location: Location, err: ClientError) -> OSError:
    """Convert an error response of S3 to one of the error classes that all stores use."""
    code = _error_code(err)
    status = err.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    if code in _MISSING:
        return vanished_error(location.uri)
    if code in _CHANGED:
        return changed_error(location.uri)
    if code in _REFUSED:
        return PermissionError(
            f"the store refuses access to {location.uri} ({code}). Renew the credentials and run "
            "the command again"
        )
    if status >= 500 or code in _PASSING:
        return UnavailableError(
            f"the store returned {code} for {location.uri} ({err}). Run the command again later"
        )
    if status in (401, 403):
        # Possible reasons: the object has an archive storage class, its encryption key was deleted,
        # or the account is closed.
        return PermissionError(f"the store refuses access to {location.uri}: {err}")
    return OSError(f"the store returned an error for {location.uri} ({err}). Check this address")


def _endpoint() -> str:
    return s3_access().endpoint or "AWS"


def _client() -> Any:
    """Return an S3 client for the current AWS settings."""
    return _make_client(s3_access())


@functools.lru_cache(maxsize=4)
def _make_client(access: S3Access) -> Any:
    retries: dict[str, Any] = {"mode": os.environ.get("AWS_RETRY_MODE", "standard")}
    if "AWS_MAX_ATTEMPTS" not in os.environ:
        retries["total_max_attempts"] = 1  # `ObjectStore.ask` repeats requests for ``retry_s``
    return access.client(
        retries=retries,
        connect_timeout=_CONNECT_TIMEOUT_S,
        read_timeout=_READ_TIMEOUT_S,
        tcp_keepalive=True,
        max_pool_connections=32,  # allows parallel reads of the files in a folder
    )


def _error_code(err: ClientError) -> str:
    return str(err.response.get("Error", {}).get("Code", ""))
