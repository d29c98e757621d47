"""A vLLM plugin that sets up every process of an engine (entry point ``vllm.general_plugins``).

Each process of vLLM loads the plugins of this entry point group before it loads a model.
"""

from __future__ import annotations

import logging
import os
import threading
import time

PARENT_VARIABLE = "SKYTEXT_ENGINE_PARENT_PID"
"""Name of the environment variable with the id of the process that started the engine.

The child processes of the engine must end when this process ends.
"""

CORES_VARIABLE = "SKYTEXT_ENGINE_CORES"
"""Name of the environment variable with the CPU cores for the engine's processes, such as ``0,1``.
"""

REPORT_VARIABLE = "SKYTEXT_ENGINE_REPORT"
"""Name of the environment variable with the path of a file for start errors.

The processes of the engine write their start errors to this file.
"""

_POLL_S = 1.0
# vLLM's messages: "EngineCore failed to start.", "WorkerProc failed to start."
_START_FAILED = "failed to start"


def prepare_process() -> None:
    """Set up a child process of an engine.

    After this call, the process runs only on the configured cores. It ends when its parent ends. If
    its start fails, it writes the error to a file.
    """
    if _foreign_parent() is None:
        return
    report = os.environ.get(REPORT_VARIABLE)
    if report:
        logging.getLogger("vllm").addHandler(_StartReporter(report))
    cores = os.environ.get(CORES_VARIABLE)
    if cores:
        # VLLM_CPU_OMP_THREADS_BIND binds only the computing threads to the cores. The scheduler
        # process must also use only these cores, so that it does not slow down reading and
        # embedding.
        os.sched_setaffinity(0, {int(core) for core in cores.split(",")})
    watch_parent()


def watch_parent() -> None:
    """Start a thread that ends this process when the process that started the engine has ended.

    The EngineCore process of vLLM continues to run after its parent was killed with SIGKILL
    (vllm#55510). When Ray kills an actor, it ends only the processes in the process group of this
    actor. Therefore the thread polls the parent. PR_SET_PDEATHSIG is not used, because its effect
    depends on the thread of the parent that started the child.
    """
    parent = _foreign_parent()
    if parent is None:
        return
    watcher = threading.Thread(
        target=_exit_with, args=(parent,), name="skytext-parent-watch", daemon=True
    )
    watcher.start()


class _StartReporter(logging.Handler):
    """A log handler that writes the error of a failed start to a file. Each error is one line.

    vLLM does not send the cause to the parent process. The parent process only receives the text
    "see root cause above". The cause is only in the log of the child process. Usually the cause is
    too little memory.
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

    The result is None if this process itself started the engine, or if no engine was started.
    """
    parent = os.environ.get(PARENT_VARIABLE)
    return None if parent is None or int(parent) == os.getpid() else int(parent)


def _exit_with(parent: int) -> None:
    while _is_alive(parent):
        time.sleep(_POLL_S)
    # Exit without a clean-up. There is no data to save, and a clean-up would only occupy the GPU
    # for a longer time.
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
