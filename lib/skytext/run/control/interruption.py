"""End a run early, after a signal, after a notice of the cluster, or if the run makes no progress.

After SIGINT or SIGTERM, the stages stop. The engines finish their current images within a time
limit, and the run commits these images. After a second signal, or when the time limit expires, the
run ends, and the unfinished work is lost. A notice that the cluster will remove the driver's node
has the same effect as a first signal.

One timer has two purposes. Before a request to stop, the timer detects that the run makes no
progress (the watchdog). After a request to stop, the timer ends the run when the time limit
expires.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from skytext.errors import JobError
from skytext.run.cluster.cluster import ray_logs

_SIGNALS = (signal.SIGINT, signal.SIGTERM)
# If the cluster will remove the driver's node, this share of the remaining time is reserved for the
# last commit and for writing the record of the run.
_COMMIT_PART = 0.25
# The signal handler of the timer raises an error. Python ignores the error if the signal interrupts
# a destructor. A callback may also ignore the error. So the timer sends signals again until it is
# switched off. The interval is long, because Ray Data ends its execution after the first error. If
# a second error interrupted Ray Data during this time, some actors would continue to run.
_RING_AGAIN_S = 20.0


class Stopping:
    """The signal handlers and the timer of one run. `watch` creates this object.

    Attributes:
        is_requested: whether the run received a request to stop.
        is_node_leaving: whether the cluster has given notice that it will remove the driver's node.
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
        """Install the signal handlers.

        Call this method again after `ray.init`, because `ray.init` replaces the signal handlers.
        """
        if self._enabled:
            for number in _SIGNALS:
                signal.signal(number, self.on_signal)
            signal.signal(signal.SIGALRM, self.on_timer)

    def drain_by(self, ask: Callable[[], None]) -> None:
        """Set the function that the first signal calls.

        After this call, the first signal does not interrupt the run. The signal only calls ``ask``,
        and the run finishes the work that has started.
        """
        self._ask = ask
        self.progressed()

    def progressed(self) -> None:
        """Restart the timer of the watchdog. Call this method when some work is finished."""
        if self._enabled and not self.is_requested:
            signal.setitimer(signal.ITIMER_REAL, self._stall_timeout_s, _RING_AGAIN_S)

    def settle(self) -> None:
        """Switch the timer off. Call this method before the last commit."""
        self._ask = None
        if self._enabled:
            signal.setitimer(signal.ITIMER_REAL, 0)

    def on_notice(self, seconds_left: float | None) -> None:
        """Request the end of the run, because the cluster will remove the driver's node.

        Any thread may call this method.

        Args:
            seconds_left: number of seconds until the node is removed; None if unknown.
        """
        if not self._enabled or self.is_requested:
            return
        self.is_node_leaving = True
        if seconds_left is not None:
            self._drain_s = max(0.1, min(self._drain_s, seconds_left * (1 - _COMMIT_PART)))
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGTERM)

    def on_signal(self, number: int, frame: FrameType | None) -> None:
        """Request the end of the run. On a second signal, end the run immediately."""
        if self._ask is None or self.is_requested:
            self.is_requested = True
            raise KeyboardInterrupt
        self.is_requested = True
        signal.setitimer(signal.ITIMER_REAL, self._drain_s, _RING_AGAIN_S)
        self._ask()

    def fail(self, error: BaseException) -> None:
        """End the run with an error that occurred in another thread.

        This method sends a signal to the main thread, so the run also ends if the main thread is
        waiting.
        """
        self._failure = error
        if self._enabled:
            signal.setitimer(signal.ITIMER_REAL, _RING_AGAIN_S, _RING_AGAIN_S)
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGALRM)

    def check(self) -> None:
        """Raise the error that `fail` received. Do nothing if there was no such error.

        The signal handler also raises this error, but Python may ignore the error there.
        """
        if self._failure is not None:
            raise self._failure

    def on_timer(self, number: int, frame: FrameType | None) -> None:
        """End the run when the timer expires.

        Raises:
            BaseException: `fail` received this error.
            KeyboardInterrupt: the time limit after a request to stop has expired.
            JobError: no work was finished within the stall timeout.
        """
        self.check()
        if self.is_requested:
            raise KeyboardInterrupt
        raise JobError(
            f"no image was finished for {self._stall_timeout_s:g} s (job.stall_timeout_s). "
            f"Finished work is committed. To find the reason, read the logs in {ray_logs()}. To "
            "continue, run the same command again"
        )


@contextmanager
def watch(stall_timeout_s: float, drain_s: float) -> Iterator[Stopping]:
    """Handle signals and stalls during the block.

    A stall means that the run makes no progress. Python delivers signals only to the main thread.
    If the block runs in another thread, signals and stalls are not handled.

    Args:
        stall_timeout_s: the run ends if no image is finished for this number of seconds.
        drain_s: time limit, in seconds, to finish the current work after a request to stop.
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
