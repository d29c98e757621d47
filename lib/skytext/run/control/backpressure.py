"""Limit the units between the captioner and their records, by a backpressure policy of Ray Data.

Captions that are not staged yet are lost with a node or with the driver. Ray Data limits what is
queued between operators by bytes, and captions are small: behind a slow embedder or a slow store
they would pile up without limit.

The limit is kept on the driver, before a unit is given to an engine. Nothing waits inside an actor
or a task: a call that waits there holds a slot that the recomputation of lost blocks may need, and
the run would hang.
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
    """Gives the captioner no more units while too many of its units are not staged.

    Ray Data makes one policy an execution, on the driver. A run's last operator writes one row for
    each unit that the captioner was given, so the difference of the two counts is what is between
    them. A unit that is computed again after the loss of a node is not counted twice.

    Args:
        data_context: holds the limit; see `limit_unstaged`.
        topology: the operators, from first to last.
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
        """Return whether ``op`` may be given one more unit."""
        if self._limited is None or op is not self._limited:
            return True
        num_actors = sum(pool.current_size() for pool in op.get_autoscaling_actor_pools())
        limit = max(self._min_units, num_actors * self._units_per_actor)
        num_given: int = op.metrics.num_inputs_received
        num_staged: int = self._last.metrics.rows_task_outputs_generated
        return bool(num_given - num_staged < limit)


def limit_unstaged(context: DataContext, operator: str, job: JobConfig) -> None:
    """Limit how many units of ``operator`` may be without a record.

    The limit is one commit's images, or as many units as keep all actors of the operator busy.

    Args:
        context: of the data set that will be executed.
        operator: the name of the class that the operator calls.
        job: the size of units and commits.
    """
    min_units = math.ceil(job.commit_images / job.unit_images)
    # More than an actor holds: where the limit were reached by units that are in work, Ray Data
    # would never see a reason to add an actor.
    units_per_actor = job.units_in_flight + 4
    context.set_config(_SETTING, (operator, min_units, units_per_actor))
    context.set_config(
        ENABLED_BACKPRESSURE_POLICIES_CONFIG_KEY,
        [*ENABLED_BACKPRESSURE_POLICIES, UnstagedUnits],
    )
