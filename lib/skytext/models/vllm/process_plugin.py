"""Set up every process of a vLLM engine (entry point ``vllm.general_plugins``).

vLLM loads the plugins of this entry point group in each of its processes, before it loads a model.
"""

from __future__ import annotations

import logging
import os
import threading
import time

PARENT_VARIABLE = "SKYTEXT_ENGINE_PARENT_PID"
"""Environment variable: id of the process that started the engine. The engine's child processes
must end when this process ends."""

CORES_VARIABLE = "SKYTEXT_ENGINE_CORES"
"""Environment variable: the CPU cores for the engine's child processes, such as ``0,1``."""

REPORT_VARIABLE = "SKYTEXT_ENGINE_REPORT"
"""Environment variable: a file in which the engine's child processes record start errors."""

_POLL_S = 1.0
# vLLM's messages: "EngineCore failed to start.", "WorkerProc failed to start."
_START_FAILED = "failed to start"


def prepare_process() -> None:
    """Set up a child process of an engine.

    The process then runs only on the configured cores, ends when its parent ends, and records its
    start errors.
    """
    if _foreign_parent() is None:
        return
    report = os.environ.get(REPORT_VARIABLE)
    if report:
        logging.getLogger("vllm").addHandler(_StartReporter(report))
    cores = os.environ.get(CORES_VARIABLE)
    if cores:
        # VLLM_CPU_OMP_THREADS_BIND binds only the computing threads. The scheduler process must use
        # the same cores, so that it does not slow down reading and embedding.
        os.sched_setaffinity(0, {int(core) for core in cores.split(",")})
    watch_parent()


def watch_parent() -> None:
    """End this process when the process that started the engine has ended.

    vLLM's EngineCore continues to run after its parent was killed with SIGKILL (vllm#55510). Ray
    ends only the processes in the process group of a killed actor. So this function starts a thread
    that polls the parent. PR_SET_PDEATHSIG is not used, because it depends on which thread of the
    parent started the child.
    """
    parent = _foreign_parent()
    if parent is None:
        return
    watcher = threading.Thread(
        target=_exit_with, args=(parent,), name="skytext-parent-watch", daemon=True
    )
    watcher.start()


class _StartReporter(logging.Handler):
    """Writes to a file the error with which a process failed to start, one line per error.

    vLLM does not send the cause to the parent process, only "see root cause above". The cause,
    usually too little memory, is only in the log of the child process.
    """

    def __init__(self, path: str) -> None:
        super().__init__(logging.ERROR)
        self._path = path

    def emit(self, record: logging.LogRecord) -> None:
        """Record the error of a failed start, and ignore all other errors."""
        error = record.exc_info[1] if record.exc_info else None
        if error is None or _START_FAILED not in record.getMessage():
            return
        try:
            with open(self._path, "a", encoding="utf-8") as report:
                report.write(f"{type(error).__name__}: {' '.join(str(error).split())}\n")
        except OSError:
            self.handleError(record)


def _foreign_parent() -> int | None:
    """Return the id of the process that started the engine.

    Return None if this process started the engine, or if no engine was started.
    """
    parent = os.environ.get(PARENT_VARIABLE)
    return None if parent is None or int(parent) == os.getpid() else int(parent)


def _exit_with(parent: int) -> None:
    while _is_alive(parent):
        time.sleep(_POLL_S)
    # There is no data to save, and a clean-up would only occupy the GPU for longer.
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
