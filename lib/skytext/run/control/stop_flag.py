"""The word to stop, from the driver to every stage of a run.

A small object beside the table: it reaches every node without an actor of its own. Readers and
captioners look for it every few seconds; what has begun is finished, nothing more is.
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
    """Whether a run is to stop; each process that holds a copy looks for itself.

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
        """Take the word back: the run has ended."""
        StateStore(self.location).delete([self._path])

    def is_raised(self) -> bool:
        """Return whether the run is to stop; asks the store every other second at the most."""
        now = time.monotonic()
        if not self._is_raised and now - self._looked_at >= _LOOK_EVERY_S:
            self._looked_at = now
            # Where the store refuses, it is asked again later: that is no reason to end the run.
            with contextlib.suppress(JobError):
                self._is_raised = StateStore(self.location).get(self._path) is not None
        return self._is_raised

    @property
    def _path(self) -> str:
        return f"stop/{self.run_id}"
