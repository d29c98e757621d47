"""The operations behind the API, the same for local workers and workers on a cluster."""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Protocol

from skytext.errors import CallError
from skytext.search.request import IMAGE_MODES, SearchRequest
from skytext.service.canary_watch import CanaryWatch
from skytext.service.problem_details import ProblemError, model_not_loaded
from skytext.service.search_query import (
    TRIAL,
    Embedded,
    ImageModel,
    ImageQueries,
    OtherModel,
    Query,
    Vectors,
    texts_of,
)
from skytext.service.served_tables import VersionOfEach
from skytext.service.telemetry.tracing import Carrier, carrier, span
from skytext.table.promote_rollback import Promotion

_log = logging.getLogger("skytext.service.backend")
# Every table supports this mode.
_TRIAL = SearchRequest(text=TRIAL, mode="dense", k=1)


class SearchPort(Protocol):
    """A search worker; see `skytext.service.replicas.deployment_calls.SearchHandle`."""

    async def search(
        self, queries: Sequence[Query], trace: Carrier | None = None
    ) -> list[dict[str, Any] | OtherModel]:
        """Run searches; return `OtherModel` for those embedded with the wrong model."""

    async def image(
        self, image_id: str, version: VersionOfEach | None = None, table: str | None = None
    ) -> dict[str, Any] | None:
        """Return a row from the first table that has it; by default in the live version."""

    async def table(self) -> dict[str, Any]:
        """Return facts about the served tables."""

    async def promote(self, version: int | None, table: str | None = None) -> Promotion:
        """Make a version of a table live; without a name, of the only table."""

    async def rollback(self, table: str | None = None) -> Promotion:
        """Go back to the previous version of a table; without a name, of the only table."""


class EmbedPort(Protocol):
    """An embedding worker; see `skytext.service.replicas.deployment_calls.EmbedHandle`."""

    async def query(self, text: str, version: VersionOfEach | None = None) -> Embedded:
        """Embed a query with the model of a version, by default the live one."""

    async def documents(
        self, texts: Sequence[str], version: VersionOfEach | None = None
    ) -> list[Embedded]:
        """Embed descriptions."""

    async def image_model(self) -> ImageModel:
        """Return the state of the image vectors' model."""

    async def image_queries(
        self, texts: Sequence[str], version: VersionOfEach | None = None
    ) -> ImageQueries:
        """Embed queries in the space of the image vectors; unit length."""


Describe = Callable[[bytes, str], Awaitable[list[str]]]


