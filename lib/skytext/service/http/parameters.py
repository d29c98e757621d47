"""Check the names and the encoding of the parameters of a request.

The parameters are in the query string, in a form or in a JSON body. This module refuses names that
are given twice, bytes that are not UTF-8, and unknown names in a query string or a form. Unknown
keys in a JSON body are refused by the pydantic model of the body.
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
    """A request that refuses a JSON body if an object in the body contains a key twice."""

    async def json(self) -> Any:
        """Parse the body as JSON, and return the value.

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
    """A route that checks the names of the parameters.

    The status is 422 if a parameter is unknown, or if a parameter that must have only one value is
    given twice. A parameter name may contain hyphens instead of underscores, as on the command
    line.
    """

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Return the function that handles a request."""
        answer = super().get_route_handler()
        # The value is true for each parameter that may be given several times. All parameters are
        # in the query string, because no route has a parameter in a header or a cookie.
        known = {
            field.alias: get_origin(field.field_info.annotation) in (list, tuple)
            for field in get_flat_params(self.dependant)
            if field.alias not in self.param_convertors
        }

        async def strict(request: Request) -> Response:
            given = _pairs(request.scope["query_string"])
            check_names([name for name, _ in given], known, "query")
            # Encode the pairs again, because the framework decodes unescaped bytes as Latin-1.
            request.scope["query_string"] = urlencode(given).encode()
            request = _StrictRequest(request.scope, request.receive)
            # Read the body before the framework parses a form in it. Otherwise the bytes would not
            # be available after that.
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
    """Check the names of parameters.

    Args:
        given: the names in the request. If a name is given twice, the list contains it twice.
        known: a dictionary with all allowed names. The value is true if the name may be given
            several times.
        where: the part of the request: ``query`` or ``body``.

    Raises:
        RequestValidationError: a name is unknown. Or a name is given twice, and only one value is
            allowed. The error contains the first wrong name.
    """
    seen: set[str] = set()
    for name in given:
        if name not in known:
            names = ", ".join(sorted(known)) or "none"
            raise _wrong(
                where, name, f"this parameter is unknown. The known parameters are {names}"
            )
        if name in seen and not known[name]:
            said = "this parameter is given more than once, but only one value is allowed"
            raise _wrong(where, name, said)
        seen.add(name)


def not_utf8(what: str) -> ProblemError:
    """Return the error 422: a part of the request is not encoded in UTF-8."""
    return ProblemError(422, "bad-request", f"{what} must be encoded in UTF-8")


def _wrong(where: str, name: str, message: str) -> RequestValidationError:
    return RequestValidationError([{"loc": (where, name[:100]), "msg": message}])
