"""Copy rows of the live version to this machine's disk while searches run."""

from __future__ import annotations

import logging
import threading
import time
from pathlib import Path

from skytext.search import Searcher
from skytext.service.served_tables import version_token
from skytext.service.telemetry.metrics import Meter

_log = logging.getLogger("skytext.service.replicas.row_copier")
_AGAIN_AFTER_S = 60.0


class RowCopier(threading.Thread):
    """Gives the live version a local copy of its rows; until then, rows come from the table.

    A failed copy is logged, counted and repeated.

    Args:
        folder: on a local disk; replicas may share it.
        meter: receives the metrics.
    """

    def __init__(self, folder: Path, meter: Meter) -> None:
        super().__init__(name="copy-rows", daemon=True)
        self._folder = folder
        self._meter = meter
        self._changed = threading.Event()
        self._wanted: Searcher | None = None

    def want(self, searcher: Searcher) -> None:
        """Copy the rows of this version; stop the copy of any other version."""
        self._wanted = searcher
        self._changed.set()

    def run(self) -> None:
        """Copy the wanted version, until the process ends."""
        wait_s = None
        while True:
            self._changed.wait(wait_s)
            self._changed.clear()
            searcher = self._wanted
            is_done = searcher is None or searcher.rows_are_copied or self._copied(searcher)
            wait_s = None if is_done else _AGAIN_AFTER_S

    def _copied(self, searcher: Searcher) -> bool:
        """Copy the rows of a version; return whether the copy is complete."""
        started = time.perf_counter()
        version = version_token(searcher.versions)
        try:
            if not searcher.copy_rows(self._folder, lambda: self._wanted is searcher):
                return False
        except Exception as error:  # noqa: BLE001  (a thread that ended would never try again)
            self._meter.count("skytext_row_copies_total", ok="false")
            _log.error("rows cannot be copied", extra={"version": version, "error": str(error)})
            return False
        seconds = time.perf_counter() - started
        self._meter.count("skytext_row_copies_total", ok="true")
        _log.info("rows are copied", extra={"version": version, "copied_s": round(seconds, 3)})
        return True
