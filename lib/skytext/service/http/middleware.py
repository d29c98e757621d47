"""The ASGI middleware around the application.

The middleware does these steps for each request: assign a request id, authenticate, check the rate
limit, read the body, wait in the queue, and run the application with a time limit. If the client
disconnects during any of these steps, the request ends.

The body has a maximum size, and there is a time limit for reading it. The body is read before the
request waits in the queue. Therefore, a client that sends its body slowly does not delay requests
of other clients.

The bodies of all waiting uploads together may be larger than the memory. Therefore, an upload waits
in a separate queue before its body is read, and occupies a place in this queue until the response
is sent. Slow uploads delay only other uploads.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
import time
import uuid
from collections.abc import Iterable

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from skytext.config.service import LimitsConfig
from skytext.service.access.authentication import Guard
from skytext.service.access.path_policies import Policies
from skytext.service.access.rate_limits import Drain, Turns
from skytext.service.http.content_coding import TooLongError, decoded
from skytext.service.problem_details import ProblemError, not_found, problem_response, too_busy
from skytext.service.telemetry.metrics import Meter
from skytext.service.telemetry.tracing import span

_REQUEST_ID = re.compile(r"[\w.-]{1,64}", re.ASCII)
_CLIENT_GONE = 499
"""The status to log if the client disconnects. nginx also uses this number."""
_log = logging.getLogger("skytext.service.requests")


class ClientGoneError(Exception):
    """The client disconnected before the response was sent."""


class _Answer:
    """Forwards a response to the HTTP server, and records the status of the response.

    Args:
        send: the function ``send`` of the HTTP server.
        headers: default headers. A header is added if the response does not contain it.
        has_body: true if the body must be sent. False for HEAD requests.
    """

    def __init__(
        self, send: Send, headers: Iterable[tuple[str, str]], *, has_body: bool = True
    ) -> None:
        self.status: int | None = None
        self.is_done = False
        self._send = send
        self._has_body = has_body
        self._headers = tuple(headers)

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = int(message["status"])
            headers = MutableHeaders(scope=message)
            for name, value in self._headers:
                headers.setdefault(name, value)
        elif message["type"] == "http.response.body":
            self.is_done = not message.get("more_body", False)
            if not self._has_body:
                message = {**message, "body": b""}
        await self._send(message)


class Gate:
    """The middleware around the application. The docstring of this module describes the steps."""

    def __init__(
        self,
        app: ASGIApp,
        *,
        guard: Guard,
        searches: Turns,
        images: Turns,
        uploads: Turns,
        limits: LimitsConfig,
        meter: Meter,
        page_policy: str,
        drain: Drain | None = None,
        sends_request_id: bool = True,
    ) -> None:
        self._app = app
        self._guard = guard
        self._limits = limits
        self._meter = meter
        self._policies = Policies(limits, searches, images, uploads)
        self._page_policy = page_policy
        self._drain = drain or Drain()
        self._sends_request_id = sends_request_id

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Process a request, and send the response."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":
            await send({"type": "websocket.close", "code": 1008})
            return
        headers = {k.decode("latin-1").lower(): v.decode("latin-1") for k, v in scope["headers"]}
        request_id = headers.get("x-request-id", "")
        if not _REQUEST_ID.fullmatch(request_id):
            request_id = uuid.uuid4().hex
        scope = {**scope, "state": {**scope.get("state", {}), "request_id": request_id}}
        method = scope["method"]
        answer = _Answer(send, self._headers(request_id), has_body=method != "HEAD")
        if method == "HEAD":
            # Every path that supports GET also supports HEAD (RFC 9110, 9.3.2). Process HEAD like
            # GET, but change the method only in this copy of the scope. The HTTP server needs the
            # original method, because the response to HEAD has no body.
            scope["method"] = "GET"
        started = time.perf_counter()
        status = 500
        try:
            with span(f"{method} request", headers, is_server=True) as opened:
                status = await self._answer(scope, headers, receive, answer)
                opened.set_attribute("http.request.method", method)
                opened.set_attribute("http.response.status_code", status)
                opened.update_name(f"{method} {_route(scope)}")
        except asyncio.CancelledError:
            status = _CLIENT_GONE
            raise
        finally:
            self._note(scope, method, status, time.perf_counter() - started)

    async def _answer(
        self, scope: Scope, headers: dict[str, str], receive: Receive, answer: _Answer
    ) -> int:
        """Process a request, and return the status. After an error, send an error response."""
        try:
            await self._go(scope, headers, receive, answer)
            return answer.status or 500
        except ClientGoneError:
            return _CLIENT_GONE
        except ProblemError as error:
            problem = error
        except Exception:  # noqa: BLE001  (the service continues; the error is in the log)
            _log.exception("a request failed", extra={"request_id": scope["state"]["request_id"]})
            problem = ProblemError(500, "internal", "the service failed to process this request")
        if answer.status is None:
            await problem_response(scope, problem)(scope, receive, answer)
        elif not answer.is_done:
            # A part of the response was already sent, so an error response cannot be sent. Raise
            # the error. The HTTP server then closes the connection, and the client detects that the
            # response is incomplete.
            raise problem
        return answer.status or problem.status

    async def _go(
        self, scope: Scope, headers: dict[str, str], receive: Receive, answer: _Answer
    ) -> None:
        self._check_head(scope)
        if not scope["path"].isprintable():
            # Refuse a path that contains a newline. The regular expressions of the routes end with
            # `$`, and `$` also matches before a newline at the end of the path.
            raise not_found()
        policy = self._policies.of(scope)
        if policy.right is not None:
            caller = await self._guard.admit(scope, headers, policy.right)
            scope["state"]["caller"] = caller.who
        elif not policy.is_health:
            self._guard.check_host(headers)
        async with contextlib.AsyncExitStack() as held:
            if not policy.while_ending:
                held.enter_context(self._drain.under_way(self._limits.retry_after_s))
            if policy.body_turns is not None:
                await held.enter_async_context(policy.body_turns.turn())
            body = await self._body(headers, receive, policy.max_body_bytes)
            if policy.turns is not None:
                await held.enter_async_context(policy.turns.turn())
            await self._run(scope, body, receive, answer, policy.timeout_s)

    def _check_head(self, scope: Scope) -> None:
        """Refuse a request if its address and its headers together are too long.

        Raises:
            ProblemError: 431: the address and the headers are too long.
        """
        size = len(scope.get("raw_path", b"")) + len(scope.get("query_string", b""))
        size += sum(len(name) + len(value) for name, value in scope["headers"])
        max_bytes = self._limits.max_head_bytes
        if size > max_bytes:
            self._meter.count("skytext_refused_total", reason="size")
            raise ProblemError(
                431,
                "head-too-large",
                f"the address and the headers together may have at most {max_bytes:,} bytes",
            )

    async def _body(self, headers: dict[str, str], receive: Receive, max_bytes: int) -> bytes:
        """Read the whole body, and decompress it.

        Raises:
            ProblemError: 408: the body did not arrive in time. 413: the body is too large. 415: the
                content encoding is not supported. 422: the body is not valid gzip data.
            ClientGoneError: the client disconnected before the end of the body.
        """
        body = await self._sent_body(headers, receive, max_bytes)
        coding = headers.get("content-encoding", "")
        if not body or not coding:
            return body
        try:
            return await asyncio.to_thread(decoded, body, coding, max_bytes)
        except TooLongError:
            raise self._too_large(max_bytes) from None

    async def _sent_body(self, headers: dict[str, str], receive: Receive, max_bytes: int) -> bytes:
        """Read the whole body, and do not decompress the body.

        Raises:
            ProblemError: 408: the body did not arrive in time. 413: the body is too large.
            ClientGoneError: the client disconnected before the end of the body.
        """
        length = headers.get("content-length", "")
        if length.isascii() and length.isdigit() and int(length) > max_bytes:
            raise self._too_large(max_bytes)
        parts, size = [], 0
        try:
            async with asyncio.timeout(self._limits.body_timeout_s):
                while True:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        raise ClientGoneError
                    parts.append(message.get("body", b""))
                    size += len(parts[-1])
                    if size > max_bytes:
                        raise self._too_large(max_bytes)
                    if not message.get("more_body", False):
                        return b"".join(parts)
        except TimeoutError:
            limit = self._limits.body_timeout_s
            raise ProblemError(
                408, "slow-body", f"the request body did not arrive within {limit:g} s"
            ) from None

    def _too_large(self, max_bytes: int) -> ProblemError:
        self._meter.count("skytext_refused_total", reason="size")
        return ProblemError(413, "too-large", f"the body may have at most {max_bytes:,} bytes")

    async def _run(
        self, scope: Scope, body: bytes, receive: Receive, answer: _Answer, timeout_s: float
    ) -> None:
        """Run the application for one request, with a time limit.

        The application is stopped if the client disconnects, or at the end of the time limit.

        Raises:
            ClientGoneError: the client disconnected.
            ProblemError: 503: the application did not end within the time limit.
        """
        given = False

        async def replay() -> Message:
            nonlocal given
            if not given:
                given = True
                return {"type": "http.request", "body": body, "more_body": False}
            return await asyncio.Future()  # a second read waits until the request ends

        work = asyncio.ensure_future(self._app(scope, replay, answer))
        gone = asyncio.ensure_future(_gone(receive))
        try:
            await asyncio.wait({work, gone}, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
            if answer.is_done:
                # The response is complete. HTTP servers then also report a disconnect. Wait until
                # the application has finished its clean-up.
                await asyncio.wait({work}, timeout=timeout_s)
            if work.done():
                work.result()
            elif gone.done():
                gone.result()
                raise ClientGoneError
            else:
                self._meter.count("skytext_refused_total", reason="timeout")
                raise too_busy(
                    f"the service could not finish this request within {timeout_s:g} s: try again "
                    "later",
                    self._limits.retry_after_s,
                )
        finally:
            for task in (work, gone):
                if not task.done():
                    task.cancel()
            await asyncio.gather(work, gone, return_exceptions=True)

    def _headers(self, request_id: str) -> Iterable[tuple[str, str]]:
        if self._sends_request_id:
            yield "X-Request-ID", request_id
        yield "X-Content-Type-Options", "nosniff"
        yield "X-Frame-Options", "DENY"
        yield "Referrer-Policy", "no-referrer"
        yield "Content-Security-Policy", self._page_policy
        yield "Cache-Control", "no-store"

    def _note(self, scope: Scope, method: str, status: int, seconds: float) -> None:
        route = _route(scope)
        if method not in ("GET", "HEAD", "POST", "OPTIONS", "PUT", "DELETE", "PATCH"):
            method = "other"
        self._meter.count("skytext_requests_total", method=method, route=route, status=str(status))
        self._meter.observe("skytext_request_seconds", seconds, route=route)
        if self._policies.of(scope).is_health and status < 400:
            return
        state = scope["state"]
        _log.info(
            "request",
            extra={
                "request_id": state["request_id"],
                "method": method,
                "route": route,
                "status": status,
                "duration_ms": round(seconds * 1000, 1),
                "caller": state.get("caller", ""),
                **state.get("log", {}),
            },
        )


def _route(scope: Scope) -> str:
    """Return the path pattern of the route.

    Do not return the path of the request, because a label must have few different values.
    """
    return str(getattr(scope.get("route"), "path", "") or "other")


async def _gone(receive: Receive) -> None:
    """Return when the client disconnects."""
    while (await receive())["type"] != "http.disconnect":
        pass
