"""Error responses in the format "problem details" (RFC 9457)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from pydantic import BaseModel, ConfigDict, Field
from starlette.exceptions import HTTPException
from starlette.routing import Match
from starlette.types import Scope

from skytext.errors import CallError

MEDIA_TYPE = "application/problem+json"
NOT_LOADED = "other-model"
"""The problem code of a search if the embedding model for its version is not loaded yet."""


class FieldProblem(BaseModel):
    """One invalid field of the request.

    Attributes:
        field: the path of the field, e.g. ``body.k``.
        message: the reason why the field is invalid.
    """

    field: str
    message: str


class Problem(BaseModel):
    """An error response (RFC 9457)."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "type": "urn:skytext:problem:bad-request",
                "title": "Unprocessable Content",
                "status": 422,
                "detail": "k must be 1 to 1000 (given: 0)",
                "instance": "/v1/search",
                "request_id": "5f0c4ef23c1b4d0d9ad5d8a1b2f5a9ce",
            }
        }
    )

    type: str = Field(description="A stable identifier for this kind of problem.")
    title: str
    status: int
    detail: str = Field(description="The problem, and how to solve it.")
    instance: str = Field(description="The requested path.")
    request_id: str = Field(
        description="The id of the request. The log of the service also contains this id."
    )
    errors: list[FieldProblem] = Field(default=[], description="The invalid fields, if known.")


class ProblemError(Exception):
    """An error that ends a request with an error response in the problem details format.

    Args:
        status: the HTTP status.
        code: the last part of the field ``type`` in the response.
        detail: the problem, and how to solve it.
        headers: additional response headers, e.g. ``Retry-After``.
    """

    def __init__(
        self, status: int, code: str, detail: str, headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(status, code, detail, dict(headers or {}))
        self.status = status
        self.code = code
        self.detail = detail
        self.headers = dict(headers or {})

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle the arguments of the error, because Ray sends these errors between processes."""
        return ProblemError, (self.status, self.code, self.detail, self.headers)

    def __str__(self) -> str:
        return f"{self.status} {self.code}: {self.detail}"


def too_busy(detail: str, retry_after_s: int) -> ProblemError:
    """Return the error 503: the service is overloaded or not available."""
    return ProblemError(503, "overloaded", detail, {"Retry-After": str(retry_after_s)})


def model_not_loaded() -> ProblemError:
    """Return the error 503: the embedding model that a search needs is not loaded yet."""
    return ProblemError(
        503,
        NOT_LOADED,
        "the embedding model of this version is not loaded yet: try again, or search without "
        "version and cursor",
        {"Retry-After": "5"},
    )


def not_found(headers: Mapping[str, str] | None = None) -> ProblemError:
    """Return the error 404: the path does not exist."""
    return ProblemError(404, "not-found", "this path does not exist", headers)


def problem_response(
    scope: Scope,
    error: ProblemError,
    errors: list[FieldProblem] | None = None,
) -> Response:
    """Return an error response.

    Args:
        scope: the ASGI scope of the request.
        error: the error.
        errors: the invalid fields of the request, if known.
    """
    problem = Problem(
        type=f"urn:skytext:problem:{error.code}",
        title=HTTPStatus(error.status).phrase,
        status=error.status,
        detail=error.detail,
        instance=scope["path"],
        request_id=scope.get("state", {}).get("request_id", ""),
        errors=errors or [],
    )
    return Response(
        json.dumps(problem.model_dump(exclude_defaults=True)).encode(),
        status_code=error.status,
        headers=error.headers,
        media_type=MEDIA_TYPE,
    )


def add_problem_handlers(app: FastAPI) -> None:
    """Change an application so that all its error responses are problem details."""

    async def on_problem(request: Request, error: Exception) -> Response:
        if not isinstance(error, ProblemError):  # the handler is registered only for this type
            raise TypeError(type(error))
        return problem_response(request.scope, error)

    async def on_call_error(request: Request, error: Exception) -> Response:
        return problem_response(request.scope, ProblemError(422, "bad-request", str(error)))

    async def on_invalid(request: Request, error: Exception) -> Response:
        if not isinstance(error, RequestValidationError):
            raise TypeError(type(error))
        wrong = [_field_problem(item) for item in error.errors()]
        detail = "; ".join(f"{item.field}: {item.message}" for item in wrong[:3])
        return problem_response(request.scope, ProblemError(422, "bad-request", detail), wrong)

    async def on_http(request: Request, error: Exception) -> Response:
        if not isinstance(error, HTTPException):
            raise TypeError(type(error))
        problem = _from_http(request.scope, error)
        if problem.status == 405:
            # Several routes can have the same path. The framework lists only the methods of the
            # first of these routes.
            problem.headers["Allow"] = _methods_of(app, request.scope)
        return problem_response(request.scope, problem)

    async def on_failure(request: Request, error: Exception) -> Response:
        # After this function returns, the framework raises the error again. The middleware then
        # logs the error.
        failed = ProblemError(500, "internal", "the service failed to process this request")
        return problem_response(request.scope, failed)

    app.add_exception_handler(Exception, on_failure)
    app.add_exception_handler(ProblemError, on_problem)
    app.add_exception_handler(CallError, on_call_error)
    app.add_exception_handler(RequestValidationError, on_invalid)
    app.add_exception_handler(HTTPException, on_http)


def _from_http(scope: Scope, error: HTTPException) -> ProblemError:
    headers = dict(error.headers or {})
    if error.status_code == 404:
        return not_found(headers)
    if error.status_code == 405:
        said = f"this path does not support the method {scope['method']}"
        return ProblemError(405, "method-not-allowed", said, headers)
    if error.status_code == 400:  # e.g. JSON that is nested too deep, or an invalid form
        return ProblemError(422, "bad-request", "the body cannot be read", headers)
    code = "bad-request" if error.status_code == 422 else "refused"
    return ProblemError(error.status_code, code, str(error.detail), headers)


def _methods_of(app: FastAPI, scope: Scope) -> str:
    """Return the HTTP methods of all routes that match the path of a request."""
    found: set[str] = set()
    for route in app.router.routes:
        if route.matches(scope)[0] != Match.NONE:
            found |= getattr(route, "methods", None) or set()
    # The set is empty if the path belongs to the mounted folder of static files.
    if "GET" in found or not found:
        found |= {"GET", "HEAD"}
    return ", ".join(sorted(found))


def _field_problem(item: Mapping[str, Any]) -> FieldProblem:
    where = ".".join(str(part) for part in item["loc"])
    # Do not return the value of the field, because the value may be long or may contain a secret.
    return FieldProblem(field=where[:200], message=str(item["msg"])[:500])


def problem_responses(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Return the argument ``responses`` for a route that may return these error statuses."""
    return {
        status: {
            "model": Problem,
            "description": HTTPStatus(status).phrase,
            "content": {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}},
        }
        for status in statuses
    }
