"""Commit staged units at the right times, and end a run without losing finished work."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TypeVar

from skytext.errors import InterruptedRunError, JobError
from skytext.run.control.interruption import Stopping
from skytext.run.control.stop_flag import StopFlag
from skytext.run.control.watcher import watching

Record = TypeVar("Record")

_SHORTEST_WAIT_S = 0.1


class Pending:
    """The units that are staged and not yet committed.

    A commit is due when ``commit_images`` images are staged, or when ``commit_interval_s`` seconds
    have passed since the last commit. A thread checks the time, so a commit also happens if no more
    units arrive.

    Args:
        commit: a function that commits units. It receives the ids of the units, and the number of
            images in these units.
        commit_images: a commit is due when this number of images is staged.
        commit_interval_s: a commit is due when this number of seconds has passed since the last
            commit.
        groups: number of images in each group. The units of a group are committed together. A unit
            without a group is committed independently.
    """

    def __init__(
        self,
        commit: Callable[[Sequence[str], int], None],
        commit_images: int,
        commit_interval_s: float,
        groups: Mapping[str, int] | None = None,
    ) -> None:
        self._commit = commit
        self._num_left = dict(groups or {})
        self._held: dict[str, list[tuple[str, int]]] = {}
        self._commit_images = commit_images
        self._commit_interval_s = commit_interval_s
        self._unit_ids: list[str] = []
        self._num_images = 0
        self._last_commit = time.monotonic()
        # The lock allows one commit at a time. While a commit runs, `add` waits.
        self._lock = threading.RLock()

    def add(
        self, unit_id: str | None, num_images: int, group: str = "", num_settled: int = 0
    ) -> None:
        """Add a unit. If a commit is due, commit the pending units.

        Args:
            unit_id: id of the unit; None if nothing was staged for the unit.
            num_images: number of staged images in the unit.
            group: name of the unit's group; empty if the unit has no group.
            num_settled: number of images of the group that this unit finishes. Each of these images
                is staged or failed.
        """
        with self._lock:
            if unit_id is not None:
                self._held.setdefault(group, []).append((unit_id, num_images))
            self._num_left[group] = self._num_left.get(group, 0) - num_settled
            if self._num_left[group] <= 0:
                self._release(group)
            if self._num_images >= self._commit_images or self._seconds_left() <= 0:
                self.commit()

    def commit(self) -> None:
        """Commit the pending units."""
        with self._lock:
            self._last_commit = time.monotonic()
            if not self._unit_ids:
                return
            unit_ids, num_images = self._unit_ids, self._num_images
            self._unit_ids, self._num_images = [], 0
            self._commit(unit_ids, num_images)

    def finish(self) -> None:
        """Commit all pending units. Units of incomplete groups are also committed."""
        with self._lock:
            for group in list(self._held):
                self._release(group)
            self.commit()

    def _release(self, group: str) -> None:
        for unit_id, num_images in self._held.pop(group, []):
            self._unit_ids.append(unit_id)
            self._num_images += num_images

    @contextlib.contextmanager
    def committing_in_time(self, on_error: Callable[[BaseException], None]) -> Iterator[None]:
        """Run a thread during the block. The thread commits whenever a commit is due.

        Args:
            on_error: receives the error if a commit in the thread fails. The thread calls this
                function, and makes no further commit.
        """

        def commit_if_due(ended: threading.Event) -> bool:
            try:
                with self._lock:
                    if not ended.is_set() and self._seconds_left() <= 0:
                        self.commit()
            # Pass every error to the run. The error then ends the run; see `Stopping.fail`.
            except BaseException as error:  # noqa: BLE001
                on_error(error)
                return False
            return True

        def wait_s() -> float:
            return max(self._seconds_left(), _SHORTEST_WAIT_S)

        with watching("skytext-commit", wait_s, commit_if_due):
            yield

    def _seconds_left(self) -> float:
        return self._last_commit + self._commit_interval_s - time.monotonic()


def commit_as_staged(
    records: Iterator[Record],
    take: Callable[[Record], None],
    pending: Pending,
    stop: StopFlag,
    stopping: Stopping,
) -> float:
    """Process the records of all units, and commit the units.

    Args:
        records: records of units, in the order in which the units were staged.
        take: a function that counts a record and adds the unit of the record to ``pending``.
        pending: the staged units that are not committed yet.
        stop: the stop flag of the run. This function raises the flag if the run receives a request
            to stop.
        stopping: the object that receives the requests to stop. After such a request, this function
            returns before all records are processed.

    Returns:
        The duration of the last commit in seconds.
    """
    stopping.drain_by(stop.raise_)
    try:
        with pending.committing_in_time(stopping.fail):
            for record in records:
                stopping.check()
                stopping.progressed()
                take(record)
    except BaseException as error:
        stopping.settle()
        # If the cluster or the store has failed, this commit may also fail. In this case, the next
        # run commits the staged units.
        with contextlib.suppress(JobError):
            pending.finish()
        # After a request to stop, KeyboardInterrupt means that the time limit has expired or that a
        # second signal has arrived. The units in progress are then not finished.
        if not (isinstance(error, KeyboardInterrupt) and stopping.is_requested):
            raise
        return 0.0
    else:
        stopping.settle()
        started = time.monotonic()
        pending.finish()
        return time.monotonic() - started
    finally:
        if stopping.is_requested:
            stop.lower()


def check_not_stopped(stopping: Stopping, what: str) -> None:
    """Raise an error if the run received a request to stop.

    Args:
        stopping: the object that receives the requests to stop.
        what: description of the committed work for the error message, such as ``12 images``.

    Raises:
        InterruptedRunError: the run received a request to stop.
    """
    if stopping.is_requested:
        is_leaving = stopping.is_node_leaving
        why = "because the cluster removes this node" if is_leaving else "on request"
        raise InterruptedRunError(
            f"the run was stopped {why}. {what} of this run are committed. To continue, run the "
            "same command again"
        )
