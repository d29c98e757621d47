"""The S3 access of this process. One boto3 session is used for shards, state files and Lance.

The session reads the standard environment variables and files of AWS. Examples are
``AWS_PROFILE``, ``AWS_ACCESS_KEY_ID``, ``AWS_ENDPOINT_URL``, single sign-on, roles and
``credential_process``. This module also reads two environment variables that GDAL defines. Set
``AWS_NO_SIGN_REQUEST`` to YES, true or 1 for public buckets. Set ``AWS_REQUEST_PAYER`` to requester
for requester-pays buckets.

The import of boto3 takes 0.3 s, and other stores do not need boto3. Therefore, boto3 is imported
only when S3 is used for the first time.
"""

from __future__ import annotations

import functools
import os
import threading
from datetime import UTC, datetime, timedelta
from typing import Any

_MAX_LIFE_S = 300
_DEFAULT_REGION = "us-east-1"
_YES = frozenset({"yes", "true", "1"})


class S3Access:
    """A boto3 session with the AWS settings that the environment now contains.

    The session contains secrets. Do not pickle or log this object. Each process must create its
    own object.

    Attributes:
        is_anonymous: true if requests are sent without a signature.
        is_requester_pays: true if each request declares that the requester pays.

    Raises:
        BotoCoreError: the AWS settings are invalid, or there are no credentials. If there are no
            credentials, the error is a ``NoCredentialsError``.
    """

    def __init__(self) -> None:
        import boto3
        from botocore.exceptions import NoCredentialsError

        self.is_anonymous = os.environ.get("AWS_NO_SIGN_REQUEST", "").lower() in _YES
        self.is_requester_pays = os.environ.get("AWS_REQUEST_PAYER", "").lower() == "requester"
        # boto3 itself reads only AWS_DEFAULT_REGION. Lance and other tools also read AWS_REGION, so
        # read AWS_REGION here. Create a separate session, because the default session of boto3 is
        # not thread-safe.
        self._session = boto3.session.Session(region_name=os.environ.get("AWS_REGION") or None)
        self._making_client = threading.Lock()
        self._credentials = None if self.is_anonymous else self._session.get_credentials()
        if self._credentials is None and not self.is_anonymous:
            raise NoCredentialsError

    def client(self, **config: Any) -> Any:
        """Return an S3 client.

        Args:
            config: keyword arguments for `botocore.config.Config`.
        """
        from botocore import UNSIGNED
        from botocore.config import Config

        if self.is_anonymous:
            config["signature_version"] = UNSIGNED
        with self._making_client:
            client = self._session.client("s3", config=Config(**config))
        if self.is_requester_pays:
            client.meta.events.register("before-call.s3", _set_request_payer)
        return client

    @functools.cached_property
    def endpoint(self) -> str | None:
        """The configured URL of the store. None if the store is AWS S3."""
        configured = self.client().meta.endpoint_url
        default = self.client(ignore_configured_endpoint_urls=True).meta.endpoint_url
        return None if configured == default else configured

    def settings(self, bucket: str) -> dict[str, str]:
        """Return the options for a bucket. They contain no secrets.

        The options are for the Rust library object_store. Lance and obstore use this library.
        """
        options = {"aws_region": self._session.region_name or self._region_of(bucket)}
        if self.endpoint:
            options["aws_endpoint"] = self.endpoint
            if self.endpoint.startswith("http://"):
                options["allow_http"] = "true"
        if self.is_anonymous:
            options["aws_skip_signature"] = "true"
        if self.is_requester_pays:
            options["aws_request_payer"] = "true"
        return options

    def keys(self) -> dict[str, Any]:
        """Return access keys that are valid now, in the format of obstore.

        Returns:
            A dictionary with the keys ``access_key_id``, ``secret_access_key``, ``token`` and
            ``expires_at``. The value of ``token`` may be None. The value of ``expires_at`` is the
            time when the caller must call this method again. Usually, this time is five minutes
            from now. If the access keys expire earlier, ``expires_at`` is the current time, so that
            the caller calls this method before each use. For permanent access keys, ``expires_at``
            is None.

        Raises:
            BotoCoreError: temporary access keys could not be renewed.
        """
        from botocore.credentials import RefreshableCredentials

        credentials: Any = self._credentials
        frozen = credentials.get_frozen_credentials()
        expires_at = None
        if isinstance(credentials, RefreshableCredentials):
            is_short = credentials.refresh_needed(_MAX_LIFE_S)
            life = timedelta(seconds=0 if is_short else _MAX_LIFE_S)
            expires_at = datetime.now(UTC) + life
        return {
            "access_key_id": frozen.access_key,
            "secret_access_key": frozen.secret_key,
            "token": frozen.token,
            "expires_at": expires_at,
        }

    def _region_of(self, bucket: str) -> str:
        """Return the region of a bucket. object_store cannot find out the region itself."""
        return _DEFAULT_REGION if self.endpoint else _ask_region(self, bucket)


def s3_access() -> S3Access:
    """Return the S3 access of this process, for the current AWS settings.

    Raises:
        BotoCoreError: the AWS settings are invalid, or there are no credentials. If there are no
            credentials, the error is a ``NoCredentialsError``.
    """
    settings = {key: value for key, value in os.environ.items() if key.startswith("AWS_")}
    return _make_access(tuple(sorted(settings.items())))


@functools.lru_cache(maxsize=4)
def _make_access(settings: tuple[tuple[str, str], ...]) -> S3Access:
    return S3Access()


@functools.lru_cache(maxsize=64)
def _ask_region(access: S3Access, bucket: str) -> str:
    from botocore.exceptions import ClientError

    try:
        answer = access.client().head_bucket(Bucket=bucket)
    except ClientError as error:
        # The response also contains the region if the request failed.
        answer = error.response
    headers = answer["ResponseMetadata"]["HTTPHeaders"]
    return str(headers.get("x-amz-bucket-region", _DEFAULT_REGION))


def _set_request_payer(params: dict[str, Any], **_: Any) -> None:
    params["headers"]["x-amz-request-payer"] = "requester"


def access_problem(error: Exception) -> str:
    """Return one line with the reason why S3 access failed, and the next step for the user."""
    from botocore.exceptions import NoCredentialsError, PartialCredentialsError

    if isinstance(error, (NoCredentialsError, PartialCredentialsError)):
        return (
            "no complete AWS credentials were found: set AWS_PROFILE, or AWS_ACCESS_KEY_ID and "
            "AWS_SECRET_ACCESS_KEY, or AWS_NO_SIGN_REQUEST=YES for a public bucket"
        )
    return " ".join(f"S3 access does not work ({error}): check the AWS settings".split())
