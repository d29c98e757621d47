"""Searches, images, and what is served: the routes below ``/v1``."""

from __future__ import annotations

import uuid
from typing import Annotated, Any, Literal

from fastapi import APIRouter, File, Form, Path, Query, Request, Response, UploadFile
from pydantic_core import to_json

from skytext import geojson
from skytext.config import Config
from skytext.errors import CallError, ConfigError, SampleError
from skytext.filters import make_filter
from skytext.images import ImageLimits, inspect_image
from skytext.search_request import MAX_K, Mode, SearchRequest
from skytext.service.backend import Backend
from skytext.service.images import THUMBNAIL_SIZES, Encoded, Images
from skytext.service.models import (
    IMAGE_ID,
    MAX_CURSOR_CHARS,
    BatchAnswer,
    BatchBody,
    FeatureCollectionModel,
    FilterText,
    ImageModel,
    ImageSearchAnswer,
    PromoteBody,
    PromotionModel,
    SearchAnswer,
    SearchBody,
    TableModel,
)
from skytext.service.models import Query as QueryText
from skytext.service.problems import ProblemError, problem_responses

_ANY = (401, 403, 408, 413, 421, 422, 429, 500, 503)
Id = Annotated[
    str, Path(pattern=IMAGE_ID, examples=["9f86d081884c7d659a2feaa0c55ad015"], alias="image_id")
]


class ApiJson(Response):
    """JSON of plain values and moments, at once and without another check."""

    media_type = "application/json"

    def render(self, content: Any) -> bytes:
        """Return the encoded body."""
        return to_json(content, inf_nan_mode="null")


class GeoJson(ApiJson):
    """The same as GeoJSON."""

    media_type = geojson.MEDIA_TYPE


def make_routes(backend: Backend, images: Images, config: Config) -> APIRouter:
    """Return all routes of the API."""
    router = APIRouter(prefix="/v1", responses=problem_responses(*_ANY))
    _add_searches(router, backend, config)
    _add_images(router, backend, images, config)
    _add_table(router, backend)
    return router


def _add_searches(router: APIRouter, backend: Backend, config: Config) -> None:
    limits = config.service.limits

    def checked(body: SearchBody) -> SearchRequest:
        if body.k > limits.max_k:
            raise ConfigError(f"k must be 1 to {limits.max_k} here (given: {body.k})")
        return body.to_request()

    def note(request: Request, requests: list[SearchRequest], answers: list[Any]) -> None:
        log: dict[str, Any] = {
            "num_searches": len(answers),
            "num_hits": sum(len(answer["hits"]) for answer in answers),
            "table_version": answers[0]["table_version"],
        }
        if config.service.log_queries:
            log["queries"] = [
                r.model_dump(mode="json", exclude_defaults=True, exclude={"cursor"})
                for r in requests
            ]
        request.state.log = log

    async def answer(request: Request, bodies: list[SearchBody]) -> list[dict[str, Any]]:
        requests = [checked(body) for body in bodies]
        answers = await backend.search(requests)
        note(request, requests, answers)
        return answers

    both = {
        200: {
            "content": {
                geojson.MEDIA_TYPE: {
                    "schema": FeatureCollectionModel.model_json_schema(
                        ref_template="#/components/schemas/{model}"
                    )
                }
            }
        },
        **problem_responses(410),
    }

    @router.post(
        "/search",
        response_model=SearchAnswer,
        responses=both,
        tags=["search"],
        summary="Search in plain words",
    )
    async def search(body: SearchBody, request: Request) -> Response:
        """Find the images that fit best.

        With `Accept: application/geo+json` the answer is a GeoJSON FeatureCollection.
        """
        (found,) = await answer(request, [body])
        if geojson.MEDIA_TYPE in request.headers.get("accept", ""):
            return GeoJson(geojson.feature_collection(found))
        return ApiJson(found)

    @router.get(
        "/search",
        response_model=SearchAnswer,
        responses=both,
        tags=["search"],
        summary="Search by a link",
    )
    async def search_by_link(
        request: Request,
        text: Annotated[QueryText | None, Query(description="What to look for.")] = None,
        like: Annotated[
            str | None, Query(pattern=IMAGE_ID, description="More like this image.")
        ] = None,
        mode: Annotated[Mode | None, Query()] = None,
        k: Annotated[int, Query(ge=1, le=MAX_K)] = 10,
        filter: Annotated[FilterText | None, Query(description="E.g. `gsd < 1`.")] = None,
        bbox: Annotated[
            str | None,
            Query(description="West,south,east,north in degrees.", max_length=200),
        ] = None,
        after: Annotated[str | None, Query(description="From this day or time on.")] = None,
        before: Annotated[str | None, Query(description="Before this day or time.")] = None,
        cursor: Annotated[str | None, Query(min_length=1, max_length=MAX_CURSOR_CHARS)] = None,
        format: Annotated[Literal["json", "geojson"], Query()] = "json",
    ) -> Response:
        """The same as a link, for QGIS (`format=geojson`), web maps and bookmarks."""
        where = make_filter(where=filter, bbox=_box(bbox), after=after, before=before)
        body = SearchBody(
            text=text,
            like=() if like is None else (like,),
            mode=mode,
            k=k,
            filter=where,
            cursor=cursor,
        )
        (found,) = await answer(request, [body])
        return GeoJson(geojson.feature_collection(found)) if format == "geojson" else ApiJson(found)

    @router.post(
        "/search/batch",
        response_model=BatchAnswer,
        responses=problem_responses(410),
        tags=["search"],
        summary="Several searches at once",
    )
    async def search_batch(body: BatchBody, request: Request) -> Response:
        """Answer several searches from one version of the table."""
        if len(body.searches) > limits.max_batch:
            raise ProblemError(
                413,
                "too-large",
                f"a batch may have {limits.max_batch} searches (given: {len(body.searches)})",
            )
        return ApiJson({"answers": await answer(request, list(body.searches))})

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
        k: Annotated[int, Form(ge=1, le=MAX_K)] = 10,
        filter: Annotated[FilterText | None, Form()] = None,
    ) -> Response:
        """Describe an uploaded image, and search for what its descriptions say.

        Needs a captioner: 501 where none is configured.
        """
        data = await file.read()
        try:
            inspect_image(data, ImageLimits(config.images.max_pixels, config.images.min_side_px))
        except SampleError as error:
            raise ProblemError(422, "not-an-image", error.detail) from error
        texts = await backend.describe(data, uuid.uuid4().hex)
        body = SearchBody(texts=tuple(texts), k=k, filter=filter, mode="dense")
        (found,) = await answer(request, [body])
        return ApiJson({**found, "queries": texts})


