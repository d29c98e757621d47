"""Run control functions in a separate process on the driver's node.

Control functions prepare, commit, merge and count, and they read the whole table. Lance keeps the
metadata of every opened file in memory. The memory use of the driver must not grow with the table,
so control functions run in a worker process and not in the driver. They run on the driver's node,
so the loss of another node does not affect them. If the driver's node is lost, the run ends in any
case.

All control functions must be idempotent. A worker process can exit after it has done the work and
before it has sent the result. The function is then called a second time.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar, cast

import ray
from ray.exceptions import RayError, RayTaskError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from skytext.run.cluster.cluster import job_error

P = ParamSpec("P")
T = TypeVar("T")

_TRIES = 3


def run_on_driver_node(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Call an idempotent function in a worker process on this node, and return its result.

    If the worker process exits, the function is called again, but at most three times in total.

    Raises:
        SkytextError: the function raised this error.
        JobError: the cluster failed.
    """
    return cast("T", _try(lambda: [_task(function, 1).remote(*args, **kwargs)])[0])


def run_and_refer(function: Callable[..., tuple[T, Any]], *args: Any) -> tuple[T, Any]:
    """Call an idempotent function that returns two values. Do not fetch the second value.

    The second value stays in Ray's object store.

    Returns:
        The first value, and a reference with which workers can fetch the second value.
    """
    first, references = _try(lambda: _task(function, 2).remote(*args))
    return cast("T", first), references[1]


def _task(function: Callable[..., Any], num_returns: int) -> Any:
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    # Ray's own retries are switched off. Otherwise Ray would also repeat the task if its result is
    # lost at a later time.
    options = ray.remote(
        num_cpus=0, max_retries=0, num_returns=num_returns, scheduling_strategy=here
    )
    return options(function)


def _try(start: Callable[[], list[Any]]) -> tuple[Any, list[Any]]:
    """Start a task, and start it again if its process exits, at most three times in total.

    Returns:
        The first value that the task returned, and the references to all its values.
    """
    for tries_left in reversed(range(_TRIES)):
        references = start()
        try:
            return ray.get(references[0]), references
        except RayError as error:
            if tries_left and not isinstance(error, RayTaskError):
                continue
            raise job_error(error) from error
    raise AssertionError("the last attempt returns or raises")
