"""Parse an address: a local path, or a bucket and a key.

==========================  =============================================================
``/data/x``, ``x``, ``~/x``  a local path; ``~`` is the home folder, ``%`` is an ordinary character
``file:///data/my%20x``      a local path, percent-decoded; also ``file:/…``, ``file://localhost/…``
``s3://BUCKET/KEY``          a key exactly as it is written; it is not decoded
``gs://BUCKET/KEY``          a key exactly as it is written; it is not decoded
==========================  =============================================================

Schemes are case-insensitive. A slash at the end means that the address is a folder. In a bucket,
additional slashes are part of the folder's name. For example, ``a//`` is a folder inside the folder
``a/``.
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
    """A location in a store: a bucket and a key, or an absolute local path.

    Attributes:
        scheme: ``file``, ``s3`` or ``gs``.
        bucket: the bucket. Empty for local paths.
        path: in a bucket, the key as it is written, including trailing slashes. Otherwise, an
            absolute local path without trailing slashes.
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
        """Common prefix of all paths in this folder. It ends with a slash, or is empty."""
        return self.path if self.path.endswith("/") or not self.path else f"{self.path}/"

    @property
    def name(self) -> str:
        """The last part of the path. For the root of a bucket, this is the name of the bucket."""
        return self.path.rstrip("/").rpartition("/")[2] or self.bucket

    @property
    def parent(self) -> Location:
        """The folder that contains this file."""
        head, slash, _ = self.path.rpartition("/")
        if self.scheme == "file":
            return Location("file", "", head or "/")
        return Location(self.scheme, self.bucket, head + slash)


def parse_location(address: str) -> Location:
    """Parse an address. Wildcards are kept in ``path``.

    Raises:
        AddressError: the address is empty or not valid, its scheme is not supported, its bucket or
            path is missing, or it has a remote host.
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
        raise AddressError(
            f"{address!r} has a null character, but a path cannot have one: check the address"
        )
    # In POSIX, a path that starts with exactly two slashes may have a special meaning. So abspath
    # keeps both slashes. In skytext, such a path means the same as a path that starts with one
    # slash.
    return Location("file", "", "/" + os.path.abspath(os.path.expanduser(path)).lstrip("/"))


def _path_of_file_uri(address: str, rest: str) -> str:
    host = ""
    if rest.startswith("//"):
        host, slash, path = rest[2:].partition("/")
        rest = slash + path
    if host.lower() not in {"", "localhost"}:
        raise AddressError(
            f"{address!r} contains the host {host!r}, but only local files can be read: "
            f"write file://{rest or '/PATH'}"
        )
    if not rest.startswith("/"):
        raise AddressError(f"{address!r} has no absolute path: write file:///PATH")
    # '?' and '#' are ordinary characters, as in the key of an object in a bucket.
    return os.fsdecode(unquote_to_bytes(os.fsencode(rest)))


def _in_bucket(address: str, scheme: Scheme, rest: str) -> Location:
    bucket, _, key = rest.removeprefix("//").partition("/")
    if not rest.startswith("//"):
        raise AddressError(
            f"{address!r}: write {scheme}://BUCKET/PATH, or ./{address} for a local path"
        )
    if not bucket:
        raise AddressError(f"{address!r} has no bucket: write {scheme}://BUCKET/PATH")
    try:
        rest.encode()
    except UnicodeEncodeError as error:
        raise AddressError(
            f"{address!r} is not valid UTF-8, but a name in a bucket must be valid UTF-8: check "
            "the address"
        ) from error
    return Location(scheme, bucket, key)
