"""Send searches over HTTP from several clients at the same time, and record the results."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, NamedTuple

import httpx
import pytest

ANSWERED = "200"


class Asked(NamedTuple):
    """The times and the result of one request.

    ``sent`` and ``ended`` are times of `time.monotonic`. ``outcome`` is the HTTP status, or the
    name of the error.
    """

    sent: float
    ended: float
    outcome: str


def new_client(url: str) -> httpx.Client:
    """Return a client of a service that requires no key."""
    return httpx.Client(base_url=url, trust_env=False, timeout=60)


@contextmanager
def load(
    url: str,
    bodies: list[Any],
    num_clients: int,
    check: Callable[[int, Any], None] | None = None,
    keys: Sequence[str] = (),
    pause_s: float = 0.0,
) -> Iterator[list[Asked]]:
    """Send requests to ``/v1/search/batch`` until the block ends, and yield the list of requests.

    The clients respect ``Retry-After``.

    Args:
        url: address of the service.
        bodies: bodies of the requests. Each client sends the bodies in turn. Each client starts
            with a different body.
        num_clients: number of clients. Each client sends one request at a time.
        check: a function that receives the number of a body and the answer to this body. If the
            function raises an error, the error is raised at the end of the block.
        keys: API keys that are used in turn. If the service requires no key, the list is empty.
        pause_s: pause of each client between two requests, in seconds.
    """
    done, asked = threading.Event(), list[Asked]()

    def ask(first: int) -> None:
        number = first
        with new_client(url) as http:
            while not done.is_set():
                number = (number + 1) % len(bodies)
                headers = {"X-API-Key": keys[number % len(keys)]} if keys else {}
                sent = time.monotonic()
                try:
                    answer = http.post("/v1/search/batch", json=bodies[number], headers=headers)
                    outcome = str(answer.status_code)
                except httpx.TransportError as error:
                    answer, outcome = None, type(error).__name__
                asked.append(Asked(sent, time.monotonic(), outcome))
                if answer is None:
                    continue
                if outcome == ANSWERED and check is not None:
                    check(number, answer.json())
                # The client respects Retry-After.
                done.wait(float(answer.headers.get("Retry-After", pause_s)))

    with ThreadPoolExecutor(num_clients) as pool:
        clients: list[Future[None]] = [
            pool.submit(ask, i * len(bodies) // num_clients) for i in range(num_clients)
        ]
        try:
            yield asked
        finally:
            done.set()
        for client in clients:
            client.result()


def outcomes(asked: list[Asked]) -> dict[str, int]:
    return dict(Counter(one.outcome for one in asked))


def is_normal(asked: list[Asked], end: float, last_s: float = 10.0) -> bool:
    """Return whether there were answers and no failures in the last seconds before ``end``."""
    lately = [one for one in asked if one.sent > end - last_s]
    return bool(lately) and {one.outcome for one in lately} == {ANSWERED}


def say(capsys: pytest.CaptureFixture[str], line: str) -> None:
    with capsys.disabled():
        print(f"\n{line}", flush=True)  # noqa: T201  (the proof is to be seen)
