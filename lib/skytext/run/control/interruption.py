"""End a run before its end: on a signal, on a cluster's notice, or because nothing moves any more.

SIGINT and SIGTERM ask the stages to stop; what is in the engines' hands is finished within a time
limit, and committed. A second signal, or the limit, gives up what is in flight. The notice that
the driver's node is going away does the same. One timer serves both the limit and the watchdog.
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
# Of the time that a node has left, what the commit and the record of the run are given.
_COMMIT_PART = 0.25
# What a handler raises is lost where it interrupts a destructor or a callback that swallows it:
# once it has run out, the timer goes on ringing until it is switched off. Not at once: what was
# raised first ends the execution of Ray Data, and its actors would stay if that were interrupted.
_RING_AGAIN_S = 20.0


class Stopping:
    """Watches over one run; made by `watch`.

    Attributes:
        is_asked: whether a signal asked for the end.
        is_node_leaving: whether it was asked for because the driver's node goes away.
    """

    def __init__(self, stall_timeout_s: float, drain_s: float, enabled: bool) -> None:
        self._stall_timeout_s = stall_timeout_s
        self._drain_s = drain_s
        self._enabled = enabled
        self._ask: Callable[[], None] | None = None
        self._failure: BaseException | None = None
        self.is_asked = False
        self.is_node_leaving = False

    def install(self) -> None:
        """Handle the signals; once more after `ray.init`, which puts handlers of its own there."""
        if self._enabled:
            for number in _SIGNALS:
                signal.signal(number, self.on_signal)
            signal.signal(signal.SIGALRM, self.on_timer)

    def drain_by(self, ask: Callable[[], None]) -> None:
        """From now on a first signal calls ``ask`` and lets the run go on to its early end."""
        self._ask = ask
        self.progressed()

    def progressed(self) -> None:
        """Wind up the watchdog: something was finished."""
        if self._enabled and not self.is_asked:
            signal.setitimer(signal.ITIMER_REAL, self._stall_timeout_s, _RING_AGAIN_S)

    def settle(self) -> None:
        """Let what follows run undisturbed: the commit of what is done."""
        self._ask = None
        if self._enabled:
            signal.setitimer(signal.ITIMER_REAL, 0)

    def on_notice(self, seconds_left: float | None) -> None:
        """Ask for the end, from any thread: the driver's node goes away.

        Args:
            seconds_left: how long it stays; None where that is not known.
        """
        if not self._enabled or self.is_asked:
            return
        self.is_node_leaving = True
        if seconds_left is not None:
            self._drain_s = max(0.1, min(self._drain_s, seconds_left * (1 - _COMMIT_PART)))
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGTERM)

    def on_signal(self, number: int, frame: FrameType | None) -> None:
        """Ask for the end, or give up at once where that was asked before."""
        if self._ask is None or self.is_asked:
            self.is_asked = True
            raise KeyboardInterrupt
        self.is_asked = True
        signal.setitimer(signal.ITIMER_REAL, self._drain_s, _RING_AGAIN_S)
        self._ask()

    def fail(self, error: BaseException) -> None:
        """End the run with an error of another thread, wherever the main thread waits."""
        self._failure = error
        if self._enabled:
            signal.setitimer(signal.ITIMER_REAL, _RING_AGAIN_S, _RING_AGAIN_S)
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGALRM)

    def check(self) -> None:
        """Raise what another thread failed with, where no signal can."""
        if self._failure is not None:
            raise self._failure

    def on_timer(self, number: int, frame: FrameType | None) -> None:
        """End the wait, for whichever reason the timer was set."""
        self.check()
        if self.is_asked:
            raise KeyboardInterrupt
        raise JobError(
            f"no image was finished for {self._stall_timeout_s:g} s (job.stall_timeout_s): what is "
            f"done is committed; look at the logs under {ray_logs()}, then run the same command "
            "again"
        )


@contextmanager
def watch(stall_timeout_s: float, drain_s: float) -> Iterator[Stopping]:
    """Handle signals and stalls for the time of the block.

    Outside a program's main thread Python delivers no signals: there nothing is handled.

    Args:
        stall_timeout_s: how long nothing may be finished.
        drain_s: how long what is in flight may take once the end was asked for.
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
