"""Run control functions in a separate process on the driver's node.

The functions that prepare, commit, merge and count read the whole table. They run in a worker
process and not in the driver, because Lance keeps the metadata of every opened file in memory. The
driver's memory must not grow with the table. The functions run on the driver's node, so the loss of
another node does not affect them. The loss of the driver's node ends the run in any case.

All these functions must be idempotent: a worker process can exit after it has done the work and
before it has sent the result. The function then runs a second time.
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

    Raises:
        SkytextError: the function raised this error, or the cluster failed (`JobError`). If the
            worker process exits, the function is called again, up to three times in total.
    """
    return cast("T", _try(lambda: [_task(function, 1).remote(*args, **kwargs)])[0])


def run_and_refer(function: Callable[..., tuple[T, Any]], *args: Any) -> tuple[T, Any]:
    """Call a function that returns two values. The second value stays in Ray's object store.

    Returns:
        The first value, and a reference with which workers can fetch the second value.
    """
    first, references = _try(lambda: _task(function, 2).remote(*args))
    return cast("T", first), references[1]


def _task(function: Callable[..., Any], num_returns: int) -> Any:
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    # Ray's retries are off, because Ray would also repeat the task when its result is lost later.
    options = ray.remote(
        num_cpus=0, max_retries=0, num_returns=num_returns, scheduling_strategy=here
    )
    return options(function)


def _try(start: Callable[[], list[Any]]) -> tuple[Any, list[Any]]:
    """Start the task, up to three times; return its first value and references to all values."""
    for tries_left in reversed(range(_TRIES)):
        references = start()
        try:
            return ray.get(references[0]), references
        except RayError as error:
            if tries_left and not isinstance(error, RayTaskError):
                continue
            raise job_error(error) from error
    raise AssertionError("the last attempt returns or raises")
