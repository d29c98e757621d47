"""Hands Lance fresh keys for ``s3://``.

Lance 14 asks a namespace client for the storage options of a table again before they expire, for
as long as a data set is open. This is such a client for one data set. Its keys come from
`skytext.aws.session`, in each process anew.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any
from urllib.parse import urlsplit

from skytext.aws.session import S3Access


@dataclass(frozen=True, slots=True)
class Described:
    """What Lance reads of a ``lance_namespace.DescribeTableResponse``."""

    location: str
    storage_options: dict[str, str]

    def model_dump(self, **_: Any) -> dict[str, Any]:
        """Return the fields as a dict, as pydantic's models do."""
        return asdict(self)


class S3Namespace:
    """The namespace of one data set in S3.

    Lance asks for no more than these methods. The package of its base class, `lance_namespace`,
    takes longer to import than all the rest of a worker; only lance-ray wants that class
    (`skytext.table.lance_ray_namespace`).

    Args:
        uri: the data set's address.
        access: the AWS settings of this process.
    """

    def __init__(self, uri: str, access: S3Access) -> None:
        self._uri = uri
        self._access = access

    def namespace_id(self) -> str:
        """Name the data set and the access: Lance shares connections between equal names."""
        return f"{self._uri} {id(self._access)}"

    def describe_table(self, request: Any) -> Described:
        """Return the storage options; with keys only where Lance itself asks for them."""
        # Lance hands over a dict that has only this method of a request.
        wants_keys = request.model_dump().get("vend_credentials")
        options = self.options_with_keys() if wants_keys else self.storage_options()
        return Described(location=self._uri, storage_options=options)

    def storage_options(self) -> dict[str, str]:
        """Return options without secrets; they have expired, so that Lance asks for keys."""
        return self._access.settings(urlsplit(self._uri).netloc) | {"expires_at_millis": "0"}

    def options_with_keys(self) -> dict[str, str]:
        """Return options with keys that are valid now, for a call that lasts seconds.

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
