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

    Create this object before the engine starts. Then the processes can also be killed if the start
    fails. Until `settle` is called, every new descendant of this process belongs to the engine.
    After the call, only the processes that were found before the call, and the descendants of these
    processes, belong to the engine. A process that was found once is never removed. This is needed
    because the workers of vLLM get a new parent when EngineCore dies, and are then not descendants
    of this process.

    Any thread may call any method.
    """

    def __init__(self) -> None:
        self._others: set[psutil.Process] = set()
        self._found: set[psutil.Process] = set()
        self._starting = True
        self._lock = threading.Lock()
        self.leave_out_running()

    def leave_out_running(self) -> None:
        """Exclude all processes that are already running.

        Call this method before the engine starts a process.
        """
        with self._lock:
            self._others = set(_descendants(psutil.Process()))

    def settle(self) -> None:
        """Record the processes of the engine. Call this method when the engine has started."""
        with self._lock:
            self._look()
            self._starting = False

    def kill(self) -> None:
        """Kill all processes without waiting, including processes that hang or are stopped."""
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
                f"the engine was killed, but its process {pids} does not end, because a device "
                "or a disk does not respond: check the machine, then run the command again"
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

    The body of the ``with`` statement must start the engine. vLLM waits for its core process, and
    after an error the core process may wait for a worker without end. When the processes are
    killed, the start fails with an error.

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
                f"the engine did not start within caption.engine.start_timeout_s ({limit_s:g} "
                "s) and was ended: raise this limit if the model is large or the disk is slow. "
                "Otherwise look for the cause in the log lines of the engine above"
            ) from error
        raise
    finally:
        watchdog.cancel()
