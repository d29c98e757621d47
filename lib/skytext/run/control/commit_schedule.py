"""Decide when staged units are committed, and end a run in good order, early or not."""

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

    A commit is due after so many images, or so many seconds after the last one. The clock is
    watched by a thread: a run in which no unit arrives any more commits what it has all the same.

    Args:
        commit: makes the units of these names, and so many images, visible.
        commit_images: images after which it is time.
        commit_interval_s: seconds after which it is time, whichever is first.
        groups: images of each group of units that is committed as a whole. A unit of no group
            waits for no other.
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
        # One commit at a time; whoever adds a unit meanwhile waits for it.
        self._lock = threading.RLock()

    def add(
        self, unit_id: str | None, num_images: int, group: str = "", num_settled: int = 0
    ) -> None:
        """Take a unit in, and commit where it is time.

        Args:
            unit_id: None for a unit that staged nothing.
            num_images: that it staged.
            group: that it is part of.
            num_settled: images of the group that wait for nothing any more.
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
        """Commit what is pending."""
        with self._lock:
            self._last_commit = time.monotonic()
            if not self._unit_ids:
                return
            unit_ids, num_images = self._unit_ids, self._num_images
            self._unit_ids, self._num_images = [], 0
            self._commit(unit_ids, num_images)

    def finish(self) -> None:
        """Commit what is pending, and groups that are not complete."""
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
        """Run a thread that commits each time the interval is over, until the block ends.

        Args:
            on_error: is given what a commit raised, in that thread; no other commit follows.
        """

        def commit_if_due(ended: threading.Event) -> bool:
            try:
                with self._lock:
                    if not ended.is_set() and self._seconds_left() <= 0:
                        self.commit()
            # The thread hands every error to the run, which ends with it: see `Stopping.fail`.
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
        with pending.committing_in_time(stopping.fail):
            for record in records:
                stopping.check()
                stopping.progressed()
                take(record)
    except BaseException as error:
        stopping.settle()
        # The cluster or the store may be what failed: then the records wait for the next run.
        with contextlib.suppress(JobError):
            pending.finish()
        # Out of time, or asked twice: what was in flight is given up.
        if not (isinstance(error, KeyboardInterrupt) and stopping.is_asked):
            raise
        return 0.0
    else:
        stopping.settle()
        started = time.monotonic()
        pending.finish()
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
