"""Limit the number of unstaged units with a backpressure policy of Ray Data.

Captions that are not staged yet are lost with their node or with the driver. Ray Data limits queues
by bytes, but captions are small. Without this limit they would pile up behind a slow embedder or
a slow store.

The driver checks the limit before it gives a unit to an engine. An actor or task must not wait
here: it would hold a slot that the recomputation of lost blocks may need, and the run would hang.

Ray Data ignores the limit while no operator has a task, to keep the execution alive. So the engines
may be further ahead while the first embedder still starts.
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
    """Gives the captioner no more units while too many of its units are unstaged.

    Ray Data makes one policy per execution, on the driver. A run's last operator writes one row per
    unit of the captioner, so the difference of the two counts is the number of unstaged units. A
    unit that is recomputed after the loss of a node counts once.

    Args:
        data_context: contains the limit; see `limit_unstaged`.
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
    """Limit the number of units of ``operator`` without a record.

    The limit is the images of one commit, or enough units to keep all actors of the operator busy.

    Args:
        context: context of the data set to execute.
        operator: name of the operator's class.
        job: sizes of units and commits.
    """
    min_units = math.ceil(job.commit_images / job.unit_images)
    # Larger than the work of all actors. Otherwise the limit would be reached by units in work, and
    # Ray Data would never add an actor.
    units_per_actor = job.units_in_flight + 4
    context.set_config(_SETTING, (operator, min_units, units_per_actor))
    context.set_config(
        ENABLED_BACKPRESSURE_POLICIES_CONFIG_KEY,
        [*ENABLED_BACKPRESSURE_POLICIES, UnstagedUnits],
    )
