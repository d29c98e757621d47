"""The operations of the API. The workers can be in this process or on a cluster."""

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
from skytext.table.versions.promote_rollback import Promotion

_log = logging.getLogger("skytext.service.backend")
# Every table supports this mode.
_TRIAL = SearchRequest(text=TRIAL, mode="dense", k=1)


class SearchPort(Protocol):
    """The interface of a search worker.

    The implementation for a cluster is `skytext.service.replicas.deployment_calls.SearchHandle`.
    """

    async def search(
        self, queries: Sequence[Query], trace: Carrier | None = None
    ) -> list[dict[str, Any] | OtherModel]:
        """Run searches. A result is `OtherModel` if its query was embedded with a wrong model."""

    async def image(
        self, image_id: str, version: VersionOfEach | None = None, table: str | None = None
    ) -> dict[str, Any] | None:
        """Return the row of an image, or None if no table contains the image.

        Args:
            image_id: the id of the image.
            version: the version to read. None means the live version.
            table: the name of the table to read. None means the first table that contains the
                image.
        """

    async def table(self) -> dict[str, Any]:
        """Return facts about the served tables."""

    async def promote(self, version: int | None, table: str | None = None) -> Promotion:
        """Make a version of a table live. If there are several tables, ``table`` is required."""

    async def rollback(self, table: str | None = None) -> Promotion:
        """Make the previous version of a table live. ``table`` is used as in `promote`."""


class EmbedPort(Protocol):
    """The interface of an embedding worker.

    The implementation for a cluster is `skytext.service.replicas.deployment_calls.EmbedHandle`.

    The methods with a parameter ``version`` use the embedding model of this version of the table.
    None means the live version.
    """

    async def query(self, text: str, version: VersionOfEach | None = None) -> Embedded:
        """Embed a query."""

    async def documents(
        self, texts: Sequence[str], version: VersionOfEach | None = None
    ) -> list[Embedded]:
        """Embed descriptions."""

    async def image_model(self) -> ImageModel:
        """Return the state of the model that embeds queries for the image vectors."""

    async def image_queries(
        self, texts: Sequence[str], version: VersionOfEach | None = None
    ) -> ImageQueries:
        """Embed queries for a search of the image vectors. The results have unit length."""


Describe = Callable[[bytes, str], Awaitable[list[str]]]


class Backend:
    """Answers the requests of the API.

    Args:
        embed: the embedding worker.
        searches: the search worker.
        describe: a function that captions an uploaded image. None if no captioner is configured.
        metrics: a function that returns all metrics in Prometheus' text format.
        canary: the object that selects the searches for the canary, and that counts the searches
            in the canary and in the live version.
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
        """Run searches.

        A search can name its version. All searches that name no version run in the same version.
        This is the live version. If a canary is running, it is the canary for a share of the calls.

        Args:
            requests: the searches.
            versions: the version for each request. None means that the cursor of the request
                determines the version. If there is no cursor either, the request names no version.

        Raises:
            CallError: a search is invalid.
            ProblemError: 410: the service no longer holds the version. 501: the image vectors
                cannot be searched. 503: a model is not loaded yet, or the service is overloaded.
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
        """Run searches in the canary, and return the results.

        If the canary fails, return None. The caller must then use the live version.
        """
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
            _log.warning(
                "a search failed in the canary: the service repeats the search in the live version",
                extra={"error": str(error)},
            )
            return None

    async def try_out(self, version: VersionOfEach | None) -> dict[str, Any]:
        """Embed and run a test search, and return the result. The search is not counted.

        Args:
            version: the version to search. None means the live version.

        Raises:
            ProblemError: for the same reasons as in `search`.
        """
        (answer,) = await self._search([_TRIAL], [version], version)
        return answer

    async def follow_canary(self) -> None:
        """Start canaries, compare them with the live version, and end them.

        This runs until the task is cancelled.
        """
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
            versions: the version for each request, as in `search`.
            by: a version. The models of this version embed the searches. None means the live
                version.
            only_if_open: the attribute of `Query` with this name.
        """
        embedded = await self._embedded(requests, versions, by)
        queries = [query._replace(only_if_open=only_if_open) for query in embedded]
        found = await self.searches.search(queries, carrier() or None)
        # If a search was embedded with the wrong model for its version, the replica did not run the
        # search. Embed the search again with the right model, and run it.
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
        """Embed the texts of requests with the models of the version ``by``.

        Returns:
            One query for each request.
        """
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
        """Embed texts concurrently. If one call fails or is cancelled, cancel all calls."""
        if len(texts) == 1:  # this is the usual case, and it needs no tasks
            return [await self._embed.query(texts[0], by)]
        try:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(self._embed.query(text, by)) for text in texts]
        except ExceptionGroup as failed:
            # Report only the first error.
            raise failed.exceptions[0] from None
        return [task.result() for task in tasks]

    async def _image_queries(
        self, requests: Sequence[SearchRequest], by: VersionOfEach | None
    ) -> ImageQueries | None:
        """Embed the texts of all requests that search the image vectors.

        Return None if no request searches the image vectors.
        """
        some = [request for request in requests if request.mode in IMAGE_MODES]
        if not some:
            return None
        texts = itertools.chain.from_iterable(map(texts_of, some))
        return await self._embed.image_queries(list(dict.fromkeys(texts)), by)

    async def table(self) -> dict[str, Any]:
        """Return facts about the served tables.

        Raises:
            ProblemError: 503: the store of a table does not respond, or the service is overloaded.
        """
        about = await self.searches.table()
        served = about.pop("image_fingerprint")
        model = await self._embed.image_model()
        problem = _why_no_images(served, model)
        if served is None or problem is not None:
            about["modes"] = [mode for mode in about["modes"] if mode not in IMAGE_MODES]
        return {**about, "no_image_search": problem}

    async def no_image_search(self) -> str | None:
        """Return the reason why the image vectors of the table cannot be searched.

        The result is None if the image vectors can be searched, or if there are no image vectors.
        """
        return (await self._embed.image_model()).problem

    async def _documents(self, request: SearchRequest, by: VersionOfEach | None) -> Vectors:
        if not request.described:
            return {}
        vectors = await self._embed.documents(request.described, by)
        return dict(zip(request.described, vectors, strict=True))

    def describer(self) -> Describe:
        """Return the function that captions uploaded images. It can refuse an image (status 422).

        Raises:
            ProblemError: 501: no captioner is configured.
        """
        if self._describe is None:
            raise ProblemError(
                501,
                "no-captioner",
                "a search by an uploaded image needs a captioner, but no captioner is configured: "
                "start the service with service.captioner set to true",
            )
        return self._describe


def _why_no_images(served: str | None, model: ImageModel) -> str | None:
    """Return the reason why the image vectors of the live version cannot be searched.

    The result is None if the image vectors can be searched, or if there are no image vectors.

    Args:
        served: the fingerprint of the column of image vectors in the live version. None if the
            version has no image vectors.
        model: the state of the model that embeds queries for the image vectors.
    """
    if served is None or served == model.fingerprint:
        return None
    return model.problem or (
        "the model of the image vectors is not loaded yet: try again in a few seconds"
    )
