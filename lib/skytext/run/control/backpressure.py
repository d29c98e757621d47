"""Limit the number of unstaged units with a backpressure policy of Ray Data.

If a node or the driver fails, the captions that are not staged yet are lost. Ray Data limits a
queue by its size in bytes, but captions are small. Without the limit in this module, many captions
would wait in a queue if the embedder or the store is slow.

The driver checks the limit before it sends a unit to an engine. No actor and no task waits for the
limit. A waiting actor or task would occupy a slot that Ray may need to recompute lost blocks, and
the run would hang.

If no operator has a task, Ray Data ignores the limit, because the execution would stop otherwise.
So the number of unstaged units may exceed the limit while the first embedder starts.
"""

from __future__ import annotations

import math
from typing import Any

from ray.data import DataContext
from ray.data._internal.execution.backpressure_policy import (
    ENABLED_BACKPRESSURE_POLICIES,
    ENABLED_BACKPRESSURE_POLICIES_CONFIG_KEY,
)
from ray.data._internal.execution.backpressure_policy.backpressure_policy import BackpressurePolicy

from skytext.config.job import JobConfig

_SETTING = "skytext.unstaged_units"


class UnstagedUnits(BackpressurePolicy):
    """A policy that sends no units to the captioner while too many units are unstaged.

    Ray Data creates one policy per execution, on the driver. The last operator of a run writes one
    row for each unit that the captioner has received. So the number of unstaged units is the number
    of units that the captioner received, minus the number of rows that the last operator wrote. If
    Ray computes a unit again after the loss of a node, the unit is counted only once.

    Args:
        data_context: settings of the execution. They contain the limit; see `limit_unstaged`.
        topology: the operators in order.
        resource_manager: not used.
    """

    def __init__(self, data_context: DataContext, topology: Any, resource_manager: Any) -> None:
        super().__init__(data_context, topology, resource_manager)
        name, self._min_units, self._units_per_actor = data_context.get_config(
            _SETTING, (None, 0, 0)
        )
        operators = list(topology)
        self._limited = next((op for op in operators if name and name in op.name), None)
        self._last = operators[-1]

    def can_add_input(self, op: Any) -> bool:
        """Return whether ``op`` may receive one more unit."""
        if self._limited is None or op is not self._limited:
            return True
        num_actors = sum(pool.current_size() for pool in op.get_autoscaling_actor_pools())
        limit = max(self._min_units, num_actors * self._units_per_actor)
        num_given: int = op.metrics.num_inputs_received
        num_staged: int = self._last.metrics.rows_task_outputs_generated
        return bool(num_given - num_staged < limit)


def limit_unstaged(context: DataContext, operator: str, job: JobConfig) -> None:
    """Limit the number of unstaged units in a data set.

    Units are counted if ``operator`` has received them and the last operator has not written their
    records. The limit is the larger of two numbers. The first number is the number of units in one
    commit. The second number is the number of units that keeps all actors of ``operator`` busy.

    Args:
        context: context of the data set.
        operator: class name of the operator.
        job: settings with the sizes of units and commits.
    """
    min_units = math.ceil(job.commit_images / job.unit_images)
    # This number must be larger than the number of units that an actor processes at the same time.
    # Otherwise the units in progress would reach the limit, and Ray Data would never add an actor.
    units_per_actor = job.units_in_flight + 4
    context.set_config(_SETTING, (operator, min_units, units_per_actor))
    context.set_config(
        ENABLED_BACKPRESSURE_POLICIES_CONFIG_KEY,
        [*ENABLED_BACKPRESSURE_POLICIES, UnstagedUnits],
    )
