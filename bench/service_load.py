"""A load generator with two modes.

In the closed mode, several clients send searches. Each client waits for the response before it
sends the next search. In the open mode, searches are sent at a fixed rate. The generator runs in a
separate process, so that its CPU time is not counted for the service. Run: ``python -m
bench.service_load URL --clients 8 --seconds 30``
"""

from __future__ import annotations

import asyncio
import itertools
import json
import random
import time
from collections import Counter
from typing import Annotated, Any

import aiohttp
import numpy as np
import typer

_THINGS = (
    "river", "harbour", "runway", "stadium", "forest", "storage tanks", "bridge", "parking lot",
    "railway station", "vineyard", "solar farm", "quarry", "beach", "tennis courts", "roundabout",
)  # fmt: skip
_PLACES = ("beside a road", "in a town", "near the sea", "among fields", "under thin clouds")
_COLOURS = ("green", "grey", "brown", "white", "dark", "bright")
_TIMEOUT = aiohttp.ClientTimeout(total=30)


def make_queries(seed: int) -> list[str]:
    """Return all 450 combinations of a colour, a thing and a place, in random order."""
    texts = [f"{c} {t} {p}" for c, t, p in itertools.product(_COLOURS, _THINGS, _PLACES)]
    random.Random(seed).shuffle(texts)
    return texts


class Load:
    """A generator that sends searches, and records the responses."""

    def __init__(self, url: str, key: str | None, body: dict[str, Any]) -> None:
        self._url = f"{url}/v1/search"
        self._headers = {} if key is None else {"Authorization": f"Bearer {key}"}
        self._body = body
        self._queries = itertools.cycle(make_queries(0))
        self.statuses: Counter[str] = Counter()
        self.accepted_s: list[float] = []
        self.versions: Counter[int] = Counter()

    async def ask(self, session: aiohttp.ClientSession) -> float:
        """Send one search. Return the seconds in the header Retry-After of the response, or 0."""
        body = {**self._body, "text": next(self._queries)}
        started = time.perf_counter()
        try:
            async with session.post(self._url, json=body, headers=self._headers) as answer:
                answer_json = await answer.json(content_type=None)
                status = str(answer.status)
        except (aiohttp.ClientError, TimeoutError, ValueError) as error:
            self.statuses[type(error).__name__] += 1
            return 0.0
        self.statuses[status] += 1
        if status == "200":
            self.accepted_s.append(time.perf_counter() - started)
            self.versions[answer_json["table_version"]] += 1
        return float(answer.headers.get("Retry-After", 0))

    async def closed(self, clients: int, seconds: float, *, patient: bool = False) -> float:
        """Run clients that send one search after the other. Return the duration in seconds.

        Args:
            clients: number of clients.
            seconds: time for which the clients send searches, in seconds.
            patient: if true, a client whose search was refused waits for the time in Retry-After
                before its next search. If false, the client sends the next search immediately.
        """
        end = time.perf_counter() + seconds
        connector = aiohttp.TCPConnector(limit=clients)
        started = time.perf_counter()
        async with aiohttp.ClientSession(connector=connector, timeout=_TIMEOUT) as session:

            async def client() -> None:
                while time.perf_counter() < end:
                    wait_s = await self.ask(session)
                    if patient and wait_s:
                        # Add a random time, so that the clients do not all send their next search
                        # at the same time.
                        await asyncio.sleep(wait_s * random.uniform(1, 1.5))

            await asyncio.gather(*(client() for _ in range(clients)))
        return time.perf_counter() - started

    async def open(self, per_s: float, seconds: float) -> float:
        """Send ``per_s`` searches per second without waiting for responses. Return the duration."""
        started = time.perf_counter()
        connector = aiohttp.TCPConnector(limit=0)
        tasks: set[asyncio.Task[None]] = set()
        async with aiohttp.ClientSession(connector=connector, timeout=_TIMEOUT) as session:
            for i in range(round(per_s * seconds)):
                await asyncio.sleep(max(0.0, started + i / per_s - time.perf_counter()))
                task = asyncio.create_task(self.ask(session))
                tasks.add(task)
                task.add_done_callback(tasks.discard)
            await asyncio.gather(*tasks)
        return time.perf_counter() - started

    def report(self, seconds: float) -> dict[str, Any]:
        """Return the accepted searches per second, the response times in ms, and the statuses."""
        times = np.array(self.accepted_s or [float("nan")]) * 1000
        return {
            "seconds": round(seconds, 2),
            "accepted_per_s": round(len(self.accepted_s) / seconds, 1),
            "p50_ms": round(float(np.percentile(times, 50)), 1),
            "p99_ms": round(float(np.percentile(times, 99)), 1),
            "statuses": dict(self.statuses),
            "versions": len(self.versions),
        }


def main(
    url: str,
    clients: Annotated[int, typer.Option(help="Closed mode: number of clients.")] = 0,
    per_s: Annotated[float, typer.Option(help="Open mode: number of searches per second.")] = 0.0,
    seconds: float = 10.0,
    k: int = 10,
    mode: str = "dense",
    patient: Annotated[
        bool, typer.Option(help="Clients wait for the time in Retry-After.")
    ] = False,
    key: Annotated[str | None, typer.Option(envvar="SKYTEXT_KEY")] = None,
) -> None:
    """Send searches to a service, and print a JSON report."""
    load = Load(url.rstrip("/"), key, {"k": k, "mode": mode})
    work = load.closed(clients, seconds, patient=patient) if clients else load.open(per_s, seconds)
    print(json.dumps(load.report(asyncio.run(work))))


if __name__ == "__main__":
    typer.run(main)
