"""Files in local folders and S3-compatible stores: list them, stream them, read a range.

Everything about the store comes from the usual AWS variables and config files
(``AWS_ENDPOINT_URL``, ``AWS_REGION``, ``AWS_PROFILE``, ``AWS_ACCESS_KEY_ID`` …), so any store
that speaks S3 works and skytext has no setting of its own for it.

Retries are those of the client libraries: botocore's "standard" mode for requests, and
``smart_open`` for a body that breaks half-way, which it asks for again from the byte it had
reached (``Range: bytes=N-``). ``If-Match`` with the ETag of the listing goes with every such
request, so that bytes of two versions of an object never meet in one read.
"""

from __future__ import annotations

import functools
import glob
import os
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Literal, NoReturn, cast
from urllib.parse import unquote_to_bytes, urlsplit

from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConnectionError,
    HTTPClientError,
    NoCredentialsError,
    PartialCredentialsError,
)
from urllib3.exceptions import HTTPError

from skytext.errors import SourceError

READ_ERRORS: tuple[type[Exception], ...] = (OSError, BotoCoreError, ClientError, HTTPError)
"""What opening or reading a stored file may raise, whatever the store."""

_CONNECT_TIMEOUT_S = 10
_READ_TIMEOUT_S = 60
_MAX_ATTEMPTS = 5
_STREAM_BUFFER_BYTES = 1 << 20
_NUM_EXAMPLES = 3
_MISSING = frozenset({"404", "NoSuchKey", "NotFound"})
_REFUSED = frozenset(
    {
        "403",
        "AccessDenied",
        "AllAccessDisabled",
        "ExpiredToken",
        "Forbidden",
        "InvalidAccessKeyId",
        "InvalidToken",
        "SignatureDoesNotMatch",
    }
)


@dataclass(frozen=True)
class Location:
    """A place in a store: a bucket and key, or an absolute local path.

    Attributes:
        scheme: ``file`` or ``s3``.
        bucket: the S3 bucket; empty for local paths.
        path: the S3 key as it stands (never percent-decoded), or an absolute local path.
            No trailing slash, except the local root.
    """

    scheme: Literal["file", "s3"]
    bucket: str
    path: str

    @property
    def uri(self) -> str:
        """The location as a URI: ``s3://bucket/key`` or a percent-encoded ``file:///…``."""
        if self.scheme == "s3":
            return f"s3://{self.bucket}/{self.path}" if self.path else f"s3://{self.bucket}"
        return Path(self.path).as_uri()

    @property
    def name(self) -> str:
        """The last part of the path; the bucket's name for the root of a bucket."""
        return self.path.rpartition("/")[2] or self.bucket

    @property
    def parent(self) -> Location:
        """The folder that holds this place."""
        head = self.path.rpartition("/")[0]
        return Location(self.scheme, self.bucket, head or ("/" if self.scheme == "file" else ""))


@dataclass(frozen=True)
class StoredFile:
    """One file as a listing saw it.

    Attributes:
        uri: where it is.
        size_bytes: its size in bytes.
        etag: changes when the content does: the S3 ETag without quotes, or locally
            ``{size}-{mtime_ns}``; empty where the file could not be looked at.
    """

    uri: str
    size_bytes: int
    etag: str


@dataclass(frozen=True)
class Listing:
    """What a source holds.

    Attributes:
        kind: how the source named it.
        root: the folder that paths are relative to: the folder itself, the folder that holds
            the single file, or the deepest folder before the first wildcard.
        files: pairs of the path relative to ``root`` ('/'-separated) and the file, sorted by
            path; only files with one of the suffixes asked for.
        others: names of a few of the files that have none of the suffixes.
        num_others: how many files have none of the suffixes.
    """

    kind: Literal["file", "folder", "glob"]
    root: Location
    files: tuple[tuple[str, StoredFile], ...]
    others: tuple[str, ...]
    num_others: int


def parse_location(source: str) -> Location:
    """Read a path, ``file://`` URI or ``s3://`` URI; wildcards stay in ``path``.

    Raises:
        SourceError: the scheme is not supported, or the bucket is missing.
    """
    scheme, separator, rest = source.partition("://")
    if not separator:
        if not source:
            raise SourceError("a source is empty: give a folder, a .tar file or an s3:// address")
        return Location("file", "", os.path.abspath(os.path.expanduser(source)))
    scheme = scheme.lower()
    if scheme == "file":
        path = os.fsdecode(unquote_to_bytes(urlsplit(source).path))
        return Location("file", "", os.path.abspath(path))
    if scheme == "s3":
        # Split by hand: '?' and '#' are ordinary characters in a key, and '?' is a wildcard here.
        bucket, _, key = rest.partition("/")
        if not bucket:
            raise SourceError(f"{source!r} names no bucket: write s3://BUCKET/PREFIX")
        return Location("s3", bucket, key.rstrip("/"))
    if scheme in {"gs", "gcs"}:
        raise SourceError(
            f"{source!r}: gs:// is not yet supported: copy the shards to a local folder or an "
            "S3-compatible store, or use the bucket's S3 interface through AWS_ENDPOINT_URL"
        )
    raise SourceError(f"{source!r}: {scheme}:// is not supported: use a local path or s3://")


