"""Run control work in a separate process on the driver's node.

Preparing, committing, merging and counting read the whole table. They run in a worker process, not
in the driver: Lance keeps the metadata of every file it opens, and the driver's memory must not
grow with the table. They run on the driver's node because the loss of that node ends the run
anyway. The loss of another node then does not affect them.

All these functions must be idempotent: a worker can die after the work and before its response.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar, cast

import ray
from ray.exceptions import RayError, RayTaskError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from skytext.run.control.cluster import job_error

P = ParamSpec("P")
T = TypeVar("T")

_TRIES = 3


def run_on_driver_node(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Call an idempotent function in a worker process on this node, and return its result.

    Raises:
        SkytextError: the error of the function, or a `JobError` for a failure of the cluster. A
            dead worker is replaced; there are up to three attempts.
    """
    return cast("T", _try(lambda: [_task(function, 1).remote(*args, **kwargs)])[0])


def run_and_refer(function: Callable[..., tuple[T, Any]], *args: Any) -> tuple[T, Any]:
    """Call a function that returns two values; the second stays in the object store.

    Returns:
        The first value, and a reference to the second that workers can fetch.
    """
    first, references = _try(lambda: _task(function, 2).remote(*args))
    return cast("T", first), references[1]


def _task(function: Callable[..., Any], num_returns: int) -> Any:
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    # Ray's own retries would also repeat the task if its result is lost later.
    options = ray.remote(
        num_cpus=0, max_retries=0, num_returns=num_returns, scheduling_strategy=here
    )
    return options(function)


def _try(start: Callable[[], list[Any]]) -> tuple[Any, list[Any]]:
    """Return the task's first value, and references to all values."""
    for tries_left in reversed(range(_TRIES)):
        references = start()
        try:
            return ray.get(references[0]), references
        except RayError as error:
            if tries_left and not isinstance(error, RayTaskError):
                continue
            raise job_error(error) from error
    raise AssertionError("the last attempt returns or raises")
