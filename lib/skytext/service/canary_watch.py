"""Follow the canary of a table from an ingress process.

A canary is a new version of the table that answers a share of the searches before the version
becomes live. This module selects these searches, counts the searches in both versions, and ends
the canary.

Every ingress process counts its own searches and stores the counts in the state folder of the
table. Each process adds up the counts of all processes and compares the two versions. The promotion
log ensures that only one process ends the canary. If a process is killed, the other processes
continue, and they still use the stored counts of the killed process.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import hashlib
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import ExitStack
from typing import Any, Literal

from skytext.config.service import ServiceConfig
from skytext.errors import CallError
from skytext.search.request import SearchRequest
from skytext.service.failure_log import FailureLog
from skytext.service.judge_canary import is_comparable, problem_of
from skytext.service.problem_details import NOT_LOADED, ProblemError
from skytext.service.served_tables import TableSet, VersionOfEach
from skytext.service.telemetry.metrics import Meter
from skytext.table.store.state_files import new_holder
from skytext.table.versions.canary import Canary, Compared, all_searches, save_searches
from skytext.table.versions.promote_rollback import Promotion, end_canary, last_promotion, set_tags

_log = logging.getLogger("skytext.service.canary_watch")
_PATIENCE = dt.timedelta(minutes=1)
"""If the test search in the canary fails at the end time of the canary, the test search is retried
for this time. If the test search still fails after this time, the canary is stopped."""

TryOut = Callable[[VersionOfEach], Awaitable[object]]
"""A function that runs a test search in a version. It raises an error if the search fails."""
Which = Literal["live", "canary"]


class CanaryWatch:
    """Follows the canary of a table, counts the searches of both versions, and ends the canary.

    Args:
        tables: the served tables. If there are several tables, no canary is followed.
        config: the settings of the service. This class uses the pinned version, the poll interval
            and the limits for a canary.
        meter: the object that records the number and the duration of searches in each version.
    """

    def __init__(self, tables: TableSet, config: ServiceConfig, meter: Meter) -> None:
        self._location, *others = tables.locations
        self._is_followed = config.version is None and not others
        self._config = config
        self._meter = meter
        self._holder = new_holder()
        self._last: Promotion | None = None
        self._ready: Canary | None = None
        self._counted = Compared.empty()
        self._saved: dict[str, Any] | None = None

    def version_for(self, requests: Sequence[SearchRequest]) -> VersionOfEach | None:
        """Return the version of the canary if it must answer this request, else None.

        The choice depends on a hash of the searches and of the record of the canary. Therefore,
        all processes choose the same version for the same searches. All pages of a search have the
        same hash.
        """
        canary, last = self._ready, self._last
        if canary is None or last is None:
            return None
        text = ",".join((last.token, *(request.fingerprint() for request in requests)))
        place = int.from_bytes(hashlib.sha256(text.encode()).digest()[:8]) / 2**64
        return (canary.version,) if place < canary.share else None

    def counting(self, which: Which) -> ExitStack:
        """Return a context manager that counts a request and measures its duration.

        The request must run in the block of the context manager. An invalid request is counted, but
        not as a failure. A cancelled request is counted. Its duration is the time until it was
        cancelled. A request is not counted if the model of the version is not loaded yet.
        """
        started, block = time.perf_counter(), ExitStack()
        block.push(lambda _, error, __: self._count(which, time.perf_counter() - started, error))
        return block

    def _count(self, which: Which, seconds: float, error: BaseException | None) -> None:
        if isinstance(error, ProblemError) and error.code == NOT_LOADED:
            return
        failed = _is_failure(error)
        self._meter.count("skytext_searches_total", version=which, ok=str(not failed).lower())
        self._meter.observe("skytext_search_seconds", seconds, version=which)
        if self._ready is not None:
            getattr(self._counted, which).add(seconds, failed=failed)

    async def follow(self, try_out: TryOut) -> None:
        """Call `step` periodically. If the store fails, log the error and continue.

        Args:
            try_out: the function that runs a test search.
        """
        failures = FailureLog(_log)
        warning = "cannot read or update the state of the canary, and will try again"
        while self._is_followed:
            with failures.catch(warning):
                await self.step(try_out)
            await asyncio.sleep(self._config.poll_interval_s)

    async def step(self, try_out: TryOut) -> None:
        """Read the promotion log. If its last record is a canary, do the next step for this canary.

        The step is one of these: begin to use the canary, compare it with the live version, or end
        it.

        Args:
            try_out: the function that runs a test search.

        Raises:
            SkytextError: a store request failed.
        """
        last = await asyncio.to_thread(self._look)
        if last is None or last.canary is None:
            return
        problem = None
        if self._ready is None or last.canary.is_over:
            problem = await _problem_with(try_out, (last.canary.version,))
            if problem is None:
                self._ready = last.canary
        # Copy the counts here in the event loop. In a thread, the counts could change during the
        # copy.
        counted = self._counted.to_json()
        await asyncio.to_thread(self._judge, last, last.canary, problem, counted)

    def _look(self) -> Promotion | None:
        """Return the last record of the promotion log. If the record is new, reset the counts."""
        last = last_promotion(self._location)
        before = self._last
        if last is not None and (before is None or before.number != last.number):
            self._ready, self._counted, self._saved = None, Compared.empty(), None
            if before is None or before.canary is not None:
                # Another process may have ended the canary. Set the tags here, because that process
                # may have been killed before it set the tags.
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
            worse = f"a test search failed: {problem}"
        if worse is not None:
            self._end(last, passed=False, why=worse)
        elif canary.is_over and problem is None:
            self._end(last, passed=True, why=_passed(found, self._config))

    def _end(self, last: Promotion, *, passed: bool, why: str) -> None:
        self._ready = None
        if end_canary(self._location, last.number, passed=passed, why=why):
            said = "the canary became live" if passed else "the canary was stopped"
            _log.warning(said, extra={"why": why})


def _is_failure(error: BaseException | None) -> bool:
    if isinstance(error, ProblemError):
        return error.status >= 500
    return error is not None and not isinstance(error, CallError | asyncio.CancelledError)


async def _problem_with(try_out: TryOut, version: VersionOfEach) -> str | None:
    """Run a test search in a version.

    Return the error message if the search failed, and None if it succeeded.
    """
    try:
        await try_out(version)
    except Exception as error:  # noqa: BLE001  (any error means that the version cannot be served)
        return str(error) or type(error).__name__
    return None


def _is_lost(canary: Canary) -> bool:
    return dt.datetime.now(dt.UTC) >= canary.ends_at + _PATIENCE


def _passed(found: Compared, config: ServiceConfig) -> str:
    text = f"canary passed: {found.canary.described}; live version: {found.live.described}"
    if is_comparable(found, config.canary):
        return text
    return (
        f"{text}; the versions were not compared, because a comparison needs at least "
        f"{config.canary.min_requests:,} searches in each version"
    )
