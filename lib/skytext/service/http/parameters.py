"""Parameters of a link, and fields of a form: known by name, given once, and UTF-8."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterable, Mapping
from typing import Any, get_origin
from urllib.parse import parse_qsl, urlencode

from fastapi import Request, Response
from fastapi.dependencies.utils import get_flat_params
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute

from skytext.service.problem_details import ProblemError


class StrictRoute(APIRoute):
    """A route that refuses parameters which it does not know: 422.

    A hyphen in a name stands for an underscore, as the command line writes it.
    """

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Return what answers a request."""
        answer = super().get_route_handler()
        # Of each parameter, whether it may be repeated. No route reads a header or a cookie.
        known = {
            field.alias: get_origin(field.field_info.annotation) in (list, tuple)
            for field in get_flat_params(self.dependant)
            if field.alias not in self.param_convertors
        }

        async def strict(request: Request) -> Response:
            given = _pairs(request.scope["query_string"])
            check_names([name for name, _ in given], known, "query")
            # As it was read here: the framework takes unescaped bytes for Latin-1.
            request.scope["query_string"] = urlencode(given).encode()
            # It is in memory anyway; a form's bytes can then be had after it was read.
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
    """Refuse names that mean nothing here, and a second value where one counts.

    Args:
        given: names, as often as they were given.
        known: names, and whether each may be repeated.
        where: ``query`` or ``body``.

    Raises:
        RequestValidationError: it names the first of them, and what is known.
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
    """Return the 422 of bytes that are no text."""
    return ProblemError(422, "bad-request", f"{what} must be UTF-8")


def _wrong(where: str, name: str, said: str) -> RequestValidationError:
    return RequestValidationError([{"loc": (where, name[:100]), "msg": said}])
