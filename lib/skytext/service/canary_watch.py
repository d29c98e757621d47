"""The part of an ingress process in a canary: which searches go to it, how they went, its end.

Every ingress process counts its own searches, and writes its counts beside the table. Each of them
adds up the counts of all and judges. The log of promotions lets exactly one of them end a canary.
So no process is needed, and a process that is killed leaves its counts to the others.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import hashlib
import logging
import socket
import time
import uuid
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Literal

from skytext.config.service import ServiceConfig
from skytext.errors import CallError, SkytextError
from skytext.search.request import SearchRequest
from skytext.service.judge_canary import is_comparable, problem_of
from skytext.service.problem_details import NOT_LOADED, ProblemError
from skytext.service.served_tables import TableSet, VersionOfEach
from skytext.service.telemetry.metrics import Meter
from skytext.table.canary import Canary, Compared, all_searches, save_searches
from skytext.table.promote_rollback import Promotion, end_canary, promotions, set_tags

_log = logging.getLogger("skytext.service.canary_watch")
_PATIENCE = dt.timedelta(minutes=1)
"""How long after its time a canary that does not answer is tried again before it is stopped."""

TryOut = Callable[[VersionOfEach], Awaitable[object]]
"""Makes a search in a version; it raises where that is not answered."""
Which = Literal["live", "canary"]


class CanaryWatch:
    """Follows the canary of a table, counts searches of both versions, and ends it.

    Args:
        tables: what the service searches; with several tables there is no canary.
        config: whether promotions are followed, how often, and when a canary is stopped.
        meter: takes the searches of both versions.
    """

    def __init__(self, tables: TableSet, config: ServiceConfig, meter: Meter) -> None:
        self._location, *others = tables.locations
        self._is_followed = config.version is None and not others
        self._config = config
        self._meter = meter
        self._holder = f"{socket.gethostname()}-{uuid.uuid4().hex[:12]}"
        self._last: Promotion | None = None
        self._ready: Canary | None = None
        self._counted = Compared.empty()
        self._saved: dict[str, Any] | None = None

    def version_for(self, requests: Sequence[SearchRequest]) -> VersionOfEach | None:
        """Return the canary's version if it is to answer a request, or None.

        The same searches always go to the same version, in every process: what is hashed is what
        is looked for, whatever the page, and the canary.
        """
        canary, last = self._ready, self._last
        if canary is None or last is None:
            return None
        said = ",".join((last.token, *(request.fingerprint() for request in requests)))
        place = int.from_bytes(hashlib.sha256(said.encode()).digest()[:8]) / 2**64
        return (canary.version,) if place < canary.share else None

    @contextmanager
    def counting(self, which: Which) -> Iterator[None]:
        """Count and time a request; what its caller did wrong is no failure.

        A request that is cancelled counts with the time until then. One that finds its version not
        ready is not counted.
        """
        started, failed = time.perf_counter(), False
        try:
            yield
        except ProblemError as error:
            if error.code == NOT_LOADED:
                raise
            failed = error.status >= 500
            self._count(which, time.perf_counter() - started, failed)
            raise
        except (CallError, asyncio.CancelledError):
            self._count(which, time.perf_counter() - started, failed=False)
            raise
        except Exception:
            self._count(which, time.perf_counter() - started, failed=True)
            raise
        self._count(which, time.perf_counter() - started, failed=False)

    def _count(self, which: Which, seconds: float, failed: bool) -> None:
        self._meter.count("skytext_searches_total", version=which, ok=str(not failed).lower())
        self._meter.observe("skytext_search_seconds", seconds, version=which)
        if self._ready is not None:
            getattr(self._counted, which).add(seconds, failed=failed)

    async def follow(self, try_out: TryOut) -> None:
        """Do a step again and again; a store that does not answer is asked again, too.

        Args:
            try_out: makes a search in a version.
        """
        is_failing = False
        while self._is_followed:
            try:
                await self.step(try_out)
                is_failing = False
            except (SkytextError, OSError, ValueError) as error:
                if not is_failing:
                    _log.warning("cannot follow the canary", extra={"error": str(error)})
                is_failing = True
            await asyncio.sleep(self._config.poll_interval_s)

    async def step(self, try_out: TryOut) -> None:
        """Look whether there is a canary; begin, judge and end it.

        Raises:
            SkytextError: the store refuses.
        """
        last = await asyncio.to_thread(self._look)
        if last is None or last.canary is None:
            return
        problem = None
        if self._ready is None or last.canary.is_over:
            problem = await _problem_with(try_out, (last.canary.version,))
            if problem is None:
                self._ready = last.canary
        # Here, where the counts do not change meanwhile.
        counted = self._counted.to_json()
        await asyncio.to_thread(self._judge, last, last.canary, problem, counted)

    def _look(self) -> Promotion | None:
        """Return the last record of the log; forget the canary before if it is another one."""
        last = next(iter(promotions(self._location, 1)), None)
        before = self._last
        if last is not None and (before is None or before.number != last.number):
            self._ready, self._counted, self._saved = None, Compared.empty(), None
            if before is None or before.canary is not None:
                # Whoever ended a canary may have been killed before it set them.
                set_tags(self._location)
        self._last = last
        is_running = last is not None and last.canary is not None
        is_stopped = last is not None and last.action == "stop"
        self._meter.gauge("skytext_canary_running", float(is_running))
        self._meter.gauge("skytext_canary_stopped", float(is_stopped))
        return last

    def _judge(
        self, last: Promotion, canary: Canary, problem: str | None, counted: dict[str, Any]
    ) -> None:
        if counted != self._saved:
            save_searches(self._location, last.number, self._holder, counted)
            self._saved = counted
        found = all_searches(self._location, last.number)
        worse = problem_of(found, self._config.canary)
        if worse is None and problem is not None and _is_lost(canary):
            worse = f"it does not answer: {problem}"
        if worse is not None:
            self._end(last, passed=False, why=worse)
        elif canary.is_over and problem is None:
            self._end(last, passed=True, why=_passed(found, self._config))

    def _end(self, last: Promotion, *, passed: bool, why: str) -> None:
        self._ready = None
        if end_canary(self._location, last.number, passed=passed, why=why):
            said = "a canary became live" if passed else "a canary was stopped"
            _log.warning(said, extra={"why": why})


async def _problem_with(try_out: TryOut, version: VersionOfEach) -> str | None:
    """Search in a version; return why that is not answered, or None."""
    try:
        await try_out(version)
    except Exception as error:  # noqa: BLE001  (whatever it is, this version is not served)
        return str(error) or type(error).__name__
    return None


def _is_lost(canary: Canary) -> bool:
    return dt.datetime.now(dt.UTC) >= canary.ends_at + _PATIENCE


def _passed(found: Compared, config: ServiceConfig) -> str:
    said = f"canary passed: {found.canary.described}; live version: {found.live.described}"
    if is_comparable(found, config.canary):
        return said
    return f"{said}; not compared, which takes {config.canary.min_requests:,} searches of each"
