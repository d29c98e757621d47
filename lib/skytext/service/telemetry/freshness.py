"""Measure periodically how far searches are behind the table."""

from __future__ import annotations

import datetime as dt
import logging
import threading

from skytext.errors import SkytextError
from skytext.service.telemetry.metrics import Meter
from skytext.table.freshness import Freshness, measure_freshness
from skytext.table.location import TableLocation

_log = logging.getLogger(__name__)


class FreshnessGauges(threading.Thread):
    """Measures until the process ends."""

    def __init__(self, location: TableLocation, meter: Meter, interval_s: float) -> None:
        super().__init__(name="measure-freshness", daemon=True)
        self._location = location
        self._meter = meter
        self._interval_s = interval_s
        self._stopped = threading.Event()
        self._is_failing = False

    def run(self) -> None:
        """Measure periodically; continue after store errors."""
        while True:
            try:
                self.measure()
                self._is_failing = False
            except (SkytextError, OSError, ValueError) as error:
                if not self._is_failing:
                    _log.warning("cannot measure the freshness", extra={"error": str(error)})
                self._is_failing = True
            if self._stopped.wait(self._interval_s):
                return

    def measure(self) -> None:
        """Measure once.

        Raises: as `measure_freshness`.
        """
        found = measure_freshness(self._location)
        for name, value in _gauges(found).items():
            self._meter.gauge(f"skytext_{name}", value)

    def stop(self) -> None:
        """End at once."""
        self._stopped.set()


def _gauges(found: Freshness) -> dict[str, float]:
    since, success = found.unsearchable_since, found.last_success
    age = 0.0 if since is None else (dt.datetime.now(dt.UTC) - since).total_seconds()
    return {
        "oldest_unsearchable_seconds": max(age, 0.0),
        "uncovered_rows": float(found.num_uncovered),
        "index_segments": float(found.num_segments),
        "table_versions": float(found.num_versions),
        "table_bytes": float(found.num_bytes),
        "reindex_success_timestamp_seconds": 0.0 if success is None else success.timestamp(),
    }
