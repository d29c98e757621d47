"""What every process of a vLLM engine does first (entry point ``vllm.general_plugins``).

vLLM loads the plugins of that group in its own child processes too, before it builds a model.
"""

from __future__ import annotations

import os
import threading
import time

PARENT_VARIABLE = "SKYTEXT_ENGINE_PARENT_PID"
"""Environment variable: the process that an engine's children must not outlive."""

_POLL_S = 1.0


def watch_parent() -> None:
    """End this process when the one that started the engine is gone.

    vLLM's EngineCore outlives a parent killed with SIGKILL (vllm#55510), and Ray cleans up a
    killed actor's process group only. A thread that polls does not depend on which thread started
    the child, as PR_SET_PDEATHSIG would.
    """
    parent = os.environ.get(PARENT_VARIABLE)
    if parent is None or int(parent) == os.getpid():
        return
    watcher = threading.Thread(
        target=_exit_with, args=(int(parent),), name="skytext-parent-watch", daemon=True
    )
    watcher.start()


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
