"""Which other pages may call the API: Starlette's middleware, with problems for refusals."""

from __future__ import annotations

from starlette.datastructures import Headers
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from skytext.service.problem_details import ProblemError, problem_response


class Cors(CORSMiddleware):
    """Answers browsers that ask whether another page may send a request."""

    def preflight_response(self, request_headers: Headers) -> Response:
        """Return what a page may do, or why it may not."""
        answer = super().preflight_response(request_headers)
        if answer.status_code < 400:
            return answer
        said = bytes(answer.body).decode()
        return _Refused(
            ProblemError(
                answer.status_code,
                "cors",
                f"{said}: service.access.cors_origins names the pages that may call this service",
                {name: value for name, value in answer.headers.items() if _is_of_cors(name)},
            )
        )


class _Refused(Response):
    """A problem, once the request is known that it answers."""

    def __init__(self, problem: ProblemError) -> None:
        super().__init__(status_code=problem.status)
        self._problem = problem

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await problem_response(scope, self._problem)(scope, receive, send)


def _is_of_cors(name: str) -> bool:
    return name == "vary" or name.startswith("access-control-")
