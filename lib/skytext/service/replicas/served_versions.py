"""The versions that a search replica serves.

These are the live version, the canary, and earlier versions that cursors or requests name. In this
module, *a version* is a tuple with one version number per table.

While a new version is opened and warmed, the old version answers all requests. After that, new
requests use the new version. Requests that are already running finish in the old version.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence

from skytext.config.service import ServiceConfig
from skytext.errors import CallError, SkytextError, TableError
from skytext.search import Searcher
from skytext.service.failure_log import FailureLog
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
from skytext.table.store.state_files import new_holder
from skytext.table.versions.held_versions import HOLD_EVERY_S, hold_versions
from skytext.table.versions.promote_rollback import recent_versions

_log = logging.getLogger("skytext.service.replicas.served_versions")


class OtherModelError(TableError):
    """The version cannot be served.

    The embedding model of the version is not available. Or the tables of the version were embedded
    with different models.
    """


class Versions:
    """Opens versions of the tables, and keeps versions open while they are needed.

    Args:
        tables: the served tables.
        config: the settings of the service. This class uses the pinned version, the number of
            versions to keep open, and the size of the index cache.
        make_searcher: a function that creates and warms the searcher of a version. Its arguments
            are the opened tables, and the searchers of other open versions. It may use data that
            these searchers have already read.
        went_live: a function that is called with the searcher of each new live version.
        meter: the object that records the metrics.

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
        self._holder = new_holder()
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
        """Return the searcher of each open version that is live or was live, latest first."""
        open_ones = (self._held.get(version) for version in self._lately)
        return [one for one in open_ones if one is not None] or [self._live]

    def need(self, searcher: Searcher) -> None:
        """Keep a version open that was live before.

        This is necessary while some queries are still embedded with the model of that version.

        Args:
            searcher: the searcher of the version. If this is the live version, do nothing.
        """
        if searcher is not self._live:
            self._needed.add(searcher.versions)

    def refresh(self) -> bool:
        """Serve the promoted version. Return true if the served version has changed.

        This blocks while a new version is opened and warmed. If the new version cannot be opened,
        the old version stays live. The next call tries to open the new version again, because the
        store may recover. However, if the model of the new version is not available, later calls do
        not try to open this version again.

        A version with a new model may become live here before the embedding replicas have loaded
        the new model. The previous version stays open for queries that were embedded with the
        previous model.

        Several tables may have a new promoted version. If these versions cannot be served together,
        this method tries to serve only one of them, and keeps the current versions of the other
        tables.
        """
        if self._config.version is not None:
            return False
        with self._opening:
            return any(self._serve(version) for version in self._wanted())

    def _wanted(self) -> list[VersionOfEach]:
        """Return the versions that `refresh` must try to serve, in this order.

        The first version contains the promoted versions of all tables. Each later version contains
        the promoted version of only one table. The list is empty if there is no new promotion.
        """
        before = self._live.versions
        promoted = promoted_versions(self._live.tables, before)
        alone = [(*before[:i], one, *before[i + 1 :]) for i, one in enumerate(promoted)]
        wanted = dict.fromkeys((promoted, *alone))
        return [one for one in wanted if one != before and one not in self._refused]

    def _serve(self, live: VersionOfEach) -> bool:
        """Open a version and make it live. Return False if the version cannot be opened."""
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
        """Open and warm the canary, and return its searcher. Return None if no canary is running.

        The version of the canary stays open until the canary ends.

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
        """Make a version live. If the previous version has other models, keep that version open.

        A version that was live earlier also stays open if queries have used it since the last
        promotion.
        """
        before, self._live = self._live, searcher
        versions = (searcher.versions, *self._lately)
        self._kept_for_model, self._needed = self._needed, set()
        if _models(before.tables) != _models(searcher.tables):
            self._kept_for_model.add(before.versions)
        self._lately = tuple(dict.fromkeys(versions))

    def at(self, version: VersionOfEach) -> Searcher:
        """Return the searcher of a version that a request names.

        If the version is not open, but was recently live or a canary, open the version. This method
        blocks while this version or another version is being opened.

        Raises:
            CallError: the version does not contain one number for each table.
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
        # Accept only versions that were live or were a canary. A request with any other number must
        # not open a version and must not wait for the lock.
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
        """Record the versions that this replica holds, so that the clean-up does not delete them.

        The record is written after each change, and at least every ``HOLD_EVERY_S`` seconds.

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
        """Open a version. If a table is already open in the right version, use the open table."""
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
        steps: the functions to call. The key of a function is the warning that is logged if the
            function fails.
        interval_s: the time to wait after all functions were called, in seconds.
    """

    def __init__(self, steps: Mapping[str, Callable[[], object]], interval_s: float) -> None:
        super().__init__(name="follow-promotions", daemon=True)
        self._steps = steps
        self._interval_s = interval_s
        self._stopped = threading.Event()
        self._failures = FailureLog(_log)

    def run(self) -> None:
        """Call all functions periodically. If the store fails, log a warning and continue."""
        while True:
            for warning, step in self._steps.items():
                with self._failures.catch(warning):
                    step()
            if self._stopped.wait(self._interval_s):
                return

    def stop(self) -> None:
        """Stop the thread. Function calls that have begun are finished first."""
        self._stopped.set()


def _models(tables: Sequence[ImagesTable]) -> set[str]:
    """Return the fingerprints of the vector columns. Each model has its own fingerprint."""
    columns = (tables[0].text_column, common_image_column(tables))
    return {column.fingerprint for column in columns if column is not None}


def _gone(version: VersionOfEach) -> ProblemError:
    return ProblemError(
        410,
        "version-gone",
        f"version {version_token(version)} is no longer held by this service: search again "
        "without version and cursor",
    )
