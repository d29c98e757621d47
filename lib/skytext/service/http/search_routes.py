"""The routes of searches."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Sequence
from typing import Annotated, Any

from fastapi import APIRouter, File, Form, Query, Request, Response, UploadFile

from skytext.config.settings import Config
from skytext.errors import ConfigError, SampleError
from skytext.filters.cql2_text import parse_filter
from skytext.pixels.decode import ImageLimits, inspect_image
from skytext.search.request import SearchRequest
from skytext.service.backend import Backend
from skytext.service.http.json_bodies import (
    SCHEMAS,
    BatchAnswer,
    BatchBody,
    FeatureCollectionModel,
    FilterText,
    ImageSearchAnswer,
    SearchAnswer,
    SearchBody,
)
from skytext.service.http.parameters import check_names, not_utf8
from skytext.service.http.responses import ApiJson, GeoJson, prefers_geojson
from skytext.service.http.search_link import SearchLink
from skytext.service.problem_details import ProblemError, problem_responses
from skytext.service.query_log import QueryLog
from skytext.service.search_query import texts_of
from skytext.service.served_tables import parse_version
from skytext_client import geojson
from skytext_client.search_fields import MAX_K

_FORM_FIELDS = {"file": False, "k": False, "filter": False}


def add_search_routes(
    router: APIRouter, backend: Backend, config: Config, query_log: QueryLog | None
) -> None:
    """Add the route ``/search`` and the routes below it."""
    searches = _Searches(backend, config, query_log)
    _add_search(router, searches)
    _add_search_by_link(router, searches)
    _add_batch(router, searches)
    _add_search_by_image(router, searches)


class _Searches:
    """Checks the limits of the service, runs searches, and adds fields to the request log."""

    def __init__(self, backend: Backend, config: Config, query_log: QueryLog | None) -> None:
        self.backend = backend
        self.config = config
        self._query_log = query_log

    async def answer(
        self,
        request: Request,
        requests: list[SearchRequest],
        versions: Sequence[int | str | None],
    ) -> list[dict[str, Any]]:
        """Run searches, and return one result per search.

        Args:
            request: the HTTP request.
            requests: the searches.
            versions: for each search, the version that the search names. None if it names none.

        Raises:
            ConfigError: a search is invalid.
            ProblemError: 413: there are too many texts. 410, 501 or 503: for the same reasons as in
                `Backend.search`.
        """
        self._check(requests)
        answers = await self.backend.search(requests, list(map(parse_version, versions)))
        self._note(request, requests, answers)
        return answers

    def _check(self, requests: list[SearchRequest]) -> None:
        limits = self.config.service.limits
        for one in requests:
            if one.k > limits.max_k:
                raise ConfigError(f"k must be 1 to {limits.max_k} in this service (given: {one.k})")
        # Each text causes a call to the embedding deployment. All HTTP requests share the queue of
        # this deployment.
        num_texts = len({text for one in requests for text in texts_of(one)})
        if num_texts > limits.max_texts:
            raise ProblemError(
                413,
                "too-large",
                f"a request may contain at most {limits.max_texts} different texts "
                f"(given: {num_texts})",
            )

    def _note(self, request: Request, requests: list[SearchRequest], answers: list[Any]) -> None:
        log: dict[str, Any] = {
            "num_searches": len(answers),
            "num_hits": sum(len(answer["hits"]) for answer in answers),
            "table_version": answers[0]["table_version"],
        }
        if self._query_log is not None:
            for one in requests:
                self._query_log.add(one)
            log["queries"] = [
                r.model_dump(mode="json", exclude_defaults=True, exclude={"cursor"})
                for r in requests
            ]
        request.state.log = log


def _json_or_geojson() -> dict[int | str, dict[str, Any]]:
    schema = {"$ref": SCHEMAS.format(model=FeatureCollectionModel.__name__)}
    return {
        200: {"content": {geojson.MEDIA_TYPE: {"schema": schema}}},
        **problem_responses(410, 501),
    }


def _add_search(router: APIRouter, searches: _Searches) -> None:
    @router.post(
        "/search",
        response_model=SearchAnswer,
        responses=_json_or_geojson(),
        tags=["search"],
        summary="Search in plain words",
    )
    async def search(body: SearchBody, request: Request) -> Response:
        """Find the images that match the query best.

        With `Accept: application/geo+json` the response is a GeoJSON FeatureCollection.
        """
        (found,) = await searches.answer(request, [body.to_request()], [body.version])
        return _shown(request, found)


def _add_search_by_link(router: APIRouter, searches: _Searches) -> None:
    @router.get(
        "/search",
        response_model=SearchAnswer,
        responses=_json_or_geojson(),
        tags=["search"],
        summary="Search by a link",
    )
    async def search_by_link(request: Request, link: Annotated[SearchLink, Query()]) -> Response:
        """Run a search. The parameters of the link contain the fields of the search.

        The link can be used in QGIS (with `format=geojson`), in a web map or as a bookmark. The
        parameters have the same names as the options of the command `skytext search`. A link with
        an unknown parameter is refused.
        """
        (found,) = await searches.answer(request, [link.to_request()], [link.version])
        return _shown(request, found, link.format)


def _shown(request: Request, found: dict[str, Any], wanted: str | None = None) -> Response:
    """Return a response with the result of a search, in JSON or GeoJSON.

    Args:
        request: the HTTP request.
        found: the result of the search.
        wanted: the format: ``json`` or ``geojson``. None means that the header ``Accept``
            determines the format.
    """
    if wanted is None:
        wanted = "geojson" if prefers_geojson(request.headers.getlist("accept")) else "json"
    return GeoJson(geojson.feature_collection(found)) if wanted == "geojson" else ApiJson(found)


def _add_batch(router: APIRouter, searches: _Searches) -> None:
    max_batch = searches.config.service.limits.max_batch

    @router.post(
        "/search/batch",
        response_model=BatchAnswer,
        responses=problem_responses(410, 501),
        tags=["search"],
        summary="Several searches in one request",
    )
    async def search_batch(body: BatchBody, request: Request) -> Response:
        """Run several searches in one version of the table."""
        if len(body.searches) > max_batch:
            raise ProblemError(
                413,
                "too-large",
                f"a batch may have at most {max_batch} searches (given: {len(body.searches)})",
            )
        requests = [one.to_request() for one in body.searches]
        answers = await searches.answer(request, requests, [one.version for one in body.searches])
        return ApiJson({"answers": answers})


def _add_search_by_image(router: APIRouter, searches: _Searches) -> None:
    images = searches.config.images
    limits = ImageLimits(images.max_pixels, images.min_side_px)

    @router.post(
        "/search/image",
        response_model=ImageSearchAnswer,
        responses=problem_responses(410, 501),
        tags=["search"],
        summary="Search by an image",
    )
    async def search_image(
        request: Request,
        file: Annotated[UploadFile, File(description="JPEG, PNG, WebP or TIFF.")],
        k: Annotated[
            int, Form(ge=1, le=MAX_K, description="Maximum number of hits.", examples=[20])
        ] = 10,
        filter: Annotated[
            FilterText | None,
            Form(
                description="Find only images that match this filter (CQL2 text).",
                examples=["gsd < 1"],
            ),
        ] = None,
    ) -> Response:
        """Describe an uploaded image, and search with the descriptions.

        This needs a captioner. If no captioner is configured, the status is 501.
        """
        check_names(
            [name for name, _ in (await request.form()).multi_items()], _FORM_FIELDS, "body"
        )
        # If the bytes of the filter are not UTF-8, the form parser has decoded them as Latin-1.
        if filter is not None and filter.encode() not in await request.body():
            raise not_utf8("the filter")
        describe = searches.backend.describer()
        data = await file.read()
        try:
            await asyncio.to_thread(inspect_image, data, limits)
        except SampleError as error:
            raise ProblemError(422, "not-an-image", error.detail) from error
        where = None if filter is None else parse_filter(filter)
        texts = await describe(data, uuid.uuid4().hex)
        described = SearchRequest(described=tuple(texts), k=k, where=where)
        (found,) = await searches.answer(request, [described], [None])
        return ApiJson({**found, "queries": texts})
