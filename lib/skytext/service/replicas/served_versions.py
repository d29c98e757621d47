"""The versions that a search replica serves: the live version, and versions that cursors need.

In this module, *a version* is a tuple with one version of each table.

While a new version is opened and warmed, the old version answers requests. After that, new requests
use the new version. Requests that are already running finish in the old version.
"""

from __future__ import annotations

import logging
import socket
import threading
import time
import uuid
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence

from skytext.config.service import ServiceConfig
from skytext.errors import CallError, SkytextError, TableError
from skytext.search import Searcher
from skytext.service.problem_details import ProblemError
from skytext.service.served_tables import (
    TableSet,
    VersionOfEach,
    common_image_column,
    followed_canary,
    promoted_versions,
    version_token,
)
from skytext.service.telemetry.metrics import Meter
from skytext.table.images_dataset import ImagesTable, open_session
from skytext.table.versions.held_versions import HOLD_EVERY_S, hold_versions
from skytext.table.versions.promote_rollback import recent_versions

_log = logging.getLogger("skytext.service.replicas.served_versions")


class OtherModelError(TableError):
    """The version cannot be served: its model is not available, or its tables' models differ."""


class Versions:
    """Opens versions of the tables, and keeps versions open while they are needed.

    Args:
        tables: the served tables.
        config: the pinned version, and the number of versions to keep open.
        make_searcher: opens a version for searches and warms it. Its arguments are the tables, and
            the open searchers, whose data for the same tables it reuses.
        went_live: a function that is called with the searcher of each new live version.
        meter: receives the metrics.

    Raises:
        TableError: a table or the version does not exist.
    """

    def __init__(
        self,
        tables: TableSet,
        config: ServiceConfig,
        make_searcher: Callable[[Sequence[ImagesTable], Iterable[Searcher]], Searcher],
        meter: Meter,
        went_live: Callable[[Searcher], None],
    ) -> None:
        self._tables = tables
        self._config = config
        self._make_searcher = make_searcher
        self._meter = meter
        self._went_live = went_live
        self._session = open_session(config.index_cache_bytes)
        self._kept_for_model: set[VersionOfEach] = set()
        self._needed: set[VersionOfEach] = set()
        self._held: OrderedDict[VersionOfEach, Searcher] = OrderedDict()
        self._opening = threading.Lock()
        self._refused: set[VersionOfEach] = set()
        self._canary: VersionOfEach | None = None
        self._logged_errors: dict[VersionOfEach, str] = {}
        self._holder = f"{socket.gethostname()}-{uuid.uuid4().hex[:12]}"
        self._held_before: set[VersionOfEach] = set()
        self._write_held_at = 0.0
        served = tables.open_served(config.version)
        self._live = self._open(tuple(table.version for table in served))
        self._lately: tuple[VersionOfEach, ...] = (self._live.versions,)
        self._hold(self._live)
        went_live(self._live)

    @property
    def live(self) -> Searcher:
        """The searcher of the live version."""
        return self._live

    @property
    def canary_version(self) -> int | None:
        """The version of the running canary, or None if no canary runs."""
        return None if self._canary is None else self._canary[0]

    def lately_live(self) -> list[Searcher]:
        """Return the searchers of open versions that are or were live, latest first."""
        open_ones = (self._held.get(version) for version in self._lately)
        return [one for one in open_ones if one is not None] or [self._live]

    def need(self, searcher: Searcher) -> None:
        """Keep a formerly live version open, because its model still embeds some queries."""
        if searcher is not self._live:
            self._needed.add(searcher.versions)

    def refresh(self) -> bool:
        """Serve the promoted version, and return whether the served version changed.

        This blocks while a new version is opened and warmed. If the new version cannot be opened,
        the old version stays live. The next call tries again, because the store may recover. If the
        version's model is not available, later calls do not try again.

        A version with a new model becomes live here before the embedding replicas load that model.
        The previous version stays open for queries that were embedded with its model.

        If the promoted versions of all tables cannot be served together, this tries to serve the
        promoted version of one table with the current versions of the other tables.
        """
        if self._config.version is not None:
            return False
        with self._opening:
            return any(self._serve(version) for version in self._wanted())

    def _wanted(self) -> list[VersionOfEach]:
        """Return the versions to try: all promotions together, then each promotion alone.

        The list is empty if the live version is the promoted version.
        """
        before = self._live.versions
        promoted = promoted_versions(self._live.tables, before)
        alone = [(*before[:i], one, *before[i + 1 :]) for i, one in enumerate(promoted)]
        wanted = dict.fromkeys((promoted, *alone))
        return [one for one in wanted if one != before and one not in self._refused]

    def _serve(self, live: VersionOfEach) -> bool:
        """Make a version live. Return False if the version cannot be opened."""
        started = time.perf_counter()
        try:
            searcher = self._held.get(live) or self._open(live)
        except (SkytextError, OSError, ValueError) as error:
            self._note_failure(live, error)
            return False
        before = self._live.versions
        self._follow(searcher)
        self._refused, self._logged_errors = set(), {}
        self._hold(searcher)
        self._went_live(searcher)
        seconds = time.perf_counter() - started
        self._meter.count("skytext_swaps_total", ok="true")
        self._meter.observe("skytext_swap_seconds", seconds)
        fields = {"version": version_token(live), "before": version_token(before)}
        _log.info("a new version is live", extra={**fields, "warmed_s": round(seconds, 3)})
        return True

    def open_canary(self) -> Searcher | None:
        """Open, warm and return the canary, or return None if no canary runs.

        The canary stays open while it runs.

        Raises:
            SkytextError: the version cannot be opened, or a store request failed.
        """
        self._canary = followed_canary(self._live.tables, self._config.version)
        if self._canary is None:
            return None
        with self._opening:
            held = self.held(self._canary)
            if held is None:
                held = self._open(self._canary)
                self._hold(held)
        return held

    def _follow(self, searcher: Searcher) -> None:
        """Make a version live. Keep the previous version open if its models are different.

        Older versions also stay open if queries have used them since the last promotion.
        """
        before, self._live = self._live, searcher
        versions = (searcher.versions, *self._lately)
        self._kept_for_model, self._needed = self._needed, set()
        if _models(before.tables) != _models(searcher.tables):
            self._kept_for_model.add(before.versions)
        self._lately = tuple(dict.fromkeys(versions))

    def at(self, version: VersionOfEach) -> Searcher:
        """Return a version that a request names. Open it if it was live recently.

        This blocks while this version or another version is being opened.

        Raises:
            CallError: the version does not have one number for each table.
            ProblemError: 410: the service no longer holds the version.
        """
        num_tables = len(self._tables.locations)
        if len(version) != num_tables:
            raise CallError(
                f"version must have one number for each of {num_tables} tables: send the "
                f"table_version of an earlier response unchanged (given: {version_token(version)})"
            )
        held = self.held(version)
        if held is not None:
            return held
        # Accept only versions that were live or a canary. A request with an invented number must
        # not open a version or wait for the lock.
        for location, one in zip(self._tables.locations, version, strict=True):
            if one not in recent_versions(location, self._config.held_versions):
                raise _gone(version)
        with self._opening:
            held = self.held(version)
            if held is not None:
                return held
            try:
                searcher = self._open(version)
            except TableError as error:
                raise _gone(version) from error
            self._hold(searcher)
            return searcher

    def record_held(self) -> None:
        """Record which versions are in use, so that the clean-up does not delete them.

        The record is written after each change, and at least every ten minutes.

        Raises:
            JobError: a store request failed.
        """
        held, now = set(self._held), time.monotonic()
        if held != self._held_before or now >= self._write_held_at:
            for place, location in enumerate(self._tables.locations):
                hold_versions(location, self._holder, {version[place] for version in held})
            self._held_before, self._write_held_at = held, now + HOLD_EVERY_S

    def held(self, version: VersionOfEach) -> Searcher | None:
        """Return the searcher of a version if the version is open, else None."""
        return self._held.get(version)

    def _note_failure(self, version: VersionOfEach, error: Exception) -> None:
        if isinstance(error, OtherModelError):
            self._refused.add(version)
        self._meter.count("skytext_swaps_total", ok="false")
        if self._logged_errors.get(version) != str(error):  # log an error once, not at every poll
            _log.error(
                "the promoted version cannot be served",
                extra={
                    "version": version_token(version),
                    "serving": version_token(self._live.versions),
                    "error": str(error),
                },
            )
        self._logged_errors[version] = str(error)

    def _open(self, version: VersionOfEach) -> Searcher:
        """Open a version, and reuse tables that are already open in the same version."""
        opened = tuple(self._held.values())
        known = {
            (place, table.version): table
            for searcher in opened
            for place, table in enumerate(searcher.tables)
        }
        tables = [
            known.get((place, one)) or ImagesTable.open(location, one, self._session)
            for place, (location, one) in enumerate(
                zip(self._tables.locations, version, strict=True)
            )
        ]
        return self._make_searcher(tables, opened)

    def _hold(self, searcher: Searcher) -> None:
        version = searcher.versions
        self._held[version] = searcher
        self._held.move_to_end(version)
        self._held.move_to_end(self._live.versions)
        needed = {self._live.versions, self._canary} | self._kept_for_model | self._needed
        spare = [one for one in self._held if one not in needed and one != version]
        for one in spare[: max(0, len(self._held) - self._config.held_versions)]:
            del self._held[one]
        self._lately = tuple(one for one in self._lately if one in self._held)
        for table, number in zip(self._tables.names, self._live.versions, strict=True):
            self._meter.gauge("skytext_table_version", number, table=table)


