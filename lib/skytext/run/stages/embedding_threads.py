"""Let an embedding actor use the idle cores of its node."""

from __future__ import annotations

import math
import os

import ray

_VARIABLE = "OMP_NUM_THREADS"


def use_idle_cores(num_actors: int) -> None:
    """Let torch use more threads than Ray assigns to this actor.

    Ray sets the number of threads to the number of CPUs that an actor requests. An embedding actor
    requests few CPUs, because it is idle while the engine describes images. With one thread, the
    actor would use one core even if all other cores are idle. Call this function before torch is
    imported. If the user has set the number of threads, this function does nothing.

    Args:
        num_actors: number of embedding actors in the cluster. They share the cores.
    """
    requested = ray.get_runtime_context().get_assigned_resources().get("CPU", 1)
    if os.environ.get(_VARIABLE) != str(max(1, math.floor(requested))):
        return
    share = ray.cluster_resources().get("CPU", 1) // num_actors
    os.environ[_VARIABLE] = str(max(1, min(os.cpu_count() or 1, int(share))))
