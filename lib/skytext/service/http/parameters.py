"""Check the names and values in a query string, a form and a JSON body.

This module refuses repeated names, values that are not UTF-8, and unknown names in a query string
or a form. The pydantic model of a JSON body refuses unknown keys.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Coroutine, Iterable, Mapping
from typing import Any, get_origin
from urllib.parse import parse_qsl, urlencode

from fastapi import HTTPException, Request, Response
from fastapi.dependencies.utils import get_flat_params
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute

from skytext.service.problem_details import ProblemError


class _StrictRequest(Request):
    """A request whose JSON body must not repeat a key."""

    async def json(self) -> Any:
        """Return the value of the body.

        Raises:
            ValueError: the body is not JSON.
            HTTPException: 422: an object contains a key twice (RFC 8259, section 4).
        """
        return json.loads(await self.body(), object_pairs_hook=_object)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name in found:
            said = f"body: {name[:100]!r} is given more than once, but only one value is allowed"
            raise HTTPException(422, said)
        found[name] = value
    return found


class StrictRoute(APIRoute):
    """A route that refuses unknown parameters and repeated names with 422.

    A parameter name may contain hyphens instead of underscores, as on the command line.
    """

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Return the request handler."""
        answer = super().get_route_handler()
        # For each parameter: whether it may be repeated. No route reads a header or a cookie.
        known = {
            field.alias: get_origin(field.field_info.annotation) in (list, tuple)
            for field in get_flat_params(self.dependant)
            if field.alias not in self.param_convertors
        }

        async def strict(request: Request) -> Response:
            given = _pairs(request.scope["query_string"])
            check_names([name for name, _ in given], known, "query")
            # Encode the pairs again, because the framework reads unescaped bytes as Latin-1.
            request.scope["query_string"] = urlencode(given).encode()
            request = _StrictRequest(request.scope, request.receive)
            # Read the body now, so that its bytes are still available after a form was parsed.
            await request.body()
            return await answer(request)

        return strict


def _pairs(query: bytes) -> list[tuple[str, str]]:
    try:
        pairs = parse_qsl(query.decode(), keep_blank_values=True, errors="strict")
    except UnicodeDecodeError as error:
        raise not_utf8("the query string") from error
    return [(name.replace("-", "_"), value) for name, value in pairs]


def check_names(given: Iterable[str], known: Mapping[str, bool], where: str) -> None:
    """Refuse unknown names, and repeated names if only one value is allowed.

    Args:
        given: the names in the request, including repeated names.
        known: for each allowed name, whether it may be repeated.
        where: ``query`` or ``body``.

    Raises:
        RequestValidationError: a name is unknown or repeated. The error contains the first such
            name.
    """
    seen: set[str] = set()
    for name in given:
        if name not in known:
            names = ", ".join(sorted(known)) or "none"
            raise _wrong(where, name, f"this parameter is unknown; the known ones are: {names}")
        if name in seen and not known[name]:
            said = "this parameter is given more than once, but only one value is allowed"
            raise _wrong(where, name, said)
        seen.add(name)


def not_utf8(what: str) -> ProblemError:
    """Return the 422 error for bytes that are not UTF-8."""
    return ProblemError(422, "bad-request", f"{what} must be encoded in UTF-8")


def _wrong(where: str, name: str, message: str) -> RequestValidationError:
    return RequestValidationError([{"loc": (where, name[:100]), "msg": message}])
