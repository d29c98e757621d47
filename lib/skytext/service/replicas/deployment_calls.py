"""Calls from the ingress to the other deployments."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from ray.exceptions import RayActorError, RayTaskError
from ray.serve.exceptions import BackPressureError, DeploymentUnavailableError

from skytext.errors import SkytextError
from skytext.service.problem_details import ProblemError, too_busy
from skytext.service.replicas.refusals import answer_of
from skytext.service.search_query import Embedded, ImageModel, ImageQueries, OtherModel, Query
from skytext.service.served_tables import VersionOfEach
from skytext.service.telemetry.tracing import Carrier
from skytext.table.versions.promote_rollback import Promotion

_TRIES = 3


async def call(
    method: Any, *arguments: Any, retry_after_s: int = 1, may_repeat: bool = True
) -> Any:
    """Call a method of a deployment. If the process of the replica exits during the call, retry.

    There are at most three attempts. If the caller is cancelled, the call is cancelled too. If the
    method raises an error of this package or returns a `Refusal`, this function raises the error.

    Args:
        method: a method of a deployment handle.
        arguments: the arguments of the method.
        retry_after_s: the value of ``Retry-After`` in the response if the deployment is overloaded.
        may_repeat: true if the call may be repeated because the method changes nothing.

    Raises:
        ProblemError: 503: the deployment is overloaded or not available, or the replica exited in
            each attempt. 500: the replica exited during a call that must not be repeated.
    """
    for _ in range(_TRIES):
        response = method.remote(*arguments)
        try:
            return answer_of(await response)
        except asyncio.CancelledError:
            response.cancel()
            raise
        except (BackPressureError, DeploymentUnavailableError) as error:
            raise too_busy(
                "the service is overloaded or not available: try again later", retry_after_s
            ) from error
        except RayTaskError as error:
            raise _cause(error) from error
        except RayActorError as error:
            if not may_repeat:
                raise _unknown() from error
    raise too_busy(
        "the process that ran this request exited before it responded: try again later",
        retry_after_s,
    )


def _unknown() -> ProblemError:
    return ProblemError(
        500,
        "unknown-outcome",
        "the process that ran this request exited, so it is unknown whether the live version has "
        "changed. To see the live version, send: GET /v1/table",
    )


def _cause(error: Exception) -> Exception:
    """Return the error that the method raised in the replica.

    If this is not an error of this package, return the given error.
    """
    cause = getattr(error, "cause", None)
    if isinstance(cause, ProblemError):
        return ProblemError(cause.status, cause.code, cause.detail, cause.headers)
    if isinstance(cause, SkytextError):
        # The messages of errors in this package have one line. Ray appends more lines to them.
        return type(cause)(str(cause).partition("\n")[0])
    return error


class SearchHandle:
    """A `skytext.service.backend.SearchPort` that calls workers on the cluster."""

    def __init__(self, handle: Any) -> None:
        self._handle = handle

    async def search(
        self, queries: Sequence[Query], trace: Carrier | None = None
    ) -> list[dict[str, Any] | OtherModel]:
        """Run searches."""
        found: list[dict[str, Any] | OtherModel] = await call(self._handle.search, queries, trace)
        return found

    async def image(
        self, image_id: str, version: VersionOfEach | None = None, table: str | None = None
    ) -> dict[str, Any] | None:
        """Return the row of an image, or None if no table contains the image."""
        row: dict[str, Any] | None = await call(self._handle.image, image_id, version, table)
        return row

    async def table(self) -> dict[str, Any]:
        """Return facts about the served tables."""
        about: dict[str, Any] = await call(self._handle.table)
        return about

    async def promote(self, version: int | None, table: str | None = None) -> Promotion:
        """Make a version of a table live."""
        done: Promotion = await call(self._handle.promote, version, table, may_repeat=False)
        return done

    async def rollback(self, table: str | None = None) -> Promotion:
        """Make the previous version of a table live."""
        done: Promotion = await call(self._handle.rollback, table, may_repeat=False)
        return done


class EmbedHandle:
    """A `skytext.service.backend.EmbedPort` that calls workers on the cluster."""

    def __init__(self, handle: Any) -> None:
        self._handle = handle

    async def query(self, text: str, version: VersionOfEach | None = None) -> Embedded:
        """Embed a query. The worker embeds queries of several requests in one batch."""
        embedded: Embedded = await call(self._handle.embed_one, (text, version))
        return embedded

    async def documents(
        self, texts: Sequence[str], version: VersionOfEach | None = None
    ) -> list[Embedded]:
        """Embed descriptions."""
        found: list[Embedded] = await call(self._handle.embed_documents, list(texts), version)
        return found

    async def image_model(self) -> ImageModel:
        """Return the state of the model that embeds queries for the image vectors."""
        model: ImageModel = await call(self._handle.image_model)
        return model

    async def image_queries(
        self, texts: Sequence[str], version: VersionOfEach | None = None
    ) -> ImageQueries:
        """Embed queries for a search of the image vectors. The results have unit length."""
        queries: ImageQueries = await call(self._handle.image_queries, list(texts), version)
        return queries


class DescribeHandle:
    """A function that calls workers on the cluster to describe an uploaded image."""

    def __init__(self, handle: Any) -> None:
        self._handle = handle

    async def __call__(self, data: bytes, key: str) -> list[str]:
        """Describe an image, and return the descriptions as query texts."""
        texts: list[str] = await call(self._handle.describe, data, key)
        return texts
