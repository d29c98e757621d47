"""The address of a table, and the options that Lance needs to open the table."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from skytext.addresses.address_parser import Location, parse_location
from skytext.aws.session import S3Access, access_problem, s3_access
from skytext.errors import JobError, TableError
from skytext.table.s3_namespace import S3Namespace

IMAGES = "images"
RUNS = "runs"
_BUCKET = re.compile(r"[A-Za-z0-9._-]+")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
# Lance 14 and obstore parse s3:// and gs:// addresses as URLs. Both libraries cut the address at #
# and ?, decode %20, resolve "." and "..", and reject empty parts. They keep a % if it is not
# followed by two hex digits. LanceDB can also open a table. LanceDB removes a space at the end of
# the address.
_NOT_IN_A_URL = re.compile(r"[#?\x00-\x1f\x7f]|%[0-9A-Fa-f]{2}| (?=/?\Z)")


@dataclass(frozen=True, slots=True)
class TableLocation:
    """The address of a table. It is a folder or a URI.

    Attributes:
        uri: the absolute path or the URI, without a trailing slash. It contains no character that
            Lance or obstore would change.
    """

    uri: str

    @classmethod
    def parse(cls, table: str) -> TableLocation:
        """Parse a table address from user input.

        Raises:
            AddressError: for the same reasons as `parse_location`.
            TableError: the path is a file, or Lance cannot open a table with this name.
        """
        location = parse_location(table)
        _check_addressable(table, location)
        if location.scheme != "file":
            return cls(location.uri.removesuffix("/"))
        path = Path(location.path)
        if path.exists() and not path.is_dir():
            raise TableError(
                f"table {table!r} is a file: give a folder (a missing folder is created)"
            )
        return cls(location.path)

    @property
    def is_local(self) -> bool:
        """Whether the table is in the file system of this machine."""
        return "://" not in self.uri

    def dataset_uri(self, name: str) -> str:
        """Return the URI of one Lance data set of this table: ``images`` or ``runs``."""
        return f"{self.uri}/{name}.lance"

    @property
    def is_s3(self) -> bool:
        """Whether the table is in an S3-compatible store."""
        return self.uri.startswith("s3://")

    def s3_access(self) -> S3Access:
        """Return the AWS settings of this process, which give access to an ``s3://`` table.

        Raises:
            TableError: the AWS settings give no access.
        """
        from botocore.exceptions import BotoCoreError

        try:
            return s3_access()
        except BotoCoreError as error:
            raise TableError(f"table {self.uri}: {access_problem(error)}") from error

    def lance_options(self, name: str) -> dict[str, Any]:
        """Return the keyword arguments for a Lance function that opens or writes one data set.

        The arguments contain no secrets. For ``s3://``, Lance requests access keys when it needs
        them. While the data set is open, Lance requests new keys before the old keys expire.

        Raises:
            TableError: the AWS settings give no access.
        """
        if not self.is_s3:
            return {"storage_options": {}}
        client = self._namespace(name)
        options = client.storage_options()
        return {"storage_options": options, "namespace_client": client, "table_id": [name]}

    def lance_ray_options(self, name: str) -> dict[str, Any]:
        """Return the keyword arguments for tasks of lance-ray that open one data set.

        The arguments contain no secrets, because each task reads the AWS settings itself.
        """
        uri = self.dataset_uri(name)
        if not self.is_s3:
            return {"uri": uri}
        return {
            "table_id": [name],
            "namespace_impl": "skytext.table.lance_ray_namespace.LanceRayNamespace",
            "namespace_properties": {"uri": uri},
        }

    def short_lived_options(self, name: str) -> dict[str, str]:
        """Return storage options that contain access keys.

        The options are needed for a call of a Lance function that cannot request keys.

        Raises:
            TableError: the AWS settings give no access.
            JobError: the access keys could not be renewed.
        """
        if not self.is_s3:
            return {}
        from botocore.exceptions import BotoCoreError

        client = self._namespace(name)
        try:
            return client.options_with_keys()
        except BotoCoreError as error:
            raise JobError(f"table {self.uri}: {access_problem(error)}") from error

    def _namespace(self, name: str) -> S3Namespace:
        return S3Namespace(self.dataset_uri(name), self.s3_access())


def _check_addressable(table: str, location: Location) -> None:
    fault = _local_fault(location.path) if location.scheme == "file" else _fault(location)
    if fault:
        raise TableError(
            f"table {table!r}: Lance cannot address {fault}: choose a name that has only letters, "
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
        return "'//' (an empty part) in the name of a table in a bucket"
    dots = [part for part in parts if part in (".", "..")]
    return f"the part {dots[0]!r} in the name of a table in a bucket" if dots else None