def _box(text: str | None) -> list[float] | None:
    if text is None:
        return None
    try:
        numbers = [float(part) for part in text.split(",")]
    except ValueError:
        numbers = []
    if len(numbers) != 4:
        raise ConfigError("bbox must be west,south,east,north: four numbers with commas")
    return numbers


def _add_images(router: APIRouter, backend: Backend, images: Images, config: Config) -> None:
    async def row_of(image_id: str) -> dict[str, Any]:
        row = await backend.searches.image(image_id)
        if row is None:
            raise ProblemError(404, "no-image", "no image of this table has this image_id")
        return row

    def cached(request: Request, etag: str) -> Response | None:
        """Return a 304 where the client has it already."""
        given = request.headers.get("if-none-match", "")
        known = [tag.strip().removeprefix("W/") for tag in given.split(",")]
        if etag in known or given.strip() == "*":
            return Response(status_code=304, headers=_cache_headers(etag, config))
        return None

    def handed_out(image: Encoded, version: int) -> Response:
        headers = _cache_headers(image.etag, config)
        headers["X-Table-Version"] = str(version)
        # Whatever its bytes may be to a browser: never a page of ours.
        headers["Content-Security-Policy"] = "default-src 'none'; sandbox"
        if not image.media_type.startswith("image/"):
            headers["Content-Disposition"] = "attachment"
        return Response(image.data, media_type=image.media_type, headers=headers)

    @router.get(
        "/images/{image_id}",
        response_model=ImageModel,
        responses=problem_responses(404),
        tags=["images"],
        summary="One image",
    )
    async def image(image_id: Id) -> Response:
        """The row: where the image lies, all its descriptions, and how they were made."""
        return ApiJson(await row_of(image_id))

    gone = problem_responses(404, 410, 502)
    not_modified: dict[int | str, dict[str, Any]] = {304: {"description": "Not modified"}}

    @router.get(
        "/images/{image_id}/bytes",
        response_class=Response,
        tags=["images"],
        summary="The image as it lies in the archive",
        responses={
            200: {
                "content": _binary(
                    "image/jpeg",
                    "image/png",
                    "image/webp",
                    "image/tiff",
                    "application/octet-stream",
                )
            },
            **not_modified,
            **gone,
        },
    )
    async def image_bytes(image_id: Id, request: Request) -> Response:
        """One ranged read of its shard; 410 where that has changed since."""
        row = await row_of(image_id)
        images.check(row)
        return cached(request, images.etag(row)) or handed_out(
            await images.whole(row), row["table_version"]
        )

    @router.get(
        "/images/{image_id}/thumbnail",
        response_class=Response,
        tags=["images"],
        summary="The image, small",
        responses={200: {"content": _binary("image/webp")}, **not_modified, **gone},
    )
    async def thumbnail(
        image_id: Id,
        request: Request,
        size: Annotated[
            Literal["128", "256", "512", "1024"], Query(description="Longer side, in pixels.")
        ] = "256",
    ) -> Response:
        """WebP, 8-bit RGB, upright; 16-bit and float images by a percentile stretch."""
        row = await row_of(image_id)
        images.check(row)
        size_px = int(size)
        if size_px not in THUMBNAIL_SIZES:
            raise CallError(f"size must be one of {THUMBNAIL_SIZES}")
        hit = cached(request, images.etag(row, size_px))
        return hit or handed_out(await images.thumbnail(row, size_px), row["table_version"])


def _binary(*media_types: str) -> dict[str, Any]:
    return {name: {"schema": {"type": "string", "format": "binary"}} for name in media_types}


def _cache_headers(etag: str, config: Config) -> dict[str, str]:
    age = config.service.image_max_age_s
    return {"ETag": etag, "Cache-Control": f"private, max-age={age}"}


def _add_table(router: APIRouter, backend: Backend) -> None:
    @router.get("/table", response_model=TableModel, tags=["table"], summary="What is served")
    async def table() -> Response:
        """Version, rows, models, and how fresh the index is."""
        return ApiJson(await backend.searches.table())

    @router.post(
        "/admin/promote",
        response_model=PromotionModel,
        tags=["admin"],
        summary="Serve another version",
    )
    async def promote(body: PromoteBody) -> PromotionModel:
        """Needs a key with the right to administer. All replicas follow within seconds."""
        done = await backend.searches.promote(body.version)
        return PromotionModel(live_version=done.version, previous_version=done.previous_version)

    @router.post(
        "/admin/rollback",
        response_model=PromotionModel,
        tags=["admin"],
        summary="Serve the version before",
    )
    async def rollback() -> PromotionModel:
        """Needs a key with the right to administer. Again: the version before that."""
        done = await backend.searches.rollback()
        return PromotionModel(live_version=done.version, previous_version=done.previous_version)
