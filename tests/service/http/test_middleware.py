"""Test the middleware in one event loop. The tests call it in the same way as an ASGI server."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from skytext.config.service import AccessConfig, LimitsConfig
from skytext.service.access.authentication import Guard
from skytext.service.access.rate_limits import Drain, Rates, Turns
from skytext.service.http.middleware import Gate
from skytext.service.telemetry.metrics import LocalMeter

Inner = Callable[[Any, Any, Any], Awaitable[None]]


class Client:
    """A client with one request. It holds the messages from the server and the messages of the
    answer."""

    def __init__(self, path: str = "/v1/search", body: bytes = b"{}", **headers: str) -> None:
        self.scope: dict[str, Any] = {
            "type": "http",
            "method": "POST",
            "path": path,
            "headers": [(b"host", b"localhost")]
            + [(k.replace("_", "-").encode(), v.encode()) for k, v in headers.items()],
            "client": ("127.0.0.1", 1),
        }
        self.incoming: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        if body is not None:
            self.incoming.put_nowait({"type": "http.request", "body": body, "more_body": False})
        self.sent: list[dict[str, Any]] = []

    async def send(self, message: dict[str, Any]) -> None:
        self.sent.append(message)

    def go_away(self) -> None:
        self.incoming.put_nowait({"type": "http.disconnect"})

    async def ask(self, gate: Gate) -> int | None:
        await gate(self.scope, self.incoming.get, self.send)  # type: ignore[arg-type]
        return self.status

    @property
    def status(self) -> int | None:
        return next((m["status"] for m in self.sent if m["type"] == "http.response.start"), None)

    def header(self, name: str) -> str | None:
        start = self.sent[0]
        return {k.decode().lower(): v.decode() for k, v in start["headers"]}.get(name)

    @property
    def problem(self) -> Any:
        return json.loads(b"".join(m.get("body", b"") for m in self.sent))


class Work:
    """An application that answers after the test sets `let_go`."""

    def __init__(self) -> None:
        self.begun = 0
        self.ended = 0
        self.cancelled = 0
        self.let_go = asyncio.Event()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.begun += 1
        assert (await receive())["body"] == b"{}"
        try:
            await self.let_go.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        self.ended += 1
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"done"})


def make_gate(app: Inner, meter: LocalMeter | None = None, **settings: Any) -> Gate:
    limits = LimitsConfig(**{"max_running": 2, "max_waiting": 1, **settings})
    meter = meter or LocalMeter()
    access = AccessConfig(require_keys=False)
    return Gate(
        app,  # type: ignore[arg-type]
        guard=Guard(access, None, Rates(access, 1, meter)),
        searches=Turns("searches", limits.num_running, limits, meter),
        images=Turns("images", limits.max_images_running, limits, meter),
        uploads=Turns("uploads", limits.max_uploads_running, limits, meter),
        limits=limits,
        meter=meter,
        page_policy="default-src 'none'",
    )


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0)


def run(test: Callable[[], Awaitable[None]]) -> None:
    asyncio.run(test())  # type: ignore[arg-type]


def test_requests_above_the_queue_limit_get_retry_after() -> None:
    async def test() -> None:
        work, meter = Work(), LocalMeter()
        gate = make_gate(work, meter, max_wait_s=30.0, retry_after_s=7)
        clients = [Client() for _ in range(3)]
        tasks = [asyncio.create_task(client.ask(gate)) for client in clients]
        await until(lambda: work.begun == 2)
        refused = Client()
        assert await refused.ask(gate) == 503
        assert refused.header("retry-after") == "7"
        assert refused.problem["type"] == "urn:skytext:problem:overloaded"
        work.let_go.set()
        assert await asyncio.gather(*tasks) == [200, 200, 200]
        assert 'skytext_refused_total{reason="queue"} 1.0' in meter.text()
        assert await Client().ask(gate) == 200

    run(test)


def test_a_long_head_is_refused_before_anything_is_done() -> None:
    async def test() -> None:
        work = Work()
        gate = make_gate(work, max_head_bytes=1_000)
        for client in (Client(cookie="x" * 1_000), Client(path="/healthz", cookie="x" * 1_000)):
            assert await client.ask(gate) == 431
            assert client.problem["type"] == "urn:skytext:problem:head-too-large"
        linked = Client()
        linked.scope["query_string"] = b"x" * 1_000
        assert await linked.ask(gate) == 431
        assert work.begun == 0

    run(test)


def test_admission_rejects_after_max_wait() -> None:
    async def test() -> None:
        work = Work()
        gate = make_gate(work, max_wait_s=0.01, max_waiting=100)
        running = [asyncio.create_task(Client().ask(gate)) for _ in range(2)]
        await until(lambda: work.begun == 2)
        waiting = [Client() for _ in range(10)]
        assert await asyncio.gather(*(c.ask(gate) for c in waiting)) == [503] * 10
        assert work.begun == 2
        work.let_go.set()
        assert await asyncio.gather(*running) == [200, 200]

    run(test)


def test_images_and_searches_do_not_wait_for_each_other() -> None:
    async def test() -> None:
        work = Work()
        gate = make_gate(work, max_images_running=1)
        for _ in range(2):
            asyncio.get_running_loop().create_task(Client().ask(gate))
        await until(lambda: work.begun == 2)
        image = asyncio.create_task(Client("/v1/images/x/bytes").ask(gate))
        await until(lambda: work.begun == 3)
        work.let_go.set()
        assert await image == 200

    run(test)


def test_slow_uploads_hold_up_only_each_other() -> None:
    async def test() -> None:
        work = Work()
        work.let_go.set()
        gate = make_gate(work, max_uploads_running=2, max_waiting=0)
        slow = []
        for _ in range(2):
            upload = Client("/v1/search/image", body=None)  # type: ignore[arg-type]
            upload.incoming.put_nowait({"type": "http.request", "body": b"-", "more_body": True})
            slow.append(asyncio.create_task(upload.ask(gate)))
        await until(lambda: gate._policies.of(upload.scope).body_turns.running == 2)  # type: ignore[union-attr]
        assert await Client("/v1/search/image").ask(gate) == 503
        for path in ("/v1/images/x/thumbnail", "/v1/images/x/bytes", "/v1/search"):
            assert await Client(path).ask(gate) == 200
        for task in slow:
            task.cancel()
        await asyncio.wait(slow)
        assert await Client("/v1/search/image").ask(gate) == 200

    run(test)


def test_a_disconnected_client_ends_its_work_and_frees_its_slot() -> None:
    async def test() -> None:
        work = Work()
        gate = make_gate(work, max_running=1, max_waiting=0)
        client = Client()
        task = asyncio.create_task(client.ask(gate))
        await until(lambda: work.begun == 1)
        client.go_away()
        assert await task is None
        assert (work.cancelled, work.ended) == (1, 0)
        work.let_go.set()
        assert await Client().ask(gate) == 200

    run(test)


def test_a_disconnect_after_the_whole_response_does_not_cancel_the_work() -> None:
    """Servers report a disconnection as soon as the answer is sent."""

    async def test() -> None:
        cleared_up = asyncio.Event()

        async def work(scope: Any, receive: Any, send: Any) -> None:
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b"done"})
            client.go_away()
            for _ in range(10):
                await asyncio.sleep(0)
            cleared_up.set()

        client, meter = Client(), LocalMeter()
        assert await client.ask(make_gate(work, meter)) == 200
        assert cleared_up.is_set()
        assert 'status="200"} 1.0' in meter.text()

    run(test)


def test_a_cancelled_request_ends_its_work() -> None:
    """Cancel the task of the request, as Ray Serve does."""

    async def test() -> None:
        work = Work()
        task = asyncio.create_task(Client().ask(make_gate(work)))
        await until(lambda: work.begun == 1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert work.cancelled == 1

    run(test)


def test_an_answer_that_takes_too_long_is_aborted() -> None:
    async def test() -> None:
        work = Work()
        client = Client()
        assert await client.ask(make_gate(work, request_timeout_s=0.02)) == 503
        assert client.header("retry-after") == "1"
        assert work.cancelled == 1

    run(test)


@pytest.mark.parametrize("headers", [{"content_length": "1000"}, {}, {"content_length": "ten"}])
def test_a_body_that_is_too_large_is_not_read(headers: dict[str, str]) -> None:
    async def test() -> None:
        work, client = Work(), Client(body=b"x" * 600, **headers)
        assert await client.ask(make_gate(work, max_body_bytes=500)) == 413
        assert work.begun == 0

    run(test)


def test_a_body_without_end_is_cut_off() -> None:
    async def test() -> None:
        work, client = Work(), Client(body=None)  # type: ignore[arg-type]
        for _ in range(100):
            client.incoming.put_nowait(
                {"type": "http.request", "body": b"x" * 10, "more_body": True}
            )
        assert await client.ask(make_gate(work, max_body_bytes=500)) == 413
        assert client.incoming.qsize() >= 48

    run(test)


def test_a_slow_client_holds_no_slot_and_times_out() -> None:
    async def test() -> None:
        work = Work()
        gate = make_gate(work, max_running=1, max_waiting=0, body_timeout_s=0.05)
        slow = Client(body=None)  # type: ignore[arg-type]
        slow.incoming.put_nowait({"type": "http.request", "body": b"{", "more_body": True})
        task = asyncio.create_task(slow.ask(gate))
        work.let_go.set()
        assert await Client().ask(gate) == 200
        assert await task == 408

    run(test)


def test_a_client_that_disconnects_during_its_body_frees_its_slot() -> None:
    async def test() -> None:
        work, client = Work(), Client(body=None)  # type: ignore[arg-type]
        client.go_away()
        assert await client.ask(make_gate(work)) is None
        assert work.begun == 0

    run(test)


def test_a_request_is_logged_with_its_id_and_without_its_words(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging.getLogger("skytext.service"), "propagate", True)

    async def test() -> None:
        work = Work()
        work.let_go.set()
        with caplog.at_level(logging.INFO, "skytext.service"):
            await Client(x_request_id="abc-1").ask(make_gate(work))

    run(test)
    (record,) = [r for r in caplog.records if r.name == "skytext.service.requests"]
    assert vars(record)["request_id"] == "abc-1"
    assert vars(record)["status"] == 200
    assert "queries" not in vars(record)


def test_a_websocket_is_refused() -> None:
    async def test() -> None:
        client = Client()
        client.scope["type"] = "websocket"
        await client.ask(make_gate(Work()))
        assert client.sent == [{"type": "websocket.close", "code": 1008}]

    run(test)


def test_a_log_line_is_one_json_object(capsys: pytest.CaptureFixture[str]) -> None:
    from skytext.service.telemetry.logs import LOGGER, configure_logs

    logger = logging.getLogger(LOGGER)
    before = list(logger.handlers), logger.propagate, logger.level
    try:
        configure_logs()
        logging.getLogger(f"{LOGGER}.requests").info("a\nb", extra={"status": 200, "who": "é"})
    finally:
        logger.handlers[:], logger.propagate = before[0], before[1]
        logger.setLevel(before[2])
    (line,) = capsys.readouterr().err.splitlines()
    row = json.loads(line)
    assert (row["message"], row["status"], row["who"], row["level"]) == ("a\nb", 200, "é", "info")


def test_draining_answers_running_requests_and_refuses_new_ones() -> None:
    async def test() -> None:
        work, drain = Work(), Drain()
        gate = make_gate(work)
        gate._drain = drain
        under_way = asyncio.create_task(Client().ask(gate))
        await until(lambda: work.begun == 1)
        draining = asyncio.create_task(drain.drain(30))
        await until(lambda: drain.is_draining)
        for path in ("/v1/search", "/v1/table", "/readyz", "/"):
            late = Client(path)
            assert await late.ask(gate) == 503
            assert late.header("retry-after") == "1"
        assert not draining.done()
        work.let_go.set()
        assert await under_way == 200
        assert await draining == 0

    run(test)


def test_a_request_that_does_not_end_is_not_waited_for() -> None:
    async def test() -> None:
        work, drain = Work(), Drain()
        gate = make_gate(work)
        gate._drain = drain
        task = asyncio.create_task(Client().ask(gate))
        await until(lambda: work.begun == 1)
        assert await drain.drain(0.01) == 1
        task.cancel()

    run(test)
