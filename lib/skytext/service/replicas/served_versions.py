"""The versions of a table in a search replica: the live one, and a few that cursors still need.

A new version is opened and warmed while the old one answers. New requests then use the new version,
and running requests finish on the old one.
"""

from __future__ import annotations

import logging
import socket
import threading
import time
import uuid
from collections import OrderedDict
from collections.abc import Callable, Mapping

from skytext.config.service import ServiceConfig
from skytext.errors import SkytextError, TableError
from skytext.search import Searcher
from skytext.service.problem_details import ProblemError
from skytext.service.telemetry.metrics import Meter
from skytext.table.held_versions import HOLD_EVERY_S, hold_versions
from skytext.table.images_dataset import ImagesTable, open_session
from skytext.table.location import TableLocation
from skytext.table.promote_rollback import recent_versions

_log = logging.getLogger("skytext.service.replicas.served_versions")


class OtherModelError(TableError):
    """A version whose model is missing or has changed: it can never be served."""


class Versions:
    """Opens versions of one table, and keeps those that are needed.

    Args:
        location: the table.
        config: the served version, and the number of held versions.
        make_searcher: opens a version for searches and warms it.
        went_live: called with the version that new requests use.
        meter: receives the metrics.

    Raises:
        TableError: no such table or version.
    """

    def __init__(
        self,
        location: TableLocation,
        config: ServiceConfig,
        make_searcher: Callable[[ImagesTable], Searcher],
        meter: Meter,
        went_live: Callable[[Searcher], None],
    ) -> None:
        self._location = location
        self._config = config
        self._make_searcher = make_searcher
        self._meter = meter
        self._went_live = went_live
        self._session = open_session(config.index_cache_bytes)
        self._kept_for_model: set[int] = set()
        self._needed: set[int] = set()
        self._held: OrderedDict[int, Searcher] = OrderedDict()
        self._opening = threading.Lock()
        self._refused: int | None = None
        self._canary: int | None = None
        self._said: tuple[int, str] | None = None
        self._holder = f"{socket.gethostname()}-{uuid.uuid4().hex[:12]}"
        self._held_said: set[int] = set()
        self._say_held_at = 0.0
        self._live = self._open(self._served_version())
        self._lately: tuple[int, ...] = (self._live.table.version,)
        self._hold(self._live)
        went_live(self._live)

    @property
    def live(self) -> Searcher:
        """The version that was promoted last."""
        return self._live

    @property
    def canary_version(self) -> int | None:
        """The version that answers a share of the searches, or None."""
        return self._canary

    def lately_live(self) -> list[Searcher]:
        """Return the open versions that were live lately, the live one first."""
        open_ones = (self._held.get(version) for version in self._lately)
        return [one for one in open_ones if one is not None] or [self._live]

    def need(self, searcher: Searcher) -> None:
        """Keep a version open that is not live, because its model still embeds some queries."""
        if searcher is not self._live:
            self._needed.add(searcher.table.version)

    def refresh(self) -> bool:
        """Follow a promotion or roll-back; return whether there was one.

        Blocks while a new version is opened and warmed. If that fails, the old version stays, and
        the next call tries again, because a store may recover. Only a version whose model has
        changed since it was embedded is given up. A version of another model becomes live here
        before that model is loaded; the version before stays open for queries of its model.
        """
        if self._config.version is not None:
            return False
        with self._opening:
            live = self._live.table.live_version()
            if live is None or live in (self._live.table.version, self._refused):
                return False
            started = time.perf_counter()
            try:
                searcher = self._held.get(live) or self._open(live)
            except (SkytextError, OSError, ValueError) as error:
                self._note_failure(live, error)
                return False
            before = self._live.table.version
            self._follow(searcher)
            self._refused = self._said = None
            self._hold(searcher)
            self._went_live(searcher)
            seconds = time.perf_counter() - started
            self._meter.count("skytext_swaps_total", ok="true")
            self._meter.observe("skytext_swap_seconds", seconds)
            _log.info(
                "another version is live",
                extra={"version": live, "before": before, "warmed_s": round(seconds, 3)},
            )
            return True

    def open_canary(self) -> Searcher | None:
        """Open and warm the canary, and keep it while it runs; return it, or None.

        Raises:
            SkytextError: it cannot be opened, or its store does not answer.
        """
        if self._config.version is not None:
            return None
        self._canary = self._live.table.canary_version()
        if self._canary is None:
            return None
        with self._opening:
            held = self.held(self._canary)
            if held is None:
                held = self._open(self._canary)
                self._hold(held)
        return held

    def _follow(self, searcher: Searcher) -> None:
        """Make a version live; keep the one before if it has other models.

        Earlier versions that queries have used since the last promotion stay open, too.
        """
        before, self._live = self._live, searcher
        versions = (searcher.table.version, *self._lately)
        self._kept_for_model, self._needed = self._needed, set()
        if not _same_models(before.table, searcher.table):
            self._kept_for_model.add(before.table.version)
        self._lately = tuple(dict.fromkeys(versions))

    def at(self, version: int) -> Searcher:
        """Return a version from a request; opens it if it was live a short time ago.

        Blocks while it is opened, and while another version is opened.

        Raises:
            ProblemError: 410: it is no longer held.
        """
        held = self.held(version)
        if held is not None:
            return held
        # Open only versions that were live: an invented number must not cost anything.
        if version not in recent_versions(self._location, self._config.held_versions):
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

    def say_held(self) -> None:
        """Record the versions in use for the clean-up, every ten minutes and after a change.

        Raises:
            JobError: the store refuses.
        """
        held, now = set(self._held), time.monotonic()
        if held != self._held_said or now >= self._say_held_at:
            hold_versions(self._location, self._holder, held)
            self._held_said, self._say_held_at = held, now + HOLD_EVERY_S

    def held(self, version: int) -> Searcher | None:
        """Return a version if it is open."""
        return self._held.get(version)

    def _note_failure(self, version: int, error: Exception) -> None:
        if isinstance(error, OtherModelError):
            self._refused = version
        self._meter.count("skytext_swaps_total", ok="false")
        said = version, str(error)
        if said != self._said:  # log once, not at every poll
            _log.error(
                "the promoted version cannot be served",
                extra={
                    "version": version,
                    "serving": self._live.table.version,
                    "error": str(error),
                },
            )
        self._said = said

    def _served_version(self) -> int | None:
        if self._config.version is not None:
            return self._config.version
        return ImagesTable.open_served(self._location).version

    def _open(self, version: int | None) -> Searcher:
        return self._make_searcher(ImagesTable.open(self._location, version, self._session))

    def _hold(self, searcher: Searcher) -> None:
        version = searcher.table.version
        self._held[version] = searcher
        self._held.move_to_end(version)
        self._held.move_to_end(self._live.table.version)
        needed = {self._live.table.version, self._canary} | self._kept_for_model | self._needed
        spare = [one for one in self._held if one not in needed and one != version]
        for one in spare[: max(0, len(self._held) - self._config.held_versions)]:
            del self._held[one]
        self._lately = tuple(one for one in self._lately if one in self._held)
        self._meter.gauge("skytext_table_version", self._live.table.version)