def list_files(source: str, suffixes: Sequence[str]) -> Listing:
    """List the files of a folder (with sub-folders), a wildcard pattern, or one single file.

    ``*`` and ``?`` stay within one folder level. Names that begin with a dot are left out.

    Args:
        source: a local path, ``file://`` or ``s3://`` address.
        suffixes: lower-case suffixes with their dot; compared without regard to case.

    Raises:
        SourceError: missing, refused, unreachable, or not supported.
    """
    location = parse_location(source)
    if location.scheme == "s3":
        return _list_s3(source, location, suffixes)
    return _list_local(source, location, suffixes)


def open_stream(uri: str, *, etag: str = "") -> BinaryIO:
    """Open a stored file for reading from its beginning.

    Args:
        uri: a local path, ``file://`` or ``s3://`` address of one file.
        etag: the etag of the listing; where given, a file that changed since then is refused.

    Raises:
        OSError: missing, refused, or changed since it was listed.
        BotoCoreError: the store cannot be reached.
    """
    location = parse_location(uri)
    if location.scheme == "s3":
        return _open_s3(location, etag, smart_open_args={"buffer_size": _STREAM_BUFFER_BYTES})
    stream = open(location.path, "rb", buffering=_STREAM_BUFFER_BYTES)  # noqa: SIM115
    try:
        if etag and _local_etag(os.fstat(stream.fileno())) != etag:
            raise OSError(f"{location.path} changed since it was listed: run again")
    except OSError:
        stream.close()
        raise
    return stream


def read_range(uri: str, offset: int, length: int, *, etag: str = "") -> bytes:
    """Read ``length`` bytes from byte ``offset`` of a stored file, in one request.

    Raises:
        OSError: missing, refused, changed since ``etag``, or shorter than asked for.
        BotoCoreError: the store cannot be reached.
    """
    if length == 0:
        return b""
    location = parse_location(uri)
    if location.scheme == "s3":
        # With both set to the length, smart_open asks for exactly this range, once.
        args = {"buffer_size": length, "range_chunk_size": length, "defer_seek": True}
        stream = _open_s3(location, etag, smart_open_args=args)
    else:
        stream = open_stream(uri, etag=etag)
    with stream:
        stream.seek(offset)
        data = stream.read(length)
    if len(data) != length:
        raise OSError(f"{uri}: {len(data)} of {length} bytes at {offset}: the file is shorter")
    return data


# Local files


def _local_etag(stat: os.stat_result) -> str:
    return f"{stat.st_size}-{stat.st_mtime_ns}"


def _local_file(path: str) -> StoredFile:
    uri = Location("file", "", path).uri
    try:
        stat = os.stat(path)
    except OSError:
        # A dangling link, say: it is listed, so that reading it becomes a failed row of its own.
        return StoredFile(uri, 0, "")
    return StoredFile(uri, stat.st_size, _local_etag(stat))


def _list_local(source: str, location: Location, suffixes: Sequence[str]) -> Listing:
    path = location.path
    if os.path.isfile(path):
        return _listing("file", location.parent, [path], suffixes, _local_file)
    if os.path.isdir(path):
        return _listing("folder", location, _walk(path), suffixes, _local_file)
    if _is_pattern(path):
        # Brackets are ordinary characters here, as they are in the pattern of an S3 source.
        found = glob.glob(path.replace("[", "[[]"))
        files = sorted(name for name in found if not os.path.isdir(name))
        return _listing("glob", _pattern_root(location), files, suffixes, _local_file)
    raise SourceError(f"{source!r} does not exist ({path}): check the path")


def _walk(root: str) -> Iterator[str]:
    """Yield the files below a folder, links followed, each real folder entered once."""
    seen: set[str] = set()
    try:
        for folder, folders, names in os.walk(root, onerror=_raise, followlinks=True):
            real = os.path.realpath(folder)
            if real in seen:
                folders.clear()
                continue
            seen.add(real)
            folders[:] = sorted(name for name in folders if not name.startswith("."))
            yield from (os.path.join(folder, name) for name in names if not name.startswith("."))
    except OSError as err:
        raise SourceError(f"cannot list {err.filename or root}: {err.strerror or err}") from err


def _raise(err: OSError) -> NoReturn:
    raise err


# S3-compatible stores


