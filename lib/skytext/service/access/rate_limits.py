"""Admission control: queues with a maximum length, and rate limits."""

from __future__ import annotations

import asyncio
import contextlib
import math
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

from limits import RateLimitItem, parse
from limits.aio.strategies import SlidingWindowCounterRateLimiter
from limits.errors import ConfigurationError, StorageError
from limits.storage import storage_from_string

from skytext.config.service import AccessConfig, LimitsConfig
from skytext.errors import ConfigError
from skytext.service.problem_details import ProblemError, too_busy
from skytext.service.telemetry.metrics import Meter


class Drain:
    """Counts the running requests, and refuses new requests during a shutdown.

    Attributes:
        is_draining: true after a shutdown was requested. New requests are then refused.
        running: the number of running requests.
    """

    def __init__(self) -> None:
        self.is_draining = False
        self.running = 0
        self._empty = asyncio.Event()

    @contextmanager
    def under_way(self, retry_after_s: int) -> Iterator[None]:
        """Count a request while it runs.

        Raises:
            ProblemError: 503: the service is shutting down.
        """
        if self.is_draining:
            raise too_busy("this service is shutting down: try again later", retry_after_s)
        self.running += 1
        try:
            yield
        finally:
            self._one_less()

    def _one_less(self) -> None:
        self.running -= 1
        if self.is_draining and not self.running:
            self._empty.set()

    async def drain(self, seconds: float) -> int:
        """Refuse new requests, and wait until the running requests have ended.

        Args:
            seconds: the maximum waiting time.

        Returns:
            The number of requests that are still running after the wait.
        """
        self.is_draining = True
        if self.running:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await self._empty.wait()
        return self.running


class Turns:
    """A queue that limits how many requests run at the same time.

    The queue also limits how many requests wait, and how long a request waits. If a limit is
    reached, the request is refused. Therefore, a request that is not refused gets its response
    soon, even under high load.
    """

    def __init__(self, what: str, max_running: int, limits: LimitsConfig, meter: Meter) -> None:
        self.running = 0
        self.waiting = 0
        self._what = what
        self._free = asyncio.Semaphore(max_running)
        self._limits = limits
        self._meter = meter

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """Wait until the request may run. Until the block ends, count the request as running.

        Raises:
            ProblemError: 503: too many requests are waiting, or the request waited too long.
        """
        await self._wait()
        self._count(1)
        try:
            yield
        finally:
            self._count(-1)
            self._free.release()

    async def _wait(self) -> None:
        if not self._free.locked():
            await self._free.acquire()
            return
        limits = self._limits
        if self.waiting >= limits.max_waiting:
            self._meter.count("skytext_refused_total", reason="queue")
            raise too_busy(
                "the service is overloaded, because too many requests are waiting: try again later",
                limits.retry_after_s,
            )
        self.waiting += 1
        started = time.perf_counter()
        try:
            async with asyncio.timeout(limits.max_wait_s):
                await self._free.acquire()
        except TimeoutError:
            self._meter.count("skytext_refused_total", reason="wait")
            raise too_busy(
                f"the service is overloaded, because this request waited {limits.max_wait_s:g} s "
                "and could not start: try again later",
                limits.retry_after_s,
            ) from None
        finally:
            self.waiting -= 1
            self._meter.observe("skytext_wait_seconds", time.perf_counter() - started)

    def _count(self, change: int) -> None:
        self.running += change
        self._meter.gauge("skytext_running", self.running, what=self._what)


class Rates:
    """Limits the rate of requests from each sender, and the rate of wrong keys from each address.

    Raises:
        ConfigError: the configured kind of storage does not exist, or the Python package for it is
            not installed.
    """

    def __init__(self, config: AccessConfig, retry_after_s: int, meter: Meter) -> None:
        self._requests = None if config.key_rate is None else parse(config.key_rate)
        self._failures = parse(config.failure_rate)
        self._retry_after_s = retry_after_s
        self._meter = meter
        try:
            # For redis://, the package limits uses the package coredis by default. However, limits
            # does not work with coredis 6 or later, so use the package redis.
            storage = storage_from_string(
                f"async+{config.rate_storage}", wrap_exceptions=True, implementation="redispy"
            )
        except ConfigurationError as error:
            raise ConfigError(
                f"the rate storage {config.rate_storage} (service.access.rate_storage) cannot be "
                f"used: {error}. If the address begins with redis://, run on every node: pip "
                "install redis"
            ) from error
        self._limiter = SlidingWindowCounterRateLimiter(storage)

    async def take(self, who: str) -> None:
        """Count a request from a sender.

        Raises:
            ProblemError: 429: the sender has sent too many requests. 503: the storage for the
                counts cannot be reached.
        """
        if self._requests is None or await self._hit(self._requests, "request", who):
            return
        self._meter.count("skytext_refused_total", reason="rate")
        raise await self._too_many(
            self._requests,
            "request",
            who,
            f"the rate limit is {self._requests} for each API key or address",
        )

    async def check_failures(self, address: str) -> None:
        """Refuse a request from an address that has sent too many wrong keys.

        The request is refused even if it contains a valid key.

        Raises:
            ProblemError: 429: the address has sent too many wrong keys. 503: the storage for the
                counts cannot be reached.
        """
        try:
            more = await self._limiter.test(self._failures, "failure", address)
        except StorageError as error:
            raise self._unreachable() from error
        if not more:
            self._meter.count("skytext_refused_total", reason="guessing")
            raise await self._too_many(
                self._failures, "failure", address, "this address sent too many wrong API keys"
            )

    async def count_failure(self, address: str) -> None:
        """Count a wrong key from an address.

        Raises:
            ProblemError: 503: the storage for the counts cannot be reached.
        """
        await self._hit(self._failures, "failure", address)

    async def _hit(self, item: RateLimitItem, *names: str) -> bool:
        try:
            return await self._limiter.hit(item, *names)
        except StorageError as error:
            raise self._unreachable() from error

    async def _too_many(
        self, item: RateLimitItem, kind: str, who: str, detail: str
    ) -> ProblemError:
        window = await self._limiter.get_window_stats(item, kind, who)
        wait = max(1, math.ceil(window.reset_time - time.time()))
        return ProblemError(429, "too-many-requests", detail, {"Retry-After": str(wait)})

    def _unreachable(self) -> ProblemError:
        return too_busy(
            "the service cannot reach the storage for its rate limits: try again later",
            self._retry_after_s,
        )
