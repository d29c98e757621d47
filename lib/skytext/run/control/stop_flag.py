"""The stop flag. The driver raises the flag to stop every stage of a run.

The flag is a small object in the store of the table, so every node can read the flag without an
actor. Readers and captioners check the flag every few seconds. After the flag is raised, they
finish the work that they have started, and start no new work.
"""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass, field

from skytext.errors import JobError
from skytext.table.location import TableLocation
from skytext.table.store.state_files import StateStore

_LOOK_EVERY_S = 2.0


@dataclass(slots=True)
class StopFlag:
    """The stop flag of a run. Each process has its own copy of this object and reads the store.

    Attributes:
        location: the table of the run.
        run_id: id of the run.
    """

    location: TableLocation
    run_id: str
    _is_raised: bool = field(default=False, init=False)
    _looked_at: float = field(default=float("-inf"), init=False)

    def raise_(self) -> None:
        """Raise the flag, so that every stage stops."""
        StateStore(self.location).put(self._path, b"")

    def lower(self) -> None:
        """Delete the flag. Call this method at the end of the run."""
        StateStore(self.location).delete([self._path])

    def is_raised(self) -> bool:
        """Return whether the run must stop.

        This method reads the store at most every two seconds.
        """
        now = time.monotonic()
        if not self._is_raised and now - self._looked_at >= _LOOK_EVERY_S:
            self._looked_at = now
            # A failed store request must not end the run. The next call sends a new request.
            with contextlib.suppress(JobError):
                self._is_raised = StateStore(self.location).get(self._path) is not None
        return self._is_raised

    @property
    def _path(self) -> str:
        return f"stop/{self.run_id}"
