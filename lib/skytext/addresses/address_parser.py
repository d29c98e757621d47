"""Parse an address: a local path, or a bucket and a key.

==========================  =============================================================
``/data/x``, ``x``, ``~/x``  a local path; ``~`` is the home folder, ``%`` is an ordinary character
``file:///data/my%20x``      a local path, percent-decoded; ``file:/…``, ``file://localhost/…`` too
``s3://BUCKET/KEY``          a key exactly as it is written: nothing is decoded
``gs://BUCKET/KEY``          the same
==========================  =============================================================

Schemes are case-insensitive. One slash at the end means "the folder". In a bucket, further slashes
belong to the folder's name: ``a//`` is a folder inside the folder ``a/``.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, cast
from urllib.parse import unquote_to_bytes

from skytext.errors import AddressError

Scheme = Literal["file", "s3", "gs"]

_SCHEME = re.compile(r"(s3|gs|file):|([a-z][a-z0-9+.-]*)://", re.IGNORECASE)
_KNOWN = "use a local path, s3://BUCKET/PATH or gs://BUCKET/PATH"


@dataclass(frozen=True)
class Location:
    """A place in a store: a bucket and key, or an absolute local path.

    Attributes:
        scheme: ``file``, ``s3`` or ``gs``.
        bucket: the bucket; empty for local paths.
        path: the key as written, including trailing slashes, or an absolute local path without
            them.
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
    def prefix(self) -> str:
        """Common prefix of the paths below this folder: with a trailing slash, or empty."""
        return self.path if self.path.endswith("/") or not self.path else f"{self.path}/"

    @property
    def name(self) -> str:
        """The last part of the path; the bucket's name for the root of a bucket."""
        return self.path.rstrip("/").rpartition("/")[2] or self.bucket

    @property
    def parent(self) -> Location:
        """The folder of this file."""
        head, slash, _ = self.path.rpartition("/")
        if self.scheme == "file":
            return Location("file", "", head or "/")
        return Location(self.scheme, self.bucket, head + slash)


def parse_location(address: str) -> Location:
    """Parse an address; wildcards stay in ``path``.

    Raises:
        AddressError: the address is empty, has an unsupported scheme, or has no bucket, no path or
            a remote host.
    """
    found = _SCHEME.match(address)
    if found is None:
        return _local(address, address)
    scheme = (found[1] or found[2]).lower()
    rest = address[found.end(1) + 1 :]
    if scheme == "file":
        return _local(address, _path_of_file_uri(address, rest))
    if scheme in {"s3", "gs"}:
        return _in_bucket(address, cast(Scheme, scheme), rest)
    raise AddressError(f"{address!r}: {scheme}:// is not supported: {_KNOWN}")


def _local(address: str, path: str) -> Location:
    if not path:
        raise AddressError(f"the address is empty: {_KNOWN}")
    if "\0" in path:
        raise AddressError(f"{address!r} has a null character, which paths cannot have: check it")
    # POSIX keeps two leading slashes; here they are the same as one.
    return Location("file", "", "/" + os.path.abspath(os.path.expanduser(path)).lstrip("/"))


def _path_of_file_uri(address: str, rest: str) -> str:
    host = ""
    if rest.startswith("//"):
        host, slash, path = rest[2:].partition("/")
        rest = slash + path
    if host.lower() not in {"", "localhost"}:
        raise AddressError(
            f"{address!r} names the host {host!r}, but only local files can be read: "
            f"write file://{rest or '/PATH'}"
        )
    if not rest.startswith("/"):
        raise AddressError(f"{address!r} names no absolute path: write file:///PATH")
    # '?' and '#' are ordinary characters, as in a key.
    return os.fsdecode(unquote_to_bytes(os.fsencode(rest)))


def _in_bucket(address: str, scheme: Scheme, rest: str) -> Location:
    bucket, _, key = rest.removeprefix("//").partition("/")
    if not rest.startswith("//"):
        raise AddressError(
            f"{address!r}: write {scheme}://BUCKET/PATH, or ./{address} for a local path"
        )
    if not bucket:
        raise AddressError(f"{address!r} names no bucket: write {scheme}://BUCKET/PATH")
    try:
        rest.encode()
    except UnicodeEncodeError as error:
        raise AddressError(
            f"{address!r} is not valid UTF-8, but names in a bucket must be: check the address"
        ) from error
    return Location(scheme, bucket, key)
