"""All routes below ``/v1``."""

from __future__ import annotations

from fastapi import APIRouter, Response

from skytext.config.settings import Config
from skytext.service.archive_images import Images
from skytext.service.backend import Backend
from skytext.service.http.image_routes import add_image_routes
from skytext.service.http.json_bodies import PromoteBody, PromotionModel, RollbackBody, TableModel
from skytext.service.http.parameters import StrictRoute
from skytext.service.http.responses import ApiJson
from skytext.service.http.search_routes import add_search_routes
from skytext.service.problem_details import problem_responses
from skytext.service.query_log import QueryLog

_ANY = (401, 403, 408, 413, 415, 421, 422, 429, 500, 503)


def make_routes(
    backend: Backend, images: Images, config: Config, query_log: QueryLog | None
) -> APIRouter:
    """Return all routes of the API."""
    router = APIRouter(prefix="/v1", route_class=StrictRoute, responses=problem_responses(*_ANY))
    add_search_routes(router, backend, config, query_log)
    add_image_routes(router, backend, images, config)
    _add_table(router, backend)
    return router


def _add_table(router: APIRouter, backend: Backend) -> None:
    @router.get("/table", response_model=TableModel, tags=["table"], summary="The served tables")
    async def table() -> Response:
        """Return facts about the served tables.

        The facts are the versions, the numbers of rows, the models and the state of the index.
        """
        return ApiJson(await backend.table())

    @router.post(
        "/admin/promote",
        response_model=PromotionModel,
        tags=["admin"],
        summary="Make a version live",
    )
    async def promote(body: PromoteBody) -> PromotionModel:
        """Make a version live. After a few seconds, all replicas serve this version.

        This needs an API key with the permission admin.
        """
        done = await backend.searches.promote(body.version, body.table)
        return PromotionModel(live_version=done.version, previous_version=done.previous_version)

    @router.post(
        "/admin/rollback",
        response_model=PromotionModel,
        tags=["admin"],
        summary="Make the previous version live",
    )
    async def rollback(body: RollbackBody | None = None) -> PromotionModel:
        """Make the previous live version live again.

        A second call goes back to the version before that, and so on. This needs an API key with
        the permission admin.
        """
        done = await backend.searches.rollback(None if body is None else body.table)
        return PromotionModel(live_version=done.version, previous_version=done.previous_version)
