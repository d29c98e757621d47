"""Calls from the ingress to the deployments behind it."""

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
    """Call a method of a deployment, and retry if the replica's process exits during the call.

    There are at most three attempts. If the caller is cancelled, the call is cancelled too. If the
    method raises an error of this package or returns a refusal, this function raises that error.

    Args:
        method: a method of a deployment handle.
        arguments: the arguments of the method.
        retry_after_s: the value of ``Retry-After`` if the deployment is overloaded.
        may_repeat: whether the call may be repeated, because the method changes nothing.

    Raises:
        ProblemError: 503: the deployment is overloaded or unavailable, or the replica exited in
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
        "the process that ran this request exited, so the change may or may not have happened. "
        "To see the live version, send: GET /v1/table",
    )


def _cause(error: Exception) -> Exception:
    """Return the replica's original error, if it is an error of this package."""
    cause = getattr(error, "cause", None)
    if isinstance(cause, ProblemError):
        return ProblemError(cause.status, cause.code, cause.detail, cause.headers)
    if isinstance(cause, SkytextError):
        # Error messages of this package have one line. Ray appends more lines.
        return type(cause)(str(cause).partition("\n")[0])
    return error


class SearchHandle:
    """A `skytext.service.backend.SearchPort` for workers on the cluster."""

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
        """Return the row of an image, or None."""
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
    """A `skytext.service.backend.EmbedPort` for workers on the cluster."""

    def __init__(self, handle: Any) -> None:
        self._handle = handle

    async def query(self, text: str, version: VersionOfEach | None = None) -> Embedded:
        """Embed a query, in a batch with queries of other requests."""
        embedded: Embedded = await call(self._handle.embed_one, (text, version))
        return embedded

    async def documents(
        self, texts: Sequence[str], version: VersionOfEach | None = None
    ) -> list[Embedded]:
        """Embed descriptions."""
        found: list[Embedded] = await call(self._handle.embed_documents, list(texts), version)
        return found

    async def image_model(self) -> ImageModel:
        """Return the state of the model of the image vectors."""
        model: ImageModel = await call(self._handle.image_model)
        return model

    async def image_queries(
        self, texts: Sequence[str], version: VersionOfEach | None = None
    ) -> ImageQueries:
        """Embed queries in the space of the image vectors. The vectors have unit length."""
        queries: ImageQueries = await call(self._handle.image_queries, list(texts), version)
        return queries


class DescribeHandle:
    """Describes uploaded images with workers on the cluster."""

    def __init__(self, handle: Any) -> None:
        self._handle = handle

    async def __call__(self, data: bytes, key: str) -> list[str]:
        """Return the descriptions of an image, to use as query texts."""
        texts: list[str] = await call(self._handle.describe, data, key)
        return texts
