"""The listening socket of ``skytext serve``. It stays open if the ingress process crashes.

The command ``skytext serve`` binds the port and keeps the socket open. The ingress runs in another
process, and Ray restarts this process after a crash. The ingress gets the socket from the command
and accepts connections on the socket. While no ingress is running, new connections wait in the
queue of the kernel and are not refused.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import socketserver
import tempfile
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import uvicorn
from starlette.types import ASGIApp

from skytext.errors import CallError, JobError

_BACKLOG = 2048
_KEEP_ALIVE_S = 75


@contextmanager
def listening(host: str, port: int) -> Iterator[Path]:
    """Listen on an address, and offer the listening socket to other processes of this user.

    Yields:
        The path with which another process calls `take_socket`.

    Raises:
        CallError: the address is already in use, or this machine does not have the address.
    """
    with bound(host, port) as listener, tempfile.TemporaryDirectory(prefix="skytext-") as folder:
        listener.listen(_BACKLOG)

        class Giver(socketserver.BaseRequestHandler):
            def handle(self) -> None:
                socket.send_fds(self.request, [b"\0"], [listener.fileno()])

        # Only this user can open the folder.
        path = Path(folder) / "listener"
        with socketserver.ThreadingUnixStreamServer(str(path), Giver) as giver:
            thread = threading.Thread(target=giver.serve_forever, daemon=True)
            thread.start()
            try:
                yield path
            finally:
                giver.shutdown()
                thread.join()


def bound(host: str, port: int) -> socket.socket:
    """Return a socket that is bound to an address.

    Args:
        host: a host name or an IP address.
        port: a port number. 0 means any free port.

    Raises:
        CallError: the address is already in use, or this machine does not have the address.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    made = socket.socket(family, socket.SOCK_STREAM)
    try:
        # The port must be available after a restart, even if old connections are still closing.
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.bind((host, port))
    except OSError as error:
        made.close()
        raise CallError(
            f"cannot listen on {host} port {port}: {error.strerror}. Choose another address with "
            "--host or another port with --port"
        ) from error
    return made


def take_socket(path: str) -> socket.socket:
    """Get the listening socket that another process offers at ``path``.

    Raises:
        JobError: no process offers a socket at ``path``.
    """
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as asked:
            asked.connect(path)
            _, descriptors, _, _ = socket.recv_fds(asked, 1, 1)
    except OSError as error:
        raise JobError(f"no process offers a socket at {path}: {error.strerror}") from error
    if not descriptors:
        raise JobError(f"the process that offers a socket at {path} sent no socket")
    return socket.socket(fileno=descriptors[0])


class _Server(uvicorn.Server):
    """A server that reports when it has started, and does not handle signals."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.ready = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        # If the application does not start, uvicorn raises SystemExit. Suppress this error, so that
        # it does not end the process.
        with contextlib.suppress(SystemExit):
            await super().startup(sockets)
        self.should_exit = not self.started
        self.ready.set()

    def capture_signals(self) -> Any:
        return contextlib.nullcontext()


@asynccontextmanager
async def serving(app: ASGIApp, listener: socket.socket) -> AsyncIterator[asyncio.Task[None]]:
    """Serve an application on a listening socket.

    Yields:
        The task that serves requests. If the server fails, the task ends.

    Raises:
        JobError: the application does not start.
    """
    config = uvicorn.Config(
        app,
        lifespan="on",
        # The HTTP server must ignore X-Forwarded-For. `Guard` reads this header, and checks that
        # the proxy is trusted.
        proxy_headers=False,
        server_header=False,
        access_log=False,
        log_config=None,
        log_level="critical",  # `Gate` logs the errors
        timeout_keep_alive=_KEEP_ALIVE_S,
    )
    server = _Server(config)
    task = asyncio.create_task(server.serve(sockets=[listener]))
    ready = asyncio.create_task(server.ready.wait())
    try:
        await asyncio.wait({task, ready}, return_when=asyncio.FIRST_COMPLETED)
        if not server.started:
            raise JobError("the HTTP API did not start: see the reason in the log of the ingress")
        yield task
    finally:
        server.should_exit = True
        ready.cancel()
        await asyncio.gather(task, ready, return_exceptions=True)
        listener.close()
