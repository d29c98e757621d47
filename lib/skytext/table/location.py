"""Where a table lies, and how Lance reaches it."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from skytext.errors import TableError

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
