"""How this process reaches S3: one boto3 session serves shards, state files and Lance.

The settings are AWS's own variables and files: ``AWS_PROFILE``, ``AWS_ACCESS_KEY_ID``,
``AWS_ENDPOINT_URL``, single sign-on, roles, ``credential_process`` and so on. Two variables are
read here, by the names that GDAL gave them: ``AWS_NO_SIGN_REQUEST`` (YES, true or 1) for public
buckets, ``AWS_REQUEST_PAYER`` (requester) for buckets whose readers pay.

boto3 is imported when S3 is first used: its import takes 0.3 s, and other stores do not need it.
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
    """What boto3's session makes of the AWS settings as they stand in the environment.

    It holds secrets: it is neither pickled nor logged, and each process makes its own.

    Attributes:
        is_anonymous: requests are not signed.
        is_requester_pays: requests say that the reader pays.

    Raises:
        BotoCoreError: settings that do not work; ``NoCredentialsError`` where there are none.
    """

    def __init__(self) -> None:
        import boto3
        from botocore.exceptions import NoCredentialsError

        self.is_anonymous = os.environ.get("AWS_NO_SIGN_REQUEST", "").lower() in _YES
        self.is_requester_pays = os.environ.get("AWS_REQUEST_PAYER", "").lower() == "requester"
        # boto3 reads AWS_DEFAULT_REGION only; Lance and other AWS tools read AWS_REGION too.
        # A session of its own: boto3's default one is not safe to use from several threads.
        self._session = boto3.session.Session(region_name=os.environ.get("AWS_REGION") or None)
        self._making_client = threading.Lock()
        self._credentials = None if self.is_anonymous else self._session.get_credentials()
        if self._credentials is None and not self.is_anonymous:
            raise NoCredentialsError

    def client(self, **config: Any) -> Any:
        """Return an S3 client.

        Args:
            config: arguments of `botocore.config.Config`.
        """
        from botocore import UNSIGNED
        from botocore.config import Config

        if self.is_anonymous:
            config["signature_version"] = UNSIGNED
        with self._making_client:
            client = self._session.client("s3", config=Config(**config))
        if self.is_requester_pays:
            client.meta.events.register("before-call.s3", _say_who_pays)
        return client

    @functools.cached_property
    def endpoint(self) -> str | None:
        """The URL of a store that the settings name; None for AWS itself."""
        configured = self.client().meta.endpoint_url
        default = self.client(ignore_configured_endpoint_urls=True).meta.endpoint_url
        return None if configured == default else configured

    def settings(self, bucket: str) -> dict[str, str]:
        """Return options of Rust's object_store, which Lance and obstore are built on.

        They hold no secrets.
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
        """Return keys that are valid now, in the form that obstore asks for.

        Returns:
            ``access_key_id``, ``secret_access_key``, ``token`` (or None), and ``expires_at``: when
            to ask again; None where the keys do not change. Keys in their last five minutes are to
            be asked for before each request.

        Raises:
            BotoCoreError: they could not be renewed.
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
        """Return the region of a bucket; boto3 finds it by itself, object_store does not."""
        return _DEFAULT_REGION if self.endpoint else _ask_region(self, bucket)


def s3_access() -> S3Access:
    """Return this process's access for the AWS settings as they stand now.

    Raises:
        BotoCoreError: settings that do not work; ``NoCredentialsError`` where there are none.
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
        # A refusal names the region too.
        answer = error.response
    headers = answer["ResponseMetadata"]["HTTPHeaders"]
    return str(headers.get("x-amz-bucket-region", _DEFAULT_REGION))


def _say_who_pays(params: dict[str, Any], **_: Any) -> None:
    params["headers"]["x-amz-request-payer"] = "requester"


def access_problem(error: Exception) -> str:
    """Say in one line why the AWS settings give no access, and what to do."""
    from botocore.exceptions import NoCredentialsError, PartialCredentialsError

    if isinstance(error, (NoCredentialsError, PartialCredentialsError)):
        return (
            "no complete credentials found: set AWS_PROFILE, or AWS_ACCESS_KEY_ID and "
            "AWS_SECRET_ACCESS_KEY, or AWS_NO_SIGN_REQUEST=YES for a public bucket"
        )
    return " ".join(f"the store's settings do not work ({error}): check the AWS settings".split())
