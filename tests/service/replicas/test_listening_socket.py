"""Test that the socket stays open when the answering process ends."""

from __future__ import annotations

import asyncio
import os
import socket
import stat
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from skytext.errors import CallError, JobError
from skytext.service.replicas.listening_socket import bound, listening, serving, take_socket


def free_port() -> int:
    with bound("127.0.0.1", 0) as probe:
        return int(probe.getsockname()[1])


def answering(name: str) -> Starlette:
    async def answer(request: Request) -> PlainTextResponse:
        client = request.client
        return PlainTextResponse(f"{name} to {None if client is None else client.host}")

    return Starlette(routes=[Route("/", answer)])


def ask(port: int, **headers: str) -> str:
    with httpx.Client(trust_env=False, timeout=20) as http:
        return http.get(f"http://127.0.0.1:{port}/", headers=headers).text


def test_connections_queue_while_no_ingress_runs() -> None:
    port = free_port()

    async def answer(name: str, path: Path, asked: list[Future[str]]) -> list[str]:
        async with serving(answering(name), take_socket(str(path))) as task:
            answers = await asyncio.gather(*map(asyncio.wrap_future, asked))
            assert not task.done()
        assert task.done()
        return list(answers)

    with listening("127.0.0.1", port) as path, ThreadPoolExecutor(4) as pool:
        for name in ("first", "second"):
            asked = [pool.submit(ask, port) for _ in range(4)]
            answers = asyncio.run(answer(name, path, asked))
            assert answers == [f"{name} to 127.0.0.1"] * 4
    with pytest.raises(httpx.ConnectError):
        ask(port)
    # The address can be used again at once, although connections have just ended.
    with listening("127.0.0.1", port):
        pass


def test_a_forwarded_for_header_is_not_trusted() -> None:
    port = free_port()

    async def answers(path: Path) -> str:
        async with serving(answering("one"), take_socket(str(path))):
            return await asyncio.to_thread(ask, port, **{"X-Forwarded-For": "192.0.2.7"})

    with listening("127.0.0.1", port) as path:
        assert asyncio.run(answers(path)) == "one to 127.0.0.1"


def test_only_this_user_may_have_the_socket() -> None:
    with listening("127.0.0.1", 0) as path:
        assert stat.S_IMODE(os.stat(path.parent).st_mode) == 0o700
    with pytest.raises(JobError, match="no process offers a socket"):
        take_socket(str(path))


def test_a_failed_application_start_is_reported() -> None:
    async def broken(scope: object, receive: object, send: object) -> None:
        raise RuntimeError("no")

    async def start(path: Path) -> None:
        async with serving(broken, take_socket(str(path))):  # type: ignore[arg-type]
            pass

    with (
        listening("127.0.0.1", 0) as path,
        pytest.raises(JobError, match="did not start"),
    ):
        asyncio.run(start(path))


def test_an_address_in_use_is_reported() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with (
            pytest.raises(CallError, match="another port with --port"),
            listening("127.0.0.1", taken.getsockname()[1]),
        ):
            pass
