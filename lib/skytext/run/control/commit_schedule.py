"""Commit what a job stages, group by group, and end in good order, early or not."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

from skytext.errors import InterruptedRunError, JobError
from skytext.run.control.stop_flag import StopFlag
from skytext.run.control.stopping import Stopping

Record = TypeVar("Record")


class Pending:
    """The units that are staged and not yet committed.

    Args:
        commit: makes the units of these names, and so many images, visible.
        commit_images: images after which it is time.
        commit_interval_s: seconds after which it is time, whichever is first.
    """

    def __init__(
        self,
        commit: Callable[[Sequence[str], int], None],
        commit_images: int,
        commit_interval_s: float,
    ) -> None:
        self._commit = commit
        self._commit_images = commit_images
        self._commit_interval_s = commit_interval_s
        self._unit_ids: list[str] = []
        self._num_images = 0
        self._last_commit = time.monotonic()

    def add(self, unit_id: str | None, num_images: int) -> None:
        """Take a unit in (None for one that staged nothing), and commit where it is time."""
        if unit_id is not None:
            self._unit_ids.append(unit_id)
            self._num_images += num_images
        due = time.monotonic() - self._last_commit >= self._commit_interval_s
        if self._num_images >= self._commit_images or due:
            self.commit()

    def commit(self) -> None:
        """Commit what is pending."""
        self._last_commit = time.monotonic()
        if not self._unit_ids:
            return
        unit_ids, num_images = self._unit_ids, self._num_images
        self._unit_ids, self._num_images = [], 0
        self._commit(unit_ids, num_images)


def commit_as_staged(
    records: Iterator[Record],
    take: Callable[[Record], None],
    pending: Pending,
    stop: StopFlag,
    stopping: Stopping,
) -> float:
    """Take every record; return the seconds of the last commit, after which nothing is in flight.

    Args:
        records: of units, as they are staged.
        take: counts one and adds it to ``pending``.
        pending: is empty at the end.
        stop: raised once ``stopping`` is asked for the end.
        stopping: watches over the run. Where it was asked, this returns early.
    """
    stopping.drain_by(stop.raise_)
    try:
        for record in records:
            stopping.progressed()
            take(record)
    except BaseException as error:
        stopping.settle()
        # The cluster or the store may be what failed: then the records wait for the next run.
        with contextlib.suppress(JobError):
            pending.commit()
        # Out of time, or asked twice: what was in flight is given up.
        if not (isinstance(error, KeyboardInterrupt) and stopping.is_asked):
            raise
        return 0.0
    else:
        stopping.settle()
        started = time.monotonic()
        pending.commit()
        return time.monotonic() - started
    finally:
        if stopping.is_asked:
            stop.lower()


def check_not_stopped(stopping: Stopping, what: str) -> None:
    """End a run that was asked to end.

    Args:
        stopping: watched over the run.
        what: it has committed, for people.

    Raises:
        InterruptedRunError: it was asked.
    """
    if stopping.is_asked:
        why = "the cluster takes this node away" if stopping.is_node_leaving else "stopped as asked"
        raise InterruptedRunError(
            f"{why}; {what} of this run are committed: run the same command again to go on"
        )