def _list_s3(source: str, location: Location, suffixes: Sequence[str]) -> Listing:
    try:
        if _is_pattern(location.path):
            matches = _pattern_regex(location.path).fullmatch
            root = _pattern_root(location)
            found = {key: file for key, file in _s3_objects(root, location.path) if matches(key)}
            return _listing("glob", root, found, suffixes, found.__getitem__)
        single = None if source.endswith("/") else _s3_object(location)
        if single is not None:
            return _listing("file", location.parent, [location.path], suffixes, lambda _: single)
        prefix = f"{location.path}/" if location.path else ""
        found = dict(_s3_objects(location, prefix))
    except (BotoCoreError, ClientError) as err:
        raise _s3_source_error(source, location, err) from err
    if not found and location.path:
        raise SourceError(
            f"{source!r} does not exist: bucket {location.bucket!r} has no object of this name "
            "and none below it: check the prefix"
        )
    return _listing("folder", location, found, suffixes, found.__getitem__)


def _s3_object(location: Location) -> StoredFile | None:
    """Look one object up; None where there is none, or where the store will not say."""
    if not location.path:
        return None
    try:
        head = _client().head_object(Bucket=location.bucket, Key=location.path)
    except ClientError as err:
        # A HEAD has no body to tell a missing bucket, a missing object and a missing right
        # apart; the listing that follows does, and its error is the one to report.
        if _error_code(err) in _MISSING | _REFUSED:
            return None
        raise
    return StoredFile(location.uri, int(head["ContentLength"]), head["ETag"].strip('"'))


def _s3_objects(root: Location, prefix: str) -> Iterator[tuple[str, StoredFile]]:
    fixed = re.split(r"[*?]", prefix)[0]
    pages = _client().get_paginator("list_objects_v2")
    for page in pages.paginate(Bucket=root.bucket, Prefix=fixed):
        for item in page.get("Contents", ()):
            key = item["Key"]
            if not key.endswith("/") and not key.rpartition("/")[2].startswith("."):
                uri = f"s3://{root.bucket}/{key}"
                yield key, StoredFile(uri, int(item["Size"]), item["ETag"].strip('"'))


def _open_s3(location: Location, etag: str, *, smart_open_args: dict[str, Any]) -> BinaryIO:
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
    )
    # A session of its own: boto3's default one is not safe to use from several threads.
    return boto3.session.Session().client("s3", config=config)


def _error_code(err: ClientError) -> str:
    return str(err.response.get("Error", {}).get("Code", ""))


def _s3_source_error(
    source: str, location: Location, err: BotoCoreError | ClientError
) -> SourceError:
    """Say what went wrong with a store, and what to do about it, in one line."""
    bucket = location.bucket
    endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
    if isinstance(err, ClientError):
        code = _error_code(err)
        if code == "NoSuchBucket":
            what = f"bucket {bucket!r} does not exist"
            then = "check its name, and AWS_ENDPOINT_URL if the store is not AWS"
        elif code in _REFUSED:
            what = f"the store refuses access to bucket {bucket!r} ({code})"
            then = "check the credentials (AWS_PROFILE, AWS_ACCESS_KEY_ID) and their rights"
        else:
            what, then = f"the store answered {err}", "check the address"
    elif isinstance(err, (NoCredentialsError, PartialCredentialsError)):
        what = "no complete credentials found"
        then = "set AWS_PROFILE, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
    elif isinstance(err, (ConnectionError, HTTPClientError)):
        what = f"cannot reach the store at {endpoint or 'AWS'} ({err})"
        then = "check the network and AWS_ENDPOINT_URL"
    else:
        what, then = f"the store's settings do not work ({err})", "check the AWS settings"
    return SourceError(" ".join(f"{source!r}: {what}: {then}".split()))


# Patterns and listings


def _is_pattern(path: str) -> bool:
    return "*" in path or "?" in path


def _pattern_root(location: Location) -> Location:
    """The deepest folder before the first wildcard of a pattern."""
    fixed = re.split(r"[*?]", location.path)[0]
    return Location(location.scheme, location.bucket, fixed).parent


def _pattern_regex(pattern: str) -> re.Pattern[str]:
    wild = {"*": "[^/]*", "?": "[^/]"}
    return re.compile("".join(wild.get(char) or re.escape(char) for char in pattern), re.DOTALL)


def _listing(
    kind: Literal["file", "folder", "glob"],
    root: Location,
    paths: Iterator[str] | Sequence[str] | dict[str, StoredFile],
    suffixes: Sequence[str],
    look: Callable[[str], StoredFile],
) -> Listing:
    """Sort paths into those with a wanted suffix, looked at, and the others, counted."""
    prefix = "" if root.path in {"", "/"} else root.path
    files: list[tuple[str, StoredFile]] = []
    others: list[str] = []
    num_others = 0
    for path in paths:
        relative = path[len(prefix) :].lstrip("/")
        if path.lower().endswith(tuple(suffixes)):
            files.append((relative, look(path)))
        else:
            num_others += 1
            if len(others) < _NUM_EXAMPLES:
                others.append(relative)
    return Listing(kind, root, tuple(sorted(files, key=lambda f: f[0])), tuple(others), num_others)
