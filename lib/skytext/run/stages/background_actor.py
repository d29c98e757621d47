"""Let an embedding actor use the idle cores of its node, without slowing down other processes."""

from __future__ import annotations

import math
import os

import ray

_NICENESS = 19
_VARIABLE = "OMP_NUM_THREADS"


def number_to_share(num_actors: int, num_gpus: float) -> int:
    """Return the argument for `run_in_background`. Call this function in the driver.

    The result is 0 if the number of threads must not be changed: the actors use GPUs, or the user
    has set the number of threads.

    Args:
        num_actors: number of embedding actors of the run.
        num_gpus: number of GPUs of each actor.
    """
    return 0 if num_gpus or _VARIABLE in os.environ else num_actors


def run_in_background(num_actors: int) -> None:
    """Give this actor the lowest priority, and let torch use more threads than Ray assigns to it.

    Ray sets the number of threads to the number of CPUs that an actor requests. An embedding actor
    requests few CPUs, because it is idle while the engine describes images. With one thread, it
    would use one core even if all other cores are idle. The other processes of the node have
    priority. Call this function before torch is imported.

    Args:
        num_actors: number of embedding actors in the cluster. They share the cores. With 0, only
            the priority is changed.
    """
    os.setpriority(os.PRIO_PROCESS, 0, _NICENESS)
    if not num_actors:
        return
    context = ray.get_runtime_context()
    requested = context.get_assigned_resources().get("CPU", 1)
    if os.environ.get(_VARIABLE) != str(max(1, math.floor(requested))):
        # The user has set the number of threads for the processes of this node.
        return
    cpus = {
        node["NodeID"]: node["Resources"].get("CPU", 0) for node in ray.nodes() if node["Alive"]
    }
    share = sum(cpus.values()) // num_actors
    # The node may have fewer CPUs than the machine, for example in a container.
    limits = (share, cpus[context.get_node_id()], len(os.sched_getaffinity(0)))
    os.environ[_VARIABLE] = str(max(1, int(min(limits))))
