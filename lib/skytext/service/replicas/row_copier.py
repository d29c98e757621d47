"""Copy the rows of the live version to a disk of this machine, in the background."""

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
    """Copies the rows of the live version to a local disk.

    Until the copy is complete, searches read the rows from the table. If a copy fails, this thread
    logs and counts the failure, and tries again later.

    Args:
        folder: a folder on a local disk. Several replicas may use the same folder.
        meter: the object that counts complete and failed copies.
    """

    def __init__(self, folder: Path, meter: Meter) -> None:
        super().__init__(name="copy-rows", daemon=True)
        self._folder = folder
        self._meter = meter
        self._changed = threading.Event()
        self._wanted: Searcher | None = None

    def want(self, searcher: Searcher) -> None:
        """Request a copy of the rows of a version. If a copy of another version runs, stop it.

        Args:
            searcher: the searcher of the version to copy.
        """
        self._wanted = searcher
        self._changed.set()

    def run(self) -> None:
        """Copy the rows of each requested version until the process ends."""
        wait_s = None
        while True:
            self._changed.wait(wait_s)
            self._changed.clear()
            searcher = self._wanted
            is_done = searcher is None or searcher.rows_are_copied or self._copied(searcher)
            wait_s = None if is_done else _AGAIN_AFTER_S

    def _copied(self, searcher: Searcher) -> bool:
        """Copy the rows of a version, and return whether the copy is complete."""
        started = time.perf_counter()
        version = version_token(searcher.versions)
        try:
            if not searcher.copy_rows(self._folder, lambda: self._wanted is searcher):
                return False
        except Exception as error:  # noqa: BLE001  (an error must not end the thread)
            self._meter.count("skytext_row_copies_total", ok="false")
            _log.error(
                "the rows cannot be copied to the local disk, so searches read them from the table",
                extra={"version": version, "error": str(error)},
            )
            return False
        seconds = time.perf_counter() - started
        self._meter.count("skytext_row_copies_total", ok="true")
        _log.info(
            "the rows were copied to the local disk",
            extra={"version": version, "copied_s": round(seconds, 3)},
        )
        return True