class Follower(threading.Thread):
    """A thread that calls functions periodically until it is stopped.

    Args:
        steps: the functions. The key of each function is the warning to log if it fails.
        interval_s: the time between calls, in seconds.
    """

    def __init__(self, steps: Mapping[str, Callable[[], object]], interval_s: float) -> None:
        super().__init__(name="follow-promotions", daemon=True)
        self._steps = steps
        self._interval_s = interval_s
        self._stopped = threading.Event()
        self._failing: set[str] = set()

    def run(self) -> None:
        """Call the steps periodically, and continue after store errors."""
        while True:
            for warning, step in self._steps.items():
                self._try(warning, step)
            if self._stopped.wait(self._interval_s):
                return

    def _try(self, warning: str, call: Callable[[], object]) -> None:
        """Call a step. If it fails several times in a row, log only the first failure."""
        try:
            call()
            self._failing.discard(warning)
        except (SkytextError, OSError, ValueError) as error:
            if warning not in self._failing:
                _log.warning(warning, extra={"error": str(error)})
            self._failing.add(warning)

    def stop(self) -> None:
        """Stop the thread after the current step."""
        self._stopped.set()


def _models(tables: Sequence[ImagesTable]) -> set[str]:
    """Return the fingerprints of the models that embed queries for a version."""
    columns = (tables[0].text_column, common_image_column(tables))
    return {column.fingerprint for column in columns if column is not None}


def _gone(version: VersionOfEach) -> ProblemError:
    return ProblemError(
        410,
        "version-gone",
        f"version {version_token(version)} is no longer held by this service: search again "
        "without version and cursor",
    )
