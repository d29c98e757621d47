"""S3 and the stores that speak it.

Everything about the store comes from the usual AWS variables and config files
(``AWS_ENDPOINT_URL``, ``AWS_REGION``, ``AWS_PROFILE``, ``AWS_ACCESS_KEY_ID`` …), so any store
that speaks S3 works and skytext has no setting of its own for it.

Retries are those of the client libraries: botocore's "standard" mode for requests
(``AWS_RETRY_MODE`` and ``AWS_MAX_ATTEMPTS`` change it), and ``smart_open`` for a body that breaks
half-way, which it asks for again from the byte it had reached (``Range: bytes=N-``), after 1, 2,
4, 8 and 16 s. ``If-Match`` with the ETag of the listing goes with every such request, so that
bytes of two versions of an object never meet in one read.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Iterator
from typing import Any, BinaryIO, cast

from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConnectionError,
    HTTPClientError,
    NoCredentialsError,
    PartialCredentialsError,
)

from skytext.addresses.address_parser import Location
from skytext.archive.storage.store import ObjectStore, StoredFile
from skytext.errors import SourceError

_CONNECT_TIMEOUT_S = 10
_READ_TIMEOUT_S = 60
_MAX_ATTEMPTS = 5
_STREAM_BUFFER_BYTES = 1 << 20
_MISSING = frozenset({"404", "NoSuchKey", "NotFound"})
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
_CHANGED = frozenset({"412", "PreconditionFailed"})
_GONE = frozenset({"404", "NoSuchKey", "NotFound"})


class S3Store(ObjectStore):
    """The buckets that the AWS settings of this process lead to."""

    scheme = "s3"

    @property
    def errors(self) -> tuple[type[Exception], ...]:
        """What listing may raise."""
        return (BotoCoreError, ClientError)

    def stat(self, location: Location) -> StoredFile:
        """Return the size and etag of one object."""
        head = _client().head_object(Bucket=location.bucket, Key=location.path)
        return StoredFile(location.uri, int(head["ContentLength"]), head["ETag"].strip('"'))

    def lookup(self, location: Location) -> StoredFile | None:
        """Return one object; None where there is none, or where the store will not say."""
        if location.path == location.prefix:
            return None
        try:
            return self.stat(location)
        except ClientError as err:
            # A HEAD has no body to tell a missing bucket, a missing object and a missing right
            # apart; the listing that follows does, and its error is the one to report.
            if _error_code(err) in _MISSING | _REFUSED:
                return None
            raise

    def objects(self, bucket: str, prefix: str, *, deep: bool) -> Iterator[tuple[str, StoredFile]]:
        """Yield the objects whose key begins with ``prefix``, with their keys, in key order."""
        delimiter = {} if deep else {"Delimiter": "/"}
        pages = _client().get_paginator("list_objects_v2")
        for page in pages.paginate(Bucket=bucket, Prefix=prefix, **delimiter):
            for item in page.get("Contents", ()):
                key = item["Key"]
                uri = f"s3://{bucket}/{key}"
                yield key, StoredFile(uri, int(item["Size"]), item["ETag"].strip('"'))

    def open_stream(self, location: Location, etag: str) -> BinaryIO:
        """Open an object for reading from its beginning, with one request."""
        return _open(location, etag, {"buffer_size": _STREAM_BUFFER_BYTES})

    def read_range(self, location: Location, offset: int, length: int, etag: str) -> bytes:
        """Read up to ``length`` bytes from ``offset``, with one request."""
        # With both set to the length, smart_open asks for exactly this range, once.
        args = {"buffer_size": length, "range_chunk_size": length, "defer_seek": True}
        with _open(location, etag, args) as stream:
            stream.seek(offset)
            return stream.read(length)

    def source_error(self, source: str, location: Location, err: Exception) -> SourceError:
        """Say what went wrong with a store, and what to do about it, in one line."""
        bucket = location.bucket
        if isinstance(err, ClientError):
            code = _error_code(err)
            if code == "NoSuchBucket":
                what = f"bucket {bucket!r} does not exist"
                then = "check its name, and AWS_ENDPOINT_URL if the store is not AWS"
            elif code in _REFUSED:
                what = f"the store refuses access to bucket {bucket!r} ({code})"
                then = "check the credentials (AWS_PROFILE, AWS_ACCESS_KEY_ID) and their rights"
            else:
                status = err.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
                what = f"the store answered {err}"
                then = "run again later" if status >= 500 else "check the address"
        elif isinstance(err, (NoCredentialsError, PartialCredentialsError)):
            what = "no complete credentials found"
            then = "set AWS_PROFILE, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
        elif isinstance(err, (ConnectionError, HTTPClientError)):
            what = f"cannot reach the store at {_endpoint()} ({err})"
            then = "check the network and AWS_ENDPOINT_URL"
        else:
            what, then = f"the store's settings do not work ({err})", "check the AWS settings"
        return SourceError(" ".join(f"{source!r}: {what}: {then}".split()))


def describe_s3(err: Exception) -> str | None:
    """Say in words what an error of a read means; None where it is not one of S3's."""
    # smart_open wraps the store's answer.
    answer = getattr(err, "backend_error", err)
    if isinstance(answer, ClientError):
        code = _error_code(answer)
        if code in _MISSING:
            return "it vanished after it was listed: run again"
        if code in _CHANGED:
            return "it changed after it was listed: run again"
        if code in _REFUSED:
            return f"the store refuses access ({code}): renew the credentials and run again"
        attempts = answer.response.get("ResponseMetadata", {}).get("RetryAttempts", 0) + 1
        return f"the store answered {code} {attempts} times: run again later ({answer})"
    if isinstance(answer, (NoCredentialsError, PartialCredentialsError)):
        return f"the credentials are gone ({answer}): renew them and run again"
    if isinstance(answer, (ConnectionError, HTTPClientError)):
        return f"cannot reach the store at {_endpoint()}: run again later ({answer})"
    return None


