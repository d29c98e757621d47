"""Find and kill the processes of one engine, and wait until they have ended."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator

import psutil

from skytext.errors import JobError

_END_S = 30.0


class EngineProcesses:
    """The processes that an engine starts, directly or indirectly.

    Create this object before the engine starts, so that an engine whose start fails can be ended
    too. During the start, every new descendant of this process belongs to the engine. After
    `settle`, only the processes found until then and their descendants belong to it. Every process
    that was found stays recorded: when vLLM's EngineCore dies, its workers get another parent and
    are no longer descendants.

    Any thread may call any method.
    """

    def __init__(self) -> None:
        self._others: set[psutil.Process] = set()
        self._found: set[psutil.Process] = set()
        self._starting = True
        self._lock = threading.Lock()
        self.leave_out_running()

    def leave_out_running(self) -> None:
        """Exclude the processes that run now. Call it before the engine starts a process."""
        with self._lock:
            self._others = set(_descendants(psutil.Process()))

    def settle(self) -> None:
        """Record the processes of the engine. Call it when the engine has started."""
        with self._lock:
            self._look()
            self._starting = False

    def kill(self) -> None:
        """Kill all processes, including hung and stopped processes, and do not wait."""
        with self._lock:
            self._look()
            for process in self._found:
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.kill()

    def end(self) -> None:
        """Kill all processes, and wait until they have ended and released their resources.

        Raises:
            JobError: a process does not end after it was killed.
        """
        self.kill()
        _, left = psutil.wait_procs(self.alive(), timeout=_END_S)
        if left:
            pids = ", ".join(str(process.pid) for process in left)
            raise JobError(
                f"the engine was killed, but does not end (process {pids}): its device or its disk "
                "does not respond; check the machine, then run again"
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
    """Kill an engine if its start takes longer than ``limit_s`` seconds.

    The body of the ``with`` statement must be the start. vLLM waits for its core process, and after
    an error this process may wait for a worker forever. When the processes are killed, the start
    fails.

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
                f"the engine did not start within caption.engine.start_timeout_s ({limit_s:g} s) "
                "and was ended: raise this limit for a large model or a slow disk; otherwise look "
                "for the cause in the engine's log lines above"
            ) from error
        raise
    finally:
        watchdog.cancel()
