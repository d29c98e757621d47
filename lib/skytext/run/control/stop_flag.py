"""The stop flag, with which the driver requests every stage of a run to stop.

The flag is a small object in the table's store, so every node can read it without an actor. Readers
and captioners check the flag every few seconds. They finish the work that they have started, and
start no new work.
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
    """The stop flag of a run. Each process has its own copy and reads the store itself.

    Attributes:
        location: the table of the run.
        run_id: the run.
    """

    location: TableLocation
    run_id: str
    _is_raised: bool = field(default=False, init=False)
    _looked_at: float = field(default=float("-inf"), init=False)

    def raise_(self) -> None:
        """Raise the flag, so that every stage stops."""
        StateStore(self.location).put(self._path, b"")

    def lower(self) -> None:
        """Remove the flag at the end of the run."""
        StateStore(self.location).delete([self._path])

    def is_raised(self) -> bool:
        """Return whether the run must stop. Reads the store at most every two seconds."""
        now = time.monotonic()
        if not self._is_raised and now - self._looked_at >= _LOOK_EVERY_S:
            self._looked_at = now
            # A failed request must not end the run. The next call sends a new request.
            with contextlib.suppress(JobError):
                self._is_raised = StateStore(self.location).get(self._path) is not None
        return self._is_raised

    @property
    def _path(self) -> str:
        return f"stop/{self.run_id}"
