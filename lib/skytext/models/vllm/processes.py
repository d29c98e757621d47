"""The processes of one engine: found, ended and waited for, whatever state they are in."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator

import psutil

from skytext.errors import JobError

_END_S = 30.0


class EngineProcesses:
    """What an engine starts in processes of its own, at whatever remove.

    Made before the engine starts, so that even an engine that does not come up can be ended. While
    it starts, every new descendant of this process counts as the engine's; after `settle`, those
    found then and what they start. Remembered one by one: when vLLM's EngineCore dies, its workers
    belong to another parent, and are no descendants any more.

    Any method may be called from any thread.
    """

    def __init__(self) -> None:
        self._others: set[psutil.Process] = set()
        self._found: set[psutil.Process] = set()
        self._starting = True
        self._lock = threading.Lock()
        self.leave_out_running()

    def leave_out_running(self) -> None:
        """Take what runs now for somebody else's; for an engine that has started nothing yet."""
        with self._lock:
            self._others = set(_descendants(psutil.Process()))

    def settle(self) -> None:
        """Take note of the processes of an engine that is up."""
        with self._lock:
            self._look()
            self._starting = False

    def kill(self) -> None:
        """End all of them at once, hung and stopped ones included, without waiting."""
        with self._lock:
            self._look()
            for process in self._found:
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.kill()

    def end(self) -> None:
        """End all of them and wait until they are gone, and with them what they held.

        Raises:
            JobError: one does not end.
        """
        self.kill()
        _, left = psutil.wait_procs(self.alive(), timeout=_END_S)
        if left:
            pids = ", ".join(str(process.pid) for process in left)
            raise JobError(
                f"a process of the engine does not end, even when killed (process {pids}): its "
                "device or its disk does not answer; look at the machine, then run again"
            )

    def alive(self) -> list[psutil.Process]:
        """Return those that run."""
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
    """End an engine whose start, the block, takes longer than ``limit_s`` seconds.

    vLLM waits for its core, and a core whose start failed may wait for its own worker for ever;
    without its processes the start fails.

    Raises:
        JobError: it took longer.
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
