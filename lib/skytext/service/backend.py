"""What the API asks for: the same whether the workers are here or on a cluster."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from skytext.search.request import SearchRequest
from skytext.service.problem_details import ProblemError
from skytext.service.search_query import Query, Vectors, texts_of
from skytext.service.telemetry.tracing import Carrier, carrier, span
from skytext.table.promote_rollback import Promotion


class SearchPort(Protocol):
    """A search worker; see `skytext.service.replicas.deployment_calls.SearchHandle`."""

    async def search(
        self, queries: Sequence[Query], trace: Carrier | None = None
    ) -> list[dict[str, Any]]:
        """Answer searches."""

    async def image(self, image_id: str, version: int | None = None) -> dict[str, Any] | None:
        """Return a row of a version, by default the live one."""

    async def table(self) -> dict[str, Any]:
        """Return what is served."""

    async def version(self) -> int:
        """Return the version that is served."""

    async def promote(self, version: int | None) -> Promotion:
        """Make a version live."""

    async def rollback(self) -> Promotion:
        """Go back to the version before."""


class EmbedPort(Protocol):
    """An embedding worker; see `skytext.service.replicas.deployment_calls.EmbedHandle`."""

    async def query(self, text: str) -> NDArray[np.float32]:
        """Return the unit vector of a query, float32, shape (dim,)."""

    async def documents(self, texts: Sequence[str]) -> list[NDArray[np.float32]]:
        """Return the unit vectors of descriptions."""


Describe = Callable[[bytes, str], Awaitable[list[str]]]


class Backend:
    """Answers what the API is asked.

    Args:
        embed: the embedding worker.
        searches: the search worker.
        describe: makes an image texts; None where no captioner is configured.
        metrics: returns all measurements in Prometheus' text format.
    """

    def __init__(
        self,
        embed: EmbedPort,
        searches: SearchPort,
        describe: Describe | None,
        metrics: Callable[[], Awaitable[str]],
    ) -> None:
        self._embed = embed
        self._describe = describe
        self.searches = searches
        self.metrics = metrics

    async def search(
        self, requests: Sequence[SearchRequest], versions: Sequence[int | None]
    ) -> list[dict[str, Any]]:
        """Answer searches, all from one version but for those that name another.

        Args:
            requests: what is asked for.
            versions: of the table, one a request; None: the live one, or the cursor's.

        Raises:
            CallError: a search that cannot be meant.
            ProblemError: 410, 503.
        """
        of_requests = [texts_of(request) for request in requests]
        texts = list(dict.fromkeys(itertools.chain.from_iterable(of_requests)))
        with span("embed", num_texts=len(texts)):
            vectors = dict(zip(texts, await self._queries(texts), strict=True))
        queries = [
            Query(
                request,
                {text: vectors[text] for text in some},
                await self._documents(request),
                version,
            )
            for request, some, version in zip(requests, of_requests, versions, strict=True)
        ]
        return await self.searches.search(queries, carrier() or None)

    async def _queries(self, texts: Sequence[str]) -> list[NDArray[np.float32]]:
        """Embed texts at once; the first that fails, or an end of this one, ends the others."""
        if len(texts) == 1:  # nearly always, and without tasks
            return [await self._embed.query(texts[0])]
        try:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(self._embed.query(text)) for text in texts]
        except ExceptionGroup as failed:
            # As of one text alone: they fail for the same reason, or the first one says enough.
            raise failed.exceptions[0] from None
        return [task.result() for task in tasks]

    async def _documents(self, request: SearchRequest) -> Vectors:
        if not request.described:
            return {}
        vectors = await self._embed.documents(request.described)
        return dict(zip(request.described, vectors, strict=True))

    def describer(self) -> Describe:
        """Return what makes an image texts to search with; it may refuse one: 422.

        Raises:
            ProblemError: 501: none is configured.
        """
        if self._describe is None:
            raise ProblemError(
                501,
                "no-captioner",
                "searches by an uploaded image need a captioner, and none is configured "
                "(service.captioner)",
            )
        return self._describe
