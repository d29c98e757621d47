"""The stop flag: the driver asks every stage of a run to stop.

It is a small object beside the table, so it reaches every node without an actor. Readers and
captioners check it every few seconds. Work that has begun is finished; no new work begins.
"""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass, field

from skytext.errors import JobError
from skytext.table.location import TableLocation
from skytext.table.state_files import StateStore

_LOOK_EVERY_S = 2.0


@dataclass(slots=True)
class StopFlag:
    """Whether a run must stop. Each process with a copy checks for itself.

    Attributes:
        location: the table of the run.
        run_id: the run.
    """

    location: TableLocation
    run_id: str
    _is_raised: bool = field(default=False, init=False)
    _looked_at: float = field(default=float("-inf"), init=False)

    def raise_(self) -> None:
        """Tell every stage to stop."""
        StateStore(self.location).put(self._path, b"")

    def lower(self) -> None:
        """Remove the flag at the end of the run."""
        StateStore(self.location).delete([self._path])

    def is_raised(self) -> bool:
        """Return whether the run must stop. Reads the store at most every two seconds."""
        now = time.monotonic()
        if not self._is_raised and now - self._looked_at >= _LOOK_EVERY_S:
            self._looked_at = now
            # If a store request fails, it is repeated later. That is no reason to end the run.
            with contextlib.suppress(JobError):
                self._is_raised = StateStore(self.location).get(self._path) is not None
        return self._is_raised

    @property
    def _path(self) -> str:
        return f"stop/{self.run_id}"
