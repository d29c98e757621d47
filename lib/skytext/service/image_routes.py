"""The routes of single images."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Path, Query, Request, Response

from skytext.config import Config
from skytext.errors import CallError
from skytext.service.backend import Backend
from skytext.service.images import THUMBNAIL_SIZES, Encoded, Images
from skytext.service.models import IMAGE_ID, ImageModel
from skytext.service.problems import ProblemError, problem_responses
from skytext.service.responses import ApiJson

Id = Annotated[
    str, Path(pattern=IMAGE_ID, examples=["9f86d081884c7d659a2feaa0c55ad015"], alias="image_id")
]


def add_image_routes(router: APIRouter, backend: Backend, images: Images, config: Config) -> None:
    """Add ``/images`` and what is below it."""

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