class Backend:
    """Answers the requests of the API.

    Args:
        embed: the embedding worker.
        searches: the search worker.
        describe: captions an image for a search; None without a configured captioner.
        metrics: returns all metrics in Prometheus' text format.
        canary: chooses the searches for the canary, and counts those of both versions.
    """

    def __init__(
        self,
        embed: EmbedPort,
        searches: SearchPort,
        describe: Describe | None,
        metrics: Callable[[], Awaitable[str]],
        canary: CanaryWatch,
    ) -> None:
        self._embed = embed
        self._describe = describe
        self._canary = canary
        self.searches = searches
        self.metrics = metrics

    async def search(
        self, requests: Sequence[SearchRequest], versions: Sequence[VersionOfEach | None]
    ) -> list[dict[str, Any]]:
        """Run searches, all in one version, except searches that name another version.

        If a canary runs, it answers its share of the searches that name no version.

        Args:
            requests: the searches.
            versions: the version for each request; None: the live one, or the cursor's.

        Raises:
            CallError: an invalid search.
            ProblemError: 410, 501, 503.
        """
        named = (*versions, *(request.cursor for request in requests))
        if any(one is not None for one in named):
            return await self._search(requests, versions)
        version = self._canary.version_for(requests)
        if version is not None:
            answers = await self._by_canary(requests, version)
            if answers is not None:
                return answers
        with self._canary.counting("live"):
            return await self._search(requests, versions)

    async def _by_canary(
        self, requests: Sequence[SearchRequest], version: VersionOfEach
    ) -> list[dict[str, Any]] | None:
        """Return the canary's answers, or None if the live version must answer instead."""
        try:
            with self._canary.counting("canary"):
                return await self._search(
                    requests, [version] * len(requests), version, only_if_open=True
                )
        except CallError:
            raise
        except Exception as error:
            if isinstance(error, ProblemError) and error.status < 500:
                raise
            _log.warning("the canary failed a search", extra={"error": str(error)})
            return None

    async def try_out(self, version: VersionOfEach | None) -> dict[str, Any]:
        """Run a test search through the whole path, without counting it; return the answer.

        Args:
            version: the version to search; None: the live one.

        Raises: as `search`.
        """
        (answer,) = await self._search([_TRIAL], [version], version)
        return answer

    async def follow_canary(self) -> None:
        """Start, compare and end canaries until the task is cancelled."""
        await self._canary.follow(self.try_out)

    async def _search(
        self,
        requests: Sequence[SearchRequest],
        versions: Sequence[VersionOfEach | None],
        by: VersionOfEach | None = None,
        *,
        only_if_open: bool = False,
    ) -> list[dict[str, Any]]:
        """Embed and run searches.

        Args:
            requests: the searches.
            versions: the version for each request; None: the live one, or the cursor's.
            by: the version whose models embed the searches; None: the live one.
            only_if_open: see `Query`.
        """
        embedded = await self._embedded(requests, versions, by)
        queries = [query._replace(only_if_open=only_if_open) for query in embedded]
        found = await self.searches.search(queries, carrier() or None)
        # Searches of a version with another model: embed them again with that model.
        for version in dict.fromkeys(one.version for one in found if isinstance(one, OtherModel)):
            places = [i for i, one in enumerate(found) if one == OtherModel(version)]
            some = [requests[i] for i in places]
            queries = await self._embedded(some, [version] * len(some), version)
            answers = await self.searches.search(queries, carrier() or None)
            for place, answer in zip(places, answers, strict=True):
                found[place] = answer
        if any(isinstance(one, OtherModel) for one in found):
            raise model_not_loaded()
        return [one for one in found if not isinstance(one, OtherModel)]

    async def _embedded(
        self,
        requests: Sequence[SearchRequest],
        versions: Sequence[VersionOfEach | None],
        by: VersionOfEach | None = None,
    ) -> list[Query]:
        """Return queries with the vectors of their texts, from the models of version ``by``."""
        of_requests = [texts_of(request) for request in requests]
        texts = list(dict.fromkeys(itertools.chain.from_iterable(of_requests)))
        with span("embed", num_texts=len(texts)):
            vectors = dict(zip(texts, await self._queries(texts, by), strict=True))
            images = await self._image_queries(requests, by)
        return [
            Query(
                request,
                {text: vectors[text] for text in some},
                await self._documents(request, by),
                version,
                images if request.mode in IMAGE_MODES else None,
            )
            for request, some, version in zip(requests, of_requests, versions, strict=True)
        ]

    async def _queries(self, texts: Sequence[str], by: VersionOfEach | None) -> list[Embedded]:
        """Embed texts concurrently; a failure or a cancellation cancels all of them."""
        if len(texts) == 1:  # the usual case; tasks are not needed
            return [await self._embed.query(texts[0], by)]
        try:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(self._embed.query(text, by)) for text in texts]
        except ExceptionGroup as failed:
            # One error is enough for the caller.
            raise failed.exceptions[0] from None
        return [task.result() for task in tasks]

    async def _image_queries(
        self, requests: Sequence[SearchRequest], by: VersionOfEach | None
    ) -> ImageQueries | None:
        """Embed the texts of requests in image modes; None if there are no such requests."""
        some = [request for request in requests if request.mode in IMAGE_MODES]
        if not some:
            return None
        texts = itertools.chain.from_iterable(map(texts_of, some))
        return await self._embed.image_queries(list(dict.fromkeys(texts)), by)

    async def table(self) -> dict[str, Any]:
        """Return facts about the served tables.

        Raises:
            ProblemError: 503.
        """
        about = await self.searches.table()
        served = about.pop("image_fingerprint")
        model = await self._embed.image_model()
        problem = _why_no_images(served, model)
        if served is None or problem is not None:
            about["modes"] = [mode for mode in about["modes"] if mode not in IMAGE_MODES]
        return {**about, "no_image_search": problem}

    async def no_image_search(self) -> str | None:
        """Return why the table's image vectors are not searched.

        None if they are searched, or if the table has no image vectors.
        """
        return (await self._embed.image_model()).problem

    async def _documents(self, request: SearchRequest, by: VersionOfEach | None) -> Vectors:
        if not request.described:
            return {}
        vectors = await self._embed.documents(request.described, by)
        return dict(zip(request.described, vectors, strict=True))

    def describer(self) -> Describe:
        """Return the captioner for uploaded images; it may refuse an image with 422.

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


def _why_no_images(served: str | None, model: ImageModel) -> str | None:
    """Return why the image vectors of the live version are not searched.

    Args:
        served: the fingerprint of its image vector column; None if it has none.
        model: the loaded model for queries.
    """
    if served is None or served == model.fingerprint:
        return None
    return model.problem or "their model is not loaded yet: try again in a few seconds"
