"""Where a table lies, and how Lance reaches it."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

from skytext.addresses.address_parser import Location, parse_location
from skytext.errors import TableError

IMAGES = "images"
RUNS = "runs"
_BUCKET = re.compile(r"[A-Za-z0-9._-]+")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
# Lance 14 and obstore read s3:// and gs:// addresses as URLs: they cut at # and ?, decode %20, and
# resolve "." and ".."; an empty part they refuse. A % without two hex digits behind it stays.
# LanceDB, which may open a table too, drops a space at the end.
_NOT_IN_A_URL = re.compile(r"[#?\x00-\x1f\x7f]|%[0-9A-Fa-f]{2}| (?=/?\Z)")


@dataclass(frozen=True, slots=True)
class TableLocation:
    """A table's folder or URI.

    Attributes:
        uri: the absolute path or the URI, without a trailing slash. Lance and obstore mean by it
            exactly the place that its letters name.
    """

    uri: str

    @classmethod
    def parse(cls, table: str) -> TableLocation:
        """Read what a person typed.

        Raises:
            AddressError: as `parse_location`.
            TableError: a path that is a file, or a name that Lance cannot address.
        """
        location = parse_location(table)
        _check_addressable(table, location)
        if location.scheme != "file":
            return cls(location.uri.removesuffix("/"))
        path = Path(location.path)
        if path.exists() and not path.is_dir():
            raise TableError(f"table {table!r} is a file; name a folder (it is made when missing)")
        return cls(location.path)

    @property
    def is_local(self) -> bool:
        """Whether the table lies in this machine's file system."""
        return "://" not in self.uri

    def dataset_uri(self, name: str) -> str:
        """Return the URI of one Lance data set of this table: ``images`` or ``runs``."""
        return f"{self.uri}/{name}.lance"

    def storage_options(self) -> dict[str, str]:
        """Return what Lance's object store needs beyond the variables that it reads itself.

        Lance reads the usual ``AWS_*`` credentials; a custom endpoint by the AWS tools' own
        names, and one without TLS, must be handed over.
        """
        if not self.uri.startswith("s3://"):
            return {}
        endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
        if not endpoint:
            return {}
        options = {"aws_endpoint": endpoint}
        if endpoint.startswith("http://"):
            options["allow_http"] = "true"
        return options


def _check_addressable(table: str, location: Location) -> None:
    fault = _local_fault(location.path) if location.scheme == "file" else _fault(location)
    if fault:
        raise TableError(
            f"table {table!r}: Lance cannot address {fault}: name another place, of letters, "
            "digits, '-', '_', '.' and single slashes"
        )


def _local_fault(path: str) -> str | None:
    try:
        path.encode()
    except UnicodeEncodeError:
        return "a name that is not UTF-8"
    found = _CONTROL.search(path)
    return f"{found[0]!r} in a path" if found else None


def _fault(location: Location) -> str | None:
    if not _BUCKET.fullmatch(location.bucket):
        return f"the bucket {location.bucket!r}"
    if found := _NOT_IN_A_URL.search(location.path):
        return f"{found[0]!r} in the name of a table in a bucket"
    parts = location.prefix.split("/")[:-1]
    if "" in parts:
        return "'//', an empty part of a name in a bucket"
    dots = [part for part in parts if part in (".", "..")]
    return f"the part {dots[0]!r} of a name in a bucket" if dots else None