class Follower(threading.Thread):
    """Follows promotions until it is stopped.

    Args:
        steps: the functions to call repeatedly, by the warning for their failure.
        interval_s: seconds between calls.
    """

    def __init__(self, steps: Mapping[str, Callable[[], object]], interval_s: float) -> None:
        super().__init__(name="follow-promotions", daemon=True)
        self._steps = steps
        self._interval_s = interval_s
        self._stopped = threading.Event()
        self._failing: set[str] = set()

    def run(self) -> None:
        """Call the steps repeatedly; continue after store errors."""
        while True:
            for warning, step in self._steps.items():
                self._try(warning, step)
            if self._stopped.wait(self._interval_s):
                return

    def _try(self, warning: str, call: Callable[[], object]) -> None:
        """Call a step; log only the first of several failures in a row."""
        try:
            call()
            self._failing.discard(warning)
        except (SkytextError, OSError, ValueError) as error:
            if warning not in self._failing:
                _log.warning(warning, extra={"error": str(error)})
            self._failing.add(warning)

    def stop(self) -> None:
        """End at once."""
        self._stopped.set()


def _same_models(one: ImagesTable, other: ImagesTable) -> bool:
    """Return whether queries that are embedded for one version also fit the other."""
    fits = [
        {column.fingerprint for column in (table.text_column, table.image_column) if column}
        for table in (one, other)
    ]
    return fits[0] == fits[1]


def _gone(version: int) -> ProblemError:
    return ProblemError(
        410,
        "version-gone",
        f"version {version} is no longer held: search again without naming it, or "
        "without the cursor",
    )
