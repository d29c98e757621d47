"""Check parameters of a link, fields of a form, and keys of a JSON body: known, unique, UTF-8.

Unknown parameters and fields are refused here; unknown keys of a body are refused by its model.
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
    """A request whose JSON body must be unambiguous."""

    async def json(self) -> Any:
        """Return the value of the body.

        Raises:
            ValueError: not JSON.
            HTTPException: 422: an object has a key twice (RFC 8259, section 4).
        """
        return json.loads(await self.body(), object_pairs_hook=_object)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name in found:
            message = f"body: {name[:100]!r} is given more than once; one value counts"
            raise HTTPException(422, message)
        found[name] = value
    return found


class StrictRoute(APIRoute):
    """A route that refuses unknown parameters and repeated names with 422.

    A hyphen in a name means an underscore, as on the command line.
    """

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Return the request handler."""
        answer = super().get_route_handler()
        # Whether each parameter may be repeated. No route reads a header or a cookie.
        known = {
            field.alias: get_origin(field.field_info.annotation) in (list, tuple)
            for field in get_flat_params(self.dependant)
            if field.alias not in self.param_convertors
        }

        async def strict(request: Request) -> Response:
            given = _pairs(request.scope["query_string"])
            check_names([name for name, _ in given], known, "query")
            # Encode it again: the framework would read unescaped bytes as Latin-1.
            request.scope["query_string"] = urlencode(given).encode()
            request = _StrictRequest(request.scope, request.receive)
            # Keep the body: a form's bytes are then available after it was parsed.
            await request.body()
            return await answer(request)

        return strict


def _pairs(query: bytes) -> list[tuple[str, str]]:
    try:
        pairs = parse_qsl(query.decode(), keep_blank_values=True, errors="strict")
    except UnicodeDecodeError as error:
        raise not_utf8("the parameters of the address") from error
    return [(name.replace("-", "_"), value) for name, value in pairs]


def check_names(given: Iterable[str], known: Mapping[str, bool], where: str) -> None:
    """Refuse unknown names, and repeated values where only one is allowed.

    Args:
        given: the names in the request, with repeats.
        known: names, and whether each may be repeated.
        where: ``query`` or ``body``.

    Raises:
        RequestValidationError: with the first wrong name and the known names.
    """
    seen: set[str] = set()
    for name in given:
        if name not in known:
            names = ", ".join(sorted(known)) or "none"
            raise _wrong(where, name, f"there is no such parameter; known here: {names}")
        if name in seen and not known[name]:
            raise _wrong(where, name, "given more than once; one value counts")
        seen.add(name)


def not_utf8(what: str) -> ProblemError:
    """Return the 422 for bytes that are not UTF-8."""
    return ProblemError(422, "bad-request", f"{what} must be UTF-8")


def _wrong(where: str, name: str, message: str) -> RequestValidationError:
    return RequestValidationError([{"loc": (where, name[:100]), "msg": message}])