def _endpoint() -> str:
    endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
    return endpoint or "AWS"


def _open(location: Location, etag: str, smart_open_args: dict[str, Any]) -> BinaryIO:
    import smart_open.s3

    # smart_open.s3.open, not smart_open.open: the latter reads '@' and '?versionId=' in a key as
    # parts of the address, and unpacks .gz by name.
    if_match = {"S3.Client.get_object": {"IfMatch": f'"{etag}"'}} if etag else {}
    stream = smart_open.s3.open(
        location.bucket,
        location.path,
        "rb",
        client=_client(),
        client_kwargs=if_match,
        **smart_open_args,
    )
    return cast(BinaryIO, stream)


def _client() -> Any:
    """The S3 client of this process for the AWS settings as they stand now."""
    settings = {key: value for key, value in os.environ.items() if key.startswith("AWS_")}
    return _make_client(tuple(sorted(settings.items())))


@functools.lru_cache(maxsize=4)
def _make_client(settings: tuple[tuple[str, str], ...]) -> Any:
    # Here, not above: boto3 takes 0.3 s to import, in every process, and local files need none.
    import boto3
    from botocore.config import Config

    names = dict(settings)
    retries: dict[str, Any] = {"mode": names.get("AWS_RETRY_MODE", "standard")}
    if "AWS_MAX_ATTEMPTS" not in names:
        retries["total_max_attempts"] = _MAX_ATTEMPTS
    config = Config(
        retries=retries,
        connect_timeout=_CONNECT_TIMEOUT_S,
        read_timeout=_READ_TIMEOUT_S,
        tcp_keepalive=True,
        max_pool_connections=32,  # a folder's files are fetched side by side
    )
    # A session of its own: boto3's default one is not safe to use from several threads.
    return boto3.session.Session().client("s3", config=config)


def s3_changed(err: Exception) -> bool:
    """Return whether an error says that an object is gone, or not the one with the etag given."""
    # smart_open puts what the store said under an error of its own.
    said = err if isinstance(err, ClientError) else getattr(err, "backend_error", err.__cause__)
    return isinstance(said, ClientError) and _error_code(said) in _CHANGED | _GONE


def _error_code(err: ClientError) -> str:
    return str(err.response.get("Error", {}).get("Code", ""))
