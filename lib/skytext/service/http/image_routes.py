"""The routes for single images."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Path, Query, Request, Response

from skytext.config.settings import Config
from skytext.errors import CallError
from skytext.service.archive_images import THUMBNAIL_SIZES, Encoded, Images
from skytext.service.backend import Backend
from skytext.service.http.json_bodies import EXAMPLE_ID, IMAGE_ID, ImageModel
from skytext.service.http.responses import ApiJson
from skytext.service.problem_details import ProblemError, problem_responses
from skytext.service.served_tables import parse_version
from skytext_client.search_fields import VersionToken

Id = Annotated[str, Path(pattern=IMAGE_ID, examples=[EXAMPLE_ID], alias="image_id")]

AskedVersion = Annotated[
    VersionToken | None,
    Query(
        description="The version to read. Use the `table_version` of the search that found the "
        "image. If the service no longer holds this version, the status is 410. Default: the live "
        "version.",
        examples=[42],
    ),
]
AskedTable = Annotated[
    str | None,
    Query(
        description="The table to read. If several tables are served, use the field `table` of the "
        "hit. Default: the first table that contains the image.",
        examples=["aerial-2024"],
    ),
]

_GONE = problem_responses(404, 410, 502)
_NOT_MODIFIED: dict[int | str, dict[str, Any]] = {304: {"description": "Not modified"}}
_AS_THEY_LIE = ("image/jpeg", "image/png", "image/webp", "image/tiff", "application/octet-stream")


def add_image_routes(router: APIRouter, backend: Backend, images: Images, config: Config) -> None:
    """Add the routes below ``/images``."""
    max_age_s = config.service.image_max_age_s
    _add_row(router, backend)
    _add_bytes(router, backend, images, max_age_s)
    _add_thumbnail(router, backend, images, max_age_s)


async def _row_of(
    backend: Backend, image_id: str, version: int | str | None, table: str | None
) -> dict[str, Any]:
    row = await backend.searches.image(image_id, parse_version(version), table)
    if row is None:
        raise ProblemError(
            404, "no-image", "this version of the table contains no image with this image_id"
        )
    return row


def _has_it(request: Request, etag: str) -> bool:
    given = request.headers.get("if-none-match", "")
    known = [tag.strip().removeprefix("W/") for tag in given.split(",")]
    return etag in known or given.strip() == "*"


def _not_modified(etag: str, max_age_s: int) -> Response:
    return Response(status_code=304, headers=_cache_headers(etag, max_age_s))


def _handed_out(image: Encoded, version: int | str, max_age_s: int) -> Response:
    headers = _cache_headers(image.etag, max_age_s)
    headers["X-Table-Version"] = str(version)
    # These headers prevent a browser from showing the bytes as a page of this service.
    headers["Content-Security-Policy"] = "default-src 'none'; sandbox"
    if not image.media_type.startswith("image/"):
        headers["Content-Disposition"] = "attachment"
    return Response(image.data, media_type=image.media_type, headers=headers)


def _add_row(router: APIRouter, backend: Backend) -> None:
    @router.get(
        "/images/{image_id}",
        response_model=ImageModel,
        responses=problem_responses(404, 410),
        tags=["images"],
        summary="One image",
    )
    async def image(
        image_id: Id, version: AskedVersion = None, table: AskedTable = None
    ) -> Response:
        """Return the table row of an image.

        The row contains the address of the image, the descriptions, and the models and settings
        that were used to make the descriptions.
        """
        return ApiJson(await _row_of(backend, image_id, version, table))


def _add_bytes(router: APIRouter, backend: Backend, images: Images, max_age_s: int) -> None:
    @router.get(
        "/images/{image_id}/bytes",
        response_class=Response,
        tags=["images"],
        summary="The original image from the archive",
        responses={
            200: {"content": _binary(*_AS_THEY_LIE)},
            **_NOT_MODIFIED,
            **_GONE,
        },
    )
    async def image_bytes(
        image_id: Id,
        request: Request,
        version: AskedVersion = None,
        table: AskedTable = None,
    ) -> Response:
        """Return the original bytes of an image from the archive.

        The service reads only the part of the shard that contains the image. If the shard no longer
        contains the image, the status is 410.
        """
        row = await _row_of(backend, image_id, version, table)
        images.check(row)
        etag = images.etag(row)
        if _has_it(request, etag):
            await images.check_unchanged(row)
            return _not_modified(etag, max_age_s)
        return _handed_out(await images.whole(row), row["table_version"], max_age_s)


def _add_thumbnail(router: APIRouter, backend: Backend, images: Images, max_age_s: int) -> None:
    @router.get(
        "/images/{image_id}/thumbnail",
        response_class=Response,
        tags=["images"],
        summary="A thumbnail of the image",
        responses={200: {"content": _binary("image/webp")}, **_NOT_MODIFIED, **_GONE},
    )
    async def thumbnail(
        image_id: Id,
        request: Request,
        size: Annotated[
            Literal["128", "256", "512", "1024"],
            Query(description="Maximum length of the longer side, in pixels.", examples=["512"]),
        ] = "256",
        version: AskedVersion = None,
        table: AskedTable = None,
    ) -> Response:
        """Return a thumbnail of an image, as an upright WebP image in 8-bit RGB.

        If the image has 16-bit or floating-point values, a percentile stretch scales the values to
        8 bits. If the shard no longer contains the image, the status is 410.
        """
        row = await _row_of(backend, image_id, version, table)
        images.check(row)
        size_px = int(size)
        if size_px not in THUMBNAIL_SIZES:
            raise CallError(f"size must be one of {THUMBNAIL_SIZES}")
        etag = images.etag(row, size_px)
        if _has_it(request, etag):
            await images.check_unchanged(row)
            return _not_modified(etag, max_age_s)
        small = await images.thumbnail(row, size_px)
        return _handed_out(small, row["table_version"], max_age_s)


def _binary(*media_types: str) -> dict[str, Any]:
    return {name: {"schema": {"type": "string", "format": "binary"}} for name in media_types}


def _cache_headers(etag: str, max_age_s: int) -> dict[str, str]:
    return {"ETag": etag, "Cache-Control": f"private, max-age={max_age_s}"}
