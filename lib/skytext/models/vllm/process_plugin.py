"""What every process of a vLLM engine does first (entry point ``vllm.general_plugins``).

vLLM loads the plugins of that group in its own child processes too, before it builds a model.
"""

from __future__ import annotations

import logging
import os
import threading
import time

PARENT_VARIABLE = "SKYTEXT_ENGINE_PARENT_PID"
"""Environment variable: the process that an engine's children must not outlive."""

CORES_VARIABLE = "SKYTEXT_ENGINE_CORES"
"""Environment variable: the cores that an engine's children keep to, such as ``0,1``."""

REPORT_VARIABLE = "SKYTEXT_ENGINE_REPORT"
"""Environment variable: a file to which an engine's children add why they could not start."""

_POLL_S = 1.0
# vLLM's own words: "EngineCore failed to start.", "WorkerProc failed to start."
_START_FAILED = "failed to start"


def prepare_process() -> None:
    """Tie a child process of an engine to its cores and its parent's life; have it report."""
    if _foreign_parent() is None:
        return
    report = os.environ.get(REPORT_VARIABLE)
    if report:
        logging.getLogger("vllm").addHandler(_StartReporter(report))
    cores = os.environ.get(CORES_VARIABLE)
    if cores:
        # VLLM_CPU_OMP_THREADS_BIND binds the computing threads alone; the scheduler's process
        # belongs to the engine too, and must not take turns with reading and embedding.
        os.sched_setaffinity(0, {int(core) for core in cores.split(",")})
    watch_parent()


def watch_parent() -> None:
    """End this process when the one that started the engine is gone.

    vLLM's EngineCore outlives a parent killed with SIGKILL (vllm#55510), and Ray cleans up a
    killed actor's process group only. A thread that polls does not depend on which thread started
    the child, as PR_SET_PDEATHSIG would.
    """
    parent = _foreign_parent()
    if parent is None:
        return
    watcher = threading.Thread(
        target=_exit_with, args=(parent,), name="skytext-parent-watch", daemon=True
    )
    watcher.start()


class _StartReporter(logging.Handler):
    """Adds the error that ends a process at its start to a file, one line an error.

    The process that started the engine learns from vLLM only that it failed ("see root cause
    above"); the cause, too little memory in most cases, stands in the child's log alone.
    """

    def __init__(self, path: str) -> None:
        super().__init__(logging.ERROR)
        self._path = path

    def emit(self, record: logging.LogRecord) -> None:
        """Note a failed start; other errors stand in the log."""
        error = record.exc_info[1] if record.exc_info else None
        if error is None or _START_FAILED not in record.getMessage():
            return
        try:
            with open(self._path, "a", encoding="utf-8") as report:
                report.write(f"{type(error).__name__}: {' '.join(str(error).split())}\n")
        except OSError:
            self.handleError(record)


def _foreign_parent() -> int | None:
    """Return the process that started the engine, or None where this is that process."""
    parent = os.environ.get(PARENT_VARIABLE)
    return None if parent is None or int(parent) == os.getpid() else int(parent)


def _exit_with(parent: int) -> None:
    while _is_alive(parent):
        time.sleep(_POLL_S)
    # Nothing to save and nobody to tell: no clean-up may hold the GPU any longer.
    os._exit(1)


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return not _is_zombie(pid)


def _is_zombie(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as stat:
            return stat.read().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return False
