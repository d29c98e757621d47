"""Run a proxy in front of an HTTP server. The proxy injects the faults of a store.

The seed decides which requests get a fault.

    with faulty_proxy(endpoint, Faults(seed=1, reset=0.1, slow_down=0.05)) as proxy:
        client = boto3.client("s3", endpoint_url=proxy.url)
        ...
        proxy.faults = Faults(slow_down=1.0)  # for all later requests
        assert proxy.counts["reset"] > 0

The proxy changes nothing else. It never changes the order of the answers on one connection.

A store that gives wrong answers is simulated by a function. The function receives the request, and
a second function that sends a request to the server:

    def ignores_conditions(request, send):
        return send(request.without("If-None-Match"))

    with faulty_proxy(endpoint, breach=ignores_conditions) as proxy: ...
"""

from __future__ import annotations

import http.client
import random
import re
import socket
import struct
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

_PIECE_BYTES = 64 << 10
_HOP_BY_HOP = frozenset({"connection", "keep-alive", "transfer-encoding", "expect"})


@dataclass(frozen=True)
class Faults:
    """The faults and their rates.

    The rate of a fault is the share of the requests that get this fault, from 0 to 1. A request has
    at most one fault. The sum of the rates must not exceed 1.

    Attributes:
        seed: seed of the random numbers. The same seed gives the same faults for the same sequence
            of requests.
        delay: rate of correct answers that are delayed by ``delay_s``.
        delay_s: length of the delay in seconds.
        reset: rate of connections that are reset (RST) in the middle of the body.
        truncate: rate of connections that are closed (FIN) in the middle of the body.
        server_error: rate of answers with 500 InternalError.
        slow_down: rate of answers with 503 SlowDown.
        expired: rate of answers with 400 ExpiredToken.
        methods: the HTTP methods for which faults occur. Requests with other methods get no fault.
        pattern: a regular expression that is searched in the path with the query. Requests without
            a match get no fault.
        at_byte: position in the body where the connection breaks. If None, the seed decides the
            position.
        max_faults: after this number of faults, no request gets a fault. If None, the number is
            not limited.
        max_in_a_row: after this number of faults in a row for one path, the next request for this
            path gets no fault. If None, the number is not limited. If requests are concurrent,
            their order decides which requests fail.
    """

    seed: int = 0
    delay: float = 0.0
    delay_s: float = 0.05
    reset: float = 0.0
    truncate: float = 0.0
    server_error: float = 0.0
    slow_down: float = 0.0
    expired: float = 0.0
    methods: frozenset[str] = frozenset({"GET", "HEAD"})
    pattern: str = ""
    at_byte: int | None = None
    max_faults: int | None = None
    max_in_a_row: int | None = None

    KINDS = ("delay", "reset", "truncate", "server_error", "slow_down", "expired")

    def __post_init__(self) -> None:
        if sum(self.rates.values()) > 1 + 1e-9:
            raise ValueError(f"the rates exceed 1 together: {self.rates}")

    @property
    def rates(self) -> dict[str, float]:
        """The rate of each kind of fault."""
        return {kind: getattr(self, kind) for kind in self.KINDS}


_ANSWERS = {
    "server_error": (500, "InternalError"),
    "slow_down": (503, "SlowDown"),
    "expired": (400, "ExpiredToken"),
}


