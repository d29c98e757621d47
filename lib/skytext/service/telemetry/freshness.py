"""Periodically measure the freshness of each table.

Freshness is the age of the oldest image that is captioned but that searches cannot find yet.
"""

from __future__ import annotations

import datetime as dt
import logging
import threading

from skytext.service.failure_log import FailureLog
from skytext.service.served_tables import TableSet
from skytext.service.telemetry.metrics import Meter
from skytext.table.freshness import Freshness, measure_freshness

_log = logging.getLogger(__name__)


class FreshnessGauges(threading.Thread):
    """A thread that measures the freshness of each table until it is stopped."""

    def __init__(self, tables: TableSet, meter: Meter, interval_s: float) -> None:
        super().__init__(name="measure-freshness", daemon=True)
        self._tables = tables
        self._meter = meter
        self._interval_s = interval_s
        self._stopped = threading.Event()
        self._failures = FailureLog(_log)

    def run(self) -> None:
        """Measure all tables periodically. If the store fails, log a warning and continue."""
        while True:
            for name in self._tables.names:
                with self._failures.catch("cannot measure the freshness of a table", table=name):
                    self.measure(name)
            if self._stopped.wait(self._interval_s):
                return

    def measure(self, table: str) -> None:
        """Measure the freshness of a table once, and set the gauges of the table.

        Args:
            table: the name of the table.

        Raises:
            SkytextError: for the same reasons as in `measure_freshness`.
        """
        found = measure_freshness(self._tables.locations[self._tables.place(table)])
        for name, value in _gauges(found).items():
            self._meter.gauge(f"skytext_{name}", value, table=table)

    def stop(self) -> None:
        """Stop the thread after the current measurement."""
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
