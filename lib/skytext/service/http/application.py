"""The HTTP application: a FastAPI application that calls a `Backend`, inside a `Gate`."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

from fastapi import APIRouter, FastAPI, Security
from fastapi.responses import PlainTextResponse
from fastapi.security import APIKeyHeader, HTTPBearer
from pydantic.json_schema import models_json_schema
from starlette.types import ASGIApp

import skytext
from skytext.config.settings import Config
from skytext.service.access.authentication import Guard, Keyring
from skytext.service.access.rate_limits import Drain, Rates, Turns
from skytext.service.archive_images import Images
from skytext.service.backend import Backend
from skytext.service.http.cors import Cors
from skytext.service.http.json_bodies import (
    SCHEMAS,
    FeatureCollectionModel,
    HealthModel,
    ReadyModel,
)
from skytext.service.http.middleware import Gate
from skytext.service.http.parameters import StrictRoute
from skytext.service.http.readiness import Readiness
from skytext.service.http.routes import make_routes
from skytext.service.http.web_page import add_page, content_security_policy
from skytext.service.problem_details import add_problem_handlers, problem_responses
from skytext.service.query_log import QueryLog
from skytext.service.served_tables import TableSet
from skytext.service.telemetry.metrics import Meter

_METRICS = 'ray_skytext_requests_total{method="POST",route="/v1/search",status="200"} 4711.0\n'
_DESCRIPTION = """Search a remote-sensing archive in plain words.

Every response contains the version of the table that was read. Error responses are problem details
(RFC 9457). A request body may be compressed with `Content-Encoding: gzip`. The size limits also
apply to the decompressed body. To send an API key, use the header `Authorization: Bearer KEY` or
`X-API-Key: KEY`.
"""


def make_app(
    tables: TableSet,
    backend: Backend,
    config: Config,
    meter: Meter,
    keyring: Keyring | None,
    *,
    drain: Drain | None = None,
    sends_request_id: bool = True,
) -> ASGIApp:
    """Return the whole application.

    Args:
        tables: the served tables.
        backend: the object that performs the operations of the API.
        config: all settings. They contain the limits, the access rules and the archive roots.
        meter: the object that records the metrics.
        keyring: the API keys. None if no keys are required.
        drain: the object that counts running requests, and refuses new requests during a shutdown.
        sends_request_id: true if the application must add the header ``X-Request-ID`` to responses.
            False if Ray Serve's HTTP server adds this header.
    """
    app = make_api(tables, backend, config, meter, keyring)
    limits = config.service.limits
    rates = Rates(config.service.access, limits.retry_after_s, meter)
    gate: ASGIApp = Gate(
        app,
        guard=Guard(config.service.access, keyring, rates),
        searches=Turns("searches", limits.num_running, limits, meter),
        images=Turns("images", limits.max_images_running, limits, meter),
        uploads=Turns("uploads", limits.max_uploads_running, limits, meter),
        limits=limits,
        meter=meter,
        page_policy=content_security_policy(config.service),
        drain=drain,
        sends_request_id=sends_request_id,
    )
    if config.service.access.cors_origins:
        gate = Cors(
            gate,
            allow_origins=config.service.access.cors_origins,
            allow_methods=["GET", "HEAD", "POST"],
            allow_headers=[
                *("Authorization", "X-API-Key", "Content-Type", "Content-Encoding"),
                *("If-None-Match", "X-Request-ID"),
            ],
            expose_headers=["X-Request-ID", "X-Table-Version", "Retry-After", "ETag"],
        )
    return gate


def make_api(
    tables: TableSet,
    backend: Backend,
    config: Config,
    meter: Meter,
    keyring: Keyring | None,
) -> FastAPI:
    """Return the FastAPI application with all routes and the OpenAPI document.

    The result does not include the `Gate`.
    """
    query_log = QueryLog(tables.locations) if config.service.log_queries else None

    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with contextlib.AsyncExitStack() as held:
            if keyring is not None:
                await keyring.load()
                task = asyncio.create_task(keyring.keep_fresh())
                held.callback(task.cancel)
            canary = asyncio.create_task(backend.follow_canary())
            held.callback(canary.cancel)
            if query_log is not None:
                saving = asyncio.create_task(query_log.follow())
                held.callback(saving.cancel)
            yield

    app = FastAPI(
        title="skytext",
        version=skytext.__version__,
        description=_DESCRIPTION,
        license_info={"name": "Apache-2.0", "identifier": "Apache-2.0"},
        # Do not serve the Swagger page, because it would load scripts from another host.
        docs_url=None,
        redoc_url=None,
        # Do not redirect, because the redirect would contain the host name that the client sent.
        redirect_slashes=False,
        lifespan=lifespan,
        dependencies=[
            # These entries are only for the OpenAPI document. The `Gate` checks the key before the
            # application receives the request.
            Security(HTTPBearer(auto_error=False, description="An API key.")),
            Security(APIKeyHeader(name="X-API-Key", auto_error=False)),
        ],
    )
    add_problem_handlers(app)
    app.include_router(make_routes(backend, Images(tables, config, meter), config, query_log))
    _add_health(app, backend)
    add_page(app, config.service)
    _complete_document(app)
    return app


def _complete_document(app: FastAPI) -> None:
    """Add the schemas of the GeoJSON models to the OpenAPI document.

    FastAPI adds the schema of only one model per response. The response to a search has two models,
    one for JSON and one for GeoJSON.
    """
    make = app.openapi

    def openapi() -> dict[str, Any]:
        document = make()
        _, found = models_json_schema(
            [(FeatureCollectionModel, "serialization")], ref_template=SCHEMAS
        )
        document["components"]["schemas"] |= found["$defs"]
        return document

    app.openapi = openapi  # type: ignore[method-assign]


def _add_health(app: FastAPI, backend: Backend) -> None:
    router = APIRouter(route_class=StrictRoute, tags=["health"])
    readiness = Readiness(backend)

    @router.get("/healthz", summary="Check that the process runs")
    async def healthz() -> HealthModel:
        return HealthModel()

    @router.get(
        "/readyz",
        summary="Check that the service can answer searches without delay",
        responses=problem_responses(500, 503),
    )
    async def readyz() -> ReadyModel:
        return await readiness.state()

    @router.get(
        "/metrics",
        summary="Prometheus metrics",
        response_class=PlainTextResponse,
        responses={
            200: {"content": {"text/plain": {"example": _METRICS}}},
            **problem_responses(401, 403, 429, 500, 503),
        },
    )
    async def metrics() -> Any:
        """Return the metrics of all replicas in the cluster.

        This needs an API key with the permission admin.
        """
        text = await backend.metrics()
        return PlainTextResponse(text, media_type="text/plain; version=0.0.4; charset=utf-8")

    app.include_router(router)
