"""Where a table lies, and how Lance reaches it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from skytext.aws.session import S3Access, access_problem, s3_access
from skytext.errors import JobError, TableError

if TYPE_CHECKING:
    from skytext.table.s3_namespace import S3Namespace

IMAGES = "images"
RUNS = "runs"
_SCHEMES = ("s3", "gs")


@dataclass(frozen=True, slots=True)
class TableLocation:
    """A table's folder or URI.

    Attributes:
        uri: the absolute path or the URI, without a trailing slash.
    """

    uri: str

    @classmethod
    def parse(cls, table: str) -> TableLocation:
        """Read what a person typed.

        Raises:
            TableError: an unknown scheme, or a path that is a file.
        """
        scheme = urlsplit(table).scheme if "://" in table else ""
        if scheme in _SCHEMES:
            return cls(table.rstrip("/"))
        if scheme not in ("", "file"):
            raise TableError(
                f"table {table!r}: unknown scheme {scheme!r}; use a folder, s3://BUCKET/PATH or "
                "gs://BUCKET/PATH"
            )
        path = Path(table.removeprefix("file://")).expanduser()
        if path.exists() and not path.is_dir():
            raise TableError(f"table {table!r} is a file; name a folder (it is made when missing)")
        return cls(str(path.absolute()))

    @property
    def is_local(self) -> bool:
        """Whether the table lies in this machine's file system."""
        return "://" not in self.uri

    def dataset_uri(self, name: str) -> str:
        """Return the URI of one Lance data set of this table: ``images`` or ``runs``."""
        return f"{self.uri}/{name}.lance"

    @property
    def is_s3(self) -> bool:
        """Whether the table lies in a store that speaks S3."""
        return self.uri.startswith("s3://")

    def s3_access(self) -> S3Access:
        """Return this process's access to the store of an ``s3://`` table.

        Raises:
            TableError: the AWS settings give none.
        """
        from botocore.exceptions import BotoCoreError

        try:
            return s3_access()
        except BotoCoreError as error:
            raise TableError(f"table {self.uri}: {access_problem(error)}") from error

    def lance_options(self, name: str) -> dict[str, Any]:
        """Return the keyword arguments by which Lance opens or writes one data set.

        They hold no secrets. For ``s3://`` Lance asks for keys when it needs some, and again before
        they expire, as long as the data set is open.

        Raises:
            TableError: the AWS settings give no access.
        """
        if not self.is_s3:
            return {"storage_options": {}}
        client = self._namespace(name)
        options = client.storage_options()
        return {"storage_options": options, "namespace_client": client, "table_id": [name]}

    def lance_ray_options(self, name: str) -> dict[str, Any]:
        """Return the keyword arguments by which lance-ray's tasks reach one data set.

        They hold no secrets: each task resolves the AWS settings for itself.
        """
        uri = self.dataset_uri(name)
        if not self.is_s3:
            return {"uri": uri}
        return {
            "table_id": [name],
            "namespace_impl": "skytext.table.s3_namespace.S3Namespace",
            "namespace_properties": {"uri": uri},
        }

    def short_lived_options(self, name: str) -> dict[str, str]:
        """Return storage options with keys, for one call of Lance that cannot ask for keys.

        Raises:
            TableError: the AWS settings give no access.
            JobError: the keys could not be renewed.
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
        # Here, not above: it takes half a second to import, and other stores need none.
        from skytext.table.s3_namespace import S3Namespace

        return S3Namespace(self.dataset_uri(name), self.s3_access())
