"""End a run early: on a signal, on a cluster's notice, or after a stall.

SIGINT and SIGTERM tell the stages to stop. Images in the engines are finished within a time limit
and committed. After a second signal or the limit, the work in flight is abandoned. A notice that
the driver's node is leaving has the same effect. One timer serves the limit and the watchdog.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from skytext.errors import JobError
from skytext.run.control.cluster import ray_logs

_SIGNALS = (signal.SIGINT, signal.SIGTERM)
# Part of the remaining time of a leaving node that is reserved for the commit and the run's record.
_COMMIT_PART = 0.25
# An error raised by a handler is lost if it interrupts a destructor or a callback that swallows it.
# So the expired timer repeats until it is switched off. The first repeat comes late: the first
# error ends the execution of Ray Data. An interruption of that would leave its actors running.
_RING_AGAIN_S = 20.0


class Stopping:
    """Watches one run; made by `watch`.

    Attributes:
        is_requested: whether the run must stop.
        is_node_leaving: whether the reason is that the driver's node leaves.
    """

    def __init__(self, stall_timeout_s: float, drain_s: float, enabled: bool) -> None:
        self._stall_timeout_s = stall_timeout_s
        self._drain_s = drain_s
        self._enabled = enabled
        self._ask: Callable[[], None] | None = None
        self._failure: BaseException | None = None
        self.is_requested = False
        self.is_node_leaving = False

    def install(self) -> None:
        """Install the signal handlers; again after `ray.init`, which installs its own."""
        if self._enabled:
            for number in _SIGNALS:
                signal.signal(number, self.on_signal)
            signal.signal(signal.SIGALRM, self.on_timer)

    def drain_by(self, ask: Callable[[], None]) -> None:
        """From now on the first signal calls ``ask``, and the run continues to its early end."""
        self._ask = ask
        self.progressed()

    def progressed(self) -> None:
        """Reset the watchdog: some work was finished."""
        if self._enabled and not self.is_requested:
            signal.setitimer(signal.ITIMER_REAL, self._stall_timeout_s, _RING_AGAIN_S)

    def settle(self) -> None:
        """Switch the timer off for the final commit."""
        self._ask = None
        if self._enabled:
            signal.setitimer(signal.ITIMER_REAL, 0)

    def on_notice(self, seconds_left: float | None) -> None:
        """Request the end from any thread, because the driver's node leaves.

        Args:
            seconds_left: remaining seconds of the node; None if unknown.
        """
        if not self._enabled or self.is_requested:
            return
        self.is_node_leaving = True
        if seconds_left is not None:
            self._drain_s = max(0.1, min(self._drain_s, seconds_left * (1 - _COMMIT_PART)))
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGTERM)

    def on_signal(self, number: int, frame: FrameType | None) -> None:
        """Request the end, or abandon the work in flight on a second signal."""
        if self._ask is None or self.is_requested:
            self.is_requested = True
            raise KeyboardInterrupt
        self.is_requested = True
        signal.setitimer(signal.ITIMER_REAL, self._drain_s, _RING_AGAIN_S)
        self._ask()

    def fail(self, error: BaseException) -> None:
        """End the run with an error of another thread, wherever the main thread waits."""
        self._failure = error
        if self._enabled:
            signal.setitimer(signal.ITIMER_REAL, _RING_AGAIN_S, _RING_AGAIN_S)
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGALRM)

    def check(self) -> None:
        """Raise the error of another thread, where no signal can."""
        if self._failure is not None:
            raise self._failure

    def on_timer(self, number: int, frame: FrameType | None) -> None:
        """End the wait with the error that belongs to the timer."""
        self.check()
        if self.is_requested:
            raise KeyboardInterrupt
        raise JobError(
            f"no image was finished for {self._stall_timeout_s:g} s (job.stall_timeout_s): "
            f"finished work is committed; see the logs under {ray_logs()}, then run the same "
            "command again"
        )


@contextmanager
def watch(stall_timeout_s: float, drain_s: float) -> Iterator[Stopping]:
    """Handle signals and stalls during the block.

    Python delivers signals only to the main thread; in other threads nothing is handled.

    Args:
        stall_timeout_s: maximum seconds without any finished image.
        drain_s: maximum seconds for the work in flight after a request to stop.
    """
    enabled = threading.current_thread() is threading.main_thread()
    stopping = Stopping(stall_timeout_s, drain_s, enabled)
    if not enabled:
        yield stopping
        return
    before = {number: signal.getsignal(number) for number in (*_SIGNALS, signal.SIGALRM)}
    stopping.install()
    try:
        yield stopping
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        for number, handler in before.items():
            signal.signal(number, handler)
