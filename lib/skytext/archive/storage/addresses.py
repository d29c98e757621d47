"""Places in a store: what an address means, and which files a pattern matches."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, cast
from urllib.parse import unquote_to_bytes, urlsplit

from skytext.errors import SourceError

Scheme = Literal["file", "s3", "gs"]


@dataclass(frozen=True)
class Location:
    """A place in a store: a bucket and key, or an absolute local path.

    Attributes:
        scheme: ``file``, ``s3`` or ``gs``.
        bucket: the bucket; empty for local paths.
        path: the key as it stands (never percent-decoded), or an absolute local path.
            No trailing slash, except the local root.
    """

    scheme: Scheme
    bucket: str
    path: str

    @property
    def uri(self) -> str:
        """The location as a URI: ``s3://bucket/key`` or a percent-encoded ``file:///…``."""
        if self.scheme == "file":
            return Path(self.path).as_uri()
        root = f"{self.scheme}://{self.bucket}"
        return f"{root}/{self.path}" if self.path else root

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
        etag: changes when the content does: the S3 ETag without quotes, elsewhere
            size and time of the last write; empty where the file could not be looked at.
    """

    uri: str
    size_bytes: int
    etag: str


def parse_location(source: str) -> Location:
    """Read a path, ``file://`` URI or ``s3://`` or ``gs://`` URI; wildcards stay in ``path``.

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
    if scheme in {"s3", "gs"}:
        # Split by hand: '?' and '#' are ordinary characters in a key, and '?' is a wildcard here.
        bucket, _, key = rest.partition("/")
        if not bucket:
            raise SourceError(f"{source!r} names no bucket: write {scheme}://BUCKET/PREFIX")
        return Location(cast(Scheme, scheme), bucket, key.rstrip("/"))
    raise SourceError(f"{source!r}: {scheme}:// is not supported: use a local path, s3:// or gs://")


def is_pattern(path: str) -> bool:
    """Whether a path holds wildcards."""
    return "*" in path or "?" in path


def pattern_root(location: Location) -> Location:
    """The deepest folder before the first wildcard of a pattern."""
    fixed = re.split(r"[*?]", location.path)[0]
    return Location(location.scheme, location.bucket, fixed).parent


def pattern_regex(pattern: str) -> re.Pattern[str]:
    """Compile a pattern; its wildcards stay within one folder level."""
    wild = {"*": "[^/]*", "?": "[^/]"}
    return re.compile("".join(wild.get(char) or re.escape(char) for char in pattern), re.DOTALL)
