"""The processes of one engine: find them, kill them and wait for their end, in any state."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator

import psutil

from skytext.errors import JobError

_END_S = 30.0


class EngineProcesses:
    """The processes that an engine starts, directly or indirectly.

    Made before the engine starts, so an engine that does not come up can be ended too. During the
    start, every new descendant of this process belongs to the engine; after `settle`, only the ones
    found then and their descendants. Each process is remembered: when vLLM's EngineCore dies, its
    workers get another parent and are no longer descendants.

    Any method may be called from any thread.
    """

    def __init__(self) -> None:
        self._others: set[psutil.Process] = set()
        self._found: set[psutil.Process] = set()
        self._starting = True
        self._lock = threading.Lock()
        self.leave_out_running()

    def leave_out_running(self) -> None:
        """Exclude the current processes; for an engine that has not started any process yet."""
        with self._lock:
            self._others = set(_descendants(psutil.Process()))

    def settle(self) -> None:
        """Record the processes of an engine that is up."""
        with self._lock:
            self._look()
            self._starting = False

    def kill(self) -> None:
        """Kill all of them, including hung and stopped ones, without waiting."""
        with self._lock:
            self._look()
            for process in self._found:
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.kill()

    def end(self) -> None:
        """Kill all of them, and wait until they have ended and released their resources.

        Raises:
            JobError: a process does not end.
        """
        self.kill()
        _, left = psutil.wait_procs(self.alive(), timeout=_END_S)
        if left:
            pids = ", ".join(str(process.pid) for process in left)
            raise JobError(
                f"a process of the engine does not end after a kill (process {pids}): its device "
                "or its disk does not respond; check the machine, then run again"
            )

    def alive(self) -> list[psutil.Process]:
        """Return the running processes."""
        with self._lock:
            return [process for process in self._found if process.is_running()]

    def _look(self) -> None:
        if self._starting:
            self._found |= set(_descendants(psutil.Process())) - self._others
        for process in list(self._found):
            self._found |= set(_descendants(process))


def _descendants(process: psutil.Process) -> list[psutil.Process]:
    try:
        return process.children(recursive=True)
    except psutil.NoSuchProcess:
        return []


@contextlib.contextmanager
def start_limit(processes: EngineProcesses, limit_s: float) -> Iterator[None]:
    """Kill an engine whose start, the block, takes longer than ``limit_s`` seconds.

    vLLM waits for its core, and a core with a failed start may wait for its own worker forever.
    Without its processes, the start fails.

    Raises:
        JobError: the start took too long.
    """
    too_late = threading.Event()

    def give_up() -> None:
        too_late.set()
        processes.kill()

    watchdog = threading.Timer(limit_s, give_up)
    watchdog.daemon = True
    watchdog.start()
    try:
        yield
    except Exception as error:
        if too_late.is_set():
            raise JobError(
                f"the engine was not up within caption.engine.start_timeout_s ({limit_s:g} s) and "
                "was ended: raise it for a large model or a slow disk; else see the engine's own "
                "lines above"
            ) from error
        raise
    finally:
        watchdog.cancel()
