"""Supply Lance with valid access keys for ``s3://``.

While a data set is open, Lance 14 requests new storage options from a *namespace client* before the
old options expire. `S3Namespace` is such a namespace client for one data set. Each process gets its
access keys from `skytext.aws.session`.
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
        """Return the fields as a dict. Pydantic's models have the same method."""
        return asdict(self)


class S3Namespace:
    """The namespace of one data set in S3.

    Lance needs only the methods of this class. It does not need the base class `LanceNamespace`.
    The base class is not used here, because its import takes longer than all other imports of a
    worker. Only lance-ray needs the base class (`skytext.table.lance_ray_namespace`).

    Args:
        uri: the data set's address.
        access: the AWS settings of this process.
    """

    def __init__(self, uri: str, access: S3Access) -> None:
        self._uri = uri
        self._access = access

    def namespace_id(self) -> str:
        """Return a name that identifies the data set and the AWS settings.

        Namespaces with equal names share the connections of Lance.
        """
        return f"{self._uri} {id(self._access)}"

    def describe_table(self, request: Any) -> Described:
        """Return the storage options. They contain access keys only if Lance requests keys."""
        # Lance passes a dict that has a ``model_dump`` method. This dict has no other attribute of
        # a request.
        wants_keys = request.model_dump().get("vend_credentials")
        options = self.options_with_keys() if wants_keys else self.storage_options()
        return Described(location=self._uri, storage_options=options)

    def storage_options(self) -> dict[str, str]:
        """Return storage options without secrets.

        The options are marked as expired, so that Lance requests options with access keys.
        """
        return self._access.settings(urlsplit(self._uri).netloc) | {"expires_at_millis": "0"}

    def options_with_keys(self) -> dict[str, str]:
        """Return storage options with access keys. The keys are valid for at least a few seconds.

        Raises:
            BotoCoreError: the access keys could not be renewed.
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
