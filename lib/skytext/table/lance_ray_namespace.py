"""`S3Namespace` as a subclass of `LanceNamespace`, which the tasks of lance-ray require."""

from __future__ import annotations

from lance_namespace import DescribeTableRequest, DescribeTableResponse, LanceNamespace

from skytext.aws.session import s3_access
from skytext.table.s3_namespace import S3Namespace


class LanceRayNamespace(LanceNamespace):
    """The namespace of one data set in S3.

    Args:
        uri: the data set's address.

    Raises:
        BotoCoreError: for the same reasons as `skytext.aws.session.s3_access`.
    """

    def __init__(self, uri: str) -> None:
        self._namespace = S3Namespace(uri, s3_access())

    def namespace_id(self) -> str:
        """See `S3Namespace`."""
        return self._namespace.namespace_id()

    def describe_table(self, request: DescribeTableRequest) -> DescribeTableResponse:
        """See `S3Namespace`."""
        found = self._namespace.describe_table(request)
        return DescribeTableResponse(**found.model_dump())
