"""The client for the process of the fake engine.

The client sends requests, receives answers, and detects that the process has died. One thread
writes and another thread reads, so that a full pipe cannot block both processes. Any event loop may
use the client.
"""

from __future__ import annotations

import asyncio
import json
import queue
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from typing import IO, Any

from skytext.captions.captioner import EngineDiedError
from skytext.models.fakes import engine_process as fake_engine_process

_CHUNK_BYTES = 2**20
_JOIN_S = 10.0

_Reply = dict[str, Any]


class FakeProcess:
    """A running fake engine.

    Args:
        options: the values of `skytext.models.fakes.options.FakeOptions`, by the names of its
            fields.
        fields: the names of the text fields in an answer.
    """

    def __init__(self, options: Mapping[str, Any], fields: Sequence[str]) -> None:
        settings = json.dumps({"options": dict(options), "fields": list(fields)})
        program = [sys.executable, "-I", "-S", str(fake_engine_process.__file__)]
        self._popen = subprocess.Popen(
            [*program, fake_engine_process.PROCESS_TITLE, settings],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            bufsize=0,
        )
        self.pid = self._popen.pid
        self._ready = threading.Event()
        self._dead: str | None = None
        self._lock = threading.Lock()
        self._num_requests = 0
        self._waiting: dict[int, asyncio.Future[_Reply]] = {}
        self._requests: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self._threads = [
            threading.Thread(target=carry, name=f"fake-engine-{carry.__name__}", daemon=True)
            for carry in (self._write, self._read)
        ]
        for thread in self._threads:
            thread.start()

    def wait_until_ready(self) -> None:
        """Wait until the process is ready.

        Raises:
            EngineDiedError: the process ended before it was ready.
        """
        self._ready.wait()
        if self._dead is not None:
            raise EngineDiedError(self._dead)

    async def ask(self, request: Mapping[str, Any]) -> _Reply:
        """Send a request, and wait for the answer to this request.

        Raises:
            EngineDiedError: the process died.
        """
        future: asyncio.Future[_Reply] = asyncio.get_running_loop().create_future()
        with self._lock:
            if self._dead is not None:
                raise EngineDiedError(self._dead)
            self._num_requests += 1
            number = self._num_requests
            self._waiting[number] = future
        self._requests.put(json.dumps({"id": number, **request}).encode() + b"\n")
        try:
            return await future
        finally:
            with self._lock:
                self._waiting.pop(number, None)

    def close(self) -> None:
        """Kill the process, and wait until the process and the threads have ended."""
        self._popen.kill()
        self._requests.put(None)
        for thread in self._threads:
            thread.join(_JOIN_S)
        self._popen.wait()

    def _write(self) -> None:
        stream = _pipe(self._popen.stdin)
        with stream:
            while (line := self._requests.get()) is not None:
                try:
                    _write_all(stream, line)
                except OSError:
                    return  # The process has ended. The reader thread reports this.

    def _read(self) -> None:
        rest = b""
        stream = _pipe(self._popen.stdout)
        with stream:
            while chunk := stream.read(_CHUNK_BYTES):
                *lines, rest = (rest + chunk).split(b"\n")
                for line in lines:
                    self._hand_over(json.loads(line))
        self._bury(self._popen.wait())

    def _hand_over(self, reply: _Reply) -> None:
        if "ready" in reply:
            self._ready.set()
            return
        with self._lock:
            future = self._waiting.pop(reply["id"], None)
        if future is not None:
            _call(future.get_loop(), _answer, future, reply)

    def _bury(self, status: int) -> None:
        how = f"because of signal {-status}" if status < 0 else f"with status {status}"
        with self._lock:
            self._dead = f"the process {self.pid} of the fake engine ended {how}"
            waiting, self._waiting = self._waiting, {}
        self._ready.set()
        for future in waiting.values():
            _call(future.get_loop(), _fail, future, self._dead)


def _pipe(stream: IO[bytes] | None) -> IO[bytes]:
    if stream is None:
        raise ValueError("the process was started without pipes")
    return stream


def _write_all(stream: IO[bytes], data: bytes) -> None:
    # One call may write only a part of the bytes, because the pipe has no buffer.
    view = memoryview(data)
    while view:
        view = view[stream.write(view) :]


def _call(loop: asyncio.AbstractEventLoop, what: Any, *arguments: Any) -> None:
    try:
        loop.call_soon_threadsafe(what, *arguments)
    except RuntimeError:
        return  # The loop is closed, so no caller waits for the result.


def _answer(future: asyncio.Future[_Reply], reply: _Reply) -> None:
    if not future.done():
        future.set_result(reply)


def _fail(future: asyncio.Future[_Reply], why: str) -> None:
    if not future.done():
        future.set_exception(EngineDiedError(why))
