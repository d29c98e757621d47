"""Supply Lance with fresh keys for ``s3://``.

Lance 14 requests the storage options of a table from a namespace client again before they expire,
as long as a data set is open. This module is such a client for one data set. Each process gets its
keys from `skytext.aws.session`.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any
from urllib.parse import urlsplit

from skytext.aws.session import S3Access


@dataclass(frozen=True, slots=True)
class Described:
    """The fields of ``lance_namespace.DescribeTableResponse`` that Lance reads."""

    location: str
    storage_options: dict[str, str]

    def model_dump(self, **_: Any) -> dict[str, Any]:
        """Return the fields as a dict, like pydantic's models."""
        return asdict(self)


class S3Namespace:
    """The namespace of one data set in S3.

    Lance calls only these methods. The base class in `lance_namespace` takes longer to import than
    the rest of a worker, and only lance-ray needs it (`skytext.table.lance_ray_namespace`).

    Args:
        uri: the data set's address.
        access: the AWS settings of this process.
    """

    def __init__(self, uri: str, access: S3Access) -> None:
        self._uri = uri
        self._access = access

    def namespace_id(self) -> str:
        """Return a name for data set and access: Lance shares connections of equal names."""
        return f"{self._uri} {id(self._access)}"

    def describe_table(self, request: Any) -> Described:
        """Return the storage options, with keys only if Lance itself requests them."""
        # Lance passes a dict that has only this method of a request.
        wants_keys = request.model_dump().get("vend_credentials")
        options = self.options_with_keys() if wants_keys else self.storage_options()
        return Described(location=self._uri, storage_options=options)

    def storage_options(self) -> dict[str, str]:
        """Return options without secrets, already expired, so that Lance requests keys."""
        return self._access.settings(urlsplit(self._uri).netloc) | {"expires_at_millis": "0"}

    def options_with_keys(self) -> dict[str, str]:
        """Return options with keys that are valid now, for a call of a few seconds.

        Raises:
            BotoCoreError: the keys could not be renewed.
        """
        options = self.storage_options()
        if self._access.is_anonymous:
            del options["expires_at_millis"]
            return options
        keys = self._access.keys()
        options["aws_access_key_id"] = keys["access_key_id"]
        options["aws_secret_access_key"] = keys["secret_access_key"]
        if keys["token"]:
            options["aws_session_token"] = keys["token"]
        if keys["expires_at"] is None:
            del options["expires_at_millis"]
        else:
            options["expires_at_millis"] = str(int(keys["expires_at"].timestamp() * 1000))
        return options