@dataclass(frozen=True)
class Request:
    """A request. ``path`` includes the query. ``received_at`` is in seconds since 1970."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes | None
    received_at: float = field(default_factory=time.time, compare=False)

    @property
    def key_id(self) -> str:
        """The access key in the signature of the request. Without a signature, it is empty."""
        found = re.search(r"Credential=([^/]*)/", self.header("Authorization") or "")
        return found[1] if found else ""

    def header(self, name: str) -> str | None:
        """Return the value of a header, or None if the header is missing."""
        return next((v for k, v in self.headers.items() if k.lower() == name.lower()), None)

    def without(self, header: str) -> Request:
        """Return the request without a header."""
        kept = {k: v for k, v in self.headers.items() if k.lower() != header.lower()}
        return replace(self, headers=kept)


@dataclass(frozen=True)
class Answer:
    """The answer to a request."""

    status: int
    headers: dict[str, str]
    body: bytes


Send = Callable[[Request], Answer]
Breach = Callable[[Request, Send], Answer]


class FaultyProxy:
    """A running proxy.

    Attributes:
        url: address of the proxy.
        counts: number of requests for each result. A result is ``passed`` or a kind of fault.
        requests: all requests in order.
    """

    def __init__(self, upstream: str, faults: Faults, breach: Breach | None) -> None:
        self.breach = breach
        self.upstream = urlsplit(upstream)
        self.url = ""
        self.counts: Counter[str] = Counter()
        self.requests: list[Request] = []
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self.faults = faults

    @property
    def faults(self) -> Faults:
        """The faults of later requests. Setting the faults restarts the random numbers."""
        return self._faults

    @faults.setter
    def faults(self, faults: Faults) -> None:
        with self._lock:
            self._faults = faults
            self._random = random.Random(faults.seed)
            self._num_faults = 0
            self._in_a_row: Counter[str] = Counter()

    @property
    def num_faults(self) -> int:
        """Total number of requests with a fault."""
        with self._lock:
            return sum(self.counts[kind] for kind in Faults.KINDS)

    def draw(self, method: str, path: str) -> tuple[str, float, Faults]:
        """Choose the fault of a request, and the position where its body breaks."""
        with self._lock:
            faults = self._faults
            kind = "passed"
            ended = faults.max_faults is not None and self._num_faults >= faults.max_faults
            spared = self._in_a_row[path] == faults.max_in_a_row
            concerned = method in faults.methods and re.search(faults.pattern, path)
            if concerned and not ended and not spared:
                left = self._random.random()
                for name, rate in faults.rates.items():
                    if left < rate:
                        kind = name
                        self._num_faults += 1
                        break
                    left -= rate
            self._in_a_row[path] = 0 if kind == "passed" else self._in_a_row[path] + 1
            self.counts[kind] += 1
            return kind, self._random.random(), faults

    def wait(self, seconds: float) -> None:
        """Wait for this number of seconds, or until the proxy stops."""
        self._stopping.wait(seconds)

    def stop(self) -> None:
        """End all calls of `wait`."""
        self._stopping.set()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    proxy: FaultyProxy

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def handle(self) -> None:
        # The client may have disconnected.
        with suppress(ConnectionError):
            super().handle()

    def _serve(self) -> None:
        headers = {k: v for k, v in self.headers.items() if k.lower() not in _HOP_BY_HOP}
        request = Request(self.command, self.path, headers, None)
        self.proxy.requests.append(request)
        request = replace(request, body=self._body())
        kind, where, faults = self.proxy.draw(self.command, self.path)
        if kind in _ANSWERS:
            self._refuse(*_ANSWERS[kind])
            return
        if kind == "delay":
            self.proxy.wait(faults.delay_s)
        if self.proxy.breach is not None:
            self._answer(self.proxy.breach(request, self._send))
            return
        with self._upstream(request) as answer:
            self._pass_on(answer, kind, where, faults)

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = _serve

    @contextmanager
    def _upstream(self, request: Request) -> Iterator[http.client.HTTPResponse]:
        upstream = self.proxy.upstream
        connection = http.client.HTTPConnection(
            upstream.hostname or "", upstream.port or 80, timeout=60
        )
        try:
            connection.request(request.method, request.path, request.body, request.headers)
            yield connection.getresponse()
        finally:
            connection.close()

    def _send(self, request: Request) -> Answer:
        with self._upstream(request) as answer:
            headers = {k: v for k, v in answer.getheaders() if k.lower() not in _HOP_BY_HOP}
            return Answer(answer.status, headers, answer.read())

    def _answer(self, answer: Answer) -> None:
        is_head = self.command == "HEAD"
        self.send_response_only(answer.status)
        for name, value in answer.headers.items():
            # The answer to a HEAD request contains the length of the object.
            if is_head or not _is_length(name):
                self.send_header(name, value)
        if not is_head and answer.status not in (204, 304):
            self.send_header("Content-Length", str(len(answer.body)))
        self.end_headers()
        if not is_head:
            self.wfile.write(answer.body)

    def _body(self) -> bytes | None:
        if "chunked" in self.headers.get("Transfer-Encoding", "").lower():
            pieces = []
            while size := int(self.rfile.readline().split(b";")[0], 16):
                pieces.append(self.rfile.read(size))
                self.rfile.readline()
            while self.rfile.readline().strip():
                pass
            return b"".join(pieces)
        length = int(self.headers.get("Content-Length") or 0)
        return self.rfile.read(length) if length else None

    def _pass_on(
        self, answer: http.client.HTTPResponse, kind: str, where: float, faults: Faults
    ) -> None:
        has_body = self.command != "HEAD" and answer.status not in (204, 304)
        length = answer.length if has_body else 0
        data = None
        if length is None:
            data = answer.read()
            length = len(data)
        self.send_response_only(answer.status, answer.reason)
        for name, value in answer.getheaders():
            if name.lower() not in _HOP_BY_HOP and not (data is not None and _is_length(name)):
                self.send_header(name, value)
        if data is not None:
            self.send_header("Content-Length", str(length))
        self.end_headers()
        left = length
        if kind in ("reset", "truncate"):
            left = min(int(where * length) if faults.at_byte is None else faults.at_byte, length)
        while left and (piece := (data[:left] if data else answer.read(min(left, _PIECE_BYTES)))):
            self.wfile.write(piece)
            left -= len(piece)
        if kind in ("reset", "truncate"):
            self._break_off(reset=kind == "reset")

    def _break_off(self, *, reset: bool) -> None:
        self.wfile.flush()
        if reset:
            linger = struct.pack("ii", 1, 0)
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            self.connection.close()
        else:
            with suppress(OSError):
                self.connection.shutdown(socket.SHUT_WR)
        self.close_connection = True

    def _refuse(self, status: int, code: str) -> None:
        text = f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>no</Message></Error>"
        body = b"" if self.command == "HEAD" else text.encode()
        self.send_response_only(status)
        self.send_header("Content-Type", "application/xml")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def _is_length(name: str) -> bool:
    return name.lower() == "content-length"


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Ignore the errors of broken connections, because the proxy breaks connections itself."""

    def shutdown_request(self, request: Any) -> None:
        # A reset connection is already closed. A second shutdown would send a FIN.
        if request.fileno() != -1:
            super().shutdown_request(request)


@contextmanager
def faulty_proxy(
    upstream: str, faults: Faults | None = None, breach: Breach | None = None
) -> Iterator[FaultyProxy]:
    """Run a proxy in threads of this process.

    The proxy forwards requests to the address ``upstream``, such as ``http://host:port``.
    """
    proxy = FaultyProxy(upstream, faults or Faults(), breach)
    handler = type("Handler", (_Handler,), {"proxy": proxy})
    server = _Server(("127.0.0.1", 0), handler)
    proxy.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield proxy
    finally:
        proxy.stop()
        server.shutdown()
        server.server_close()
        thread.join()
