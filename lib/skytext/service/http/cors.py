"""CORS: Starlette's middleware, changed so that a refusal contains problem details."""

from __future__ import annotations

from starlette.datastructures import Headers
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from skytext.service.problem_details import ProblemError, problem_response


class Cors(CORSMiddleware):
    """Middleware that responds to the preflight requests of browsers."""

    def preflight_response(self, request_headers: Headers) -> Response:
        """Return the response to a preflight request.

        It contains the allowed methods and headers, or the reason for a refusal.
        """
        answer = super().preflight_response(request_headers)
        if answer.status_code < 400:
            return answer
        reason = bytes(answer.body).decode()
        return _Refused(
            ProblemError(
                answer.status_code,
                "cors",
                f"{reason}: the setting service.access.cors_origins lists the origins of pages "
                "that may call this service",
                {name: value for name, value in answer.headers.items() if _is_of_cors(name)},
            )
        )


class _Refused(Response):
    """An error response that contains the requested path.

    The path is known only when the response is sent, so the body is built then.
    """

    def __init__(self, problem: ProblemError) -> None:
        super().__init__(status_code=problem.status)
        self._problem = problem

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await problem_response(scope, self._problem)(scope, receive, send)


def _is_of_cors(name: str) -> bool:
    return name == "vary" or name.startswith("access-control-")
