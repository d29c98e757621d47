"""Test the limit of units without a record. Fake operators replace the operators of Ray Data."""

from __future__ import annotations

from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest
from ray.data import DataContext

from skytext.config.job import JobConfig
from skytext.run.control.backpressure import UnstagedUnits, limit_unstaged


@dataclass(eq=False)
class Operator:
    """A replacement for an operator of Ray Data."""

    name: str
    num_actors: int = 0
    metrics: Any = field(
        default_factory=lambda: SimpleNamespace(
            num_inputs_received=0, rows_task_outputs_generated=0
        )
    )

    def get_autoscaling_actor_pools(self) -> list[Any]:
        return [SimpleNamespace(current_size=lambda: self.num_actors)] if self.num_actors else []


def policy_of(job: JobConfig, *operators: Operator) -> UnstagedUnits:
    context = DataContext()
    limit_unstaged(context, "CaptionUnits", job)
    return UnstagedUnits(context, dict.fromkeys(operators), None)


@pytest.mark.parametrize(
    ("num_engines", "commit_images", "limit"),
    [
        (1, 4, 7),  # three units in flight and four further units
        (2, 4, 14),  # the same limit for each of two engines
        (1, 100, 10),  # the units of one commit
    ],
)
def test_the_number_of_unstaged_units_is_limited(
    num_engines: int, commit_images: int, limit: int
) -> None:
    job = JobConfig(unit_images=10, commit_images=commit_images, units_in_flight=3)
    reader, writer = Operator("MapBatches(ShardReader)"), Operator("MapBatches(UnitWriter)")
    captioner = Operator("MapBatches(CaptionUnits)", num_engines)
    policy = policy_of(job, reader, captioner, writer)
    captioner.metrics.num_inputs_received = limit - 1
    assert policy.can_add_input(captioner)
    captioner.metrics.num_inputs_received = limit
    assert not policy.can_add_input(captioner)
    assert policy.can_add_input(reader)
    assert policy.can_add_input(writer)
    writer.metrics.rows_task_outputs_generated = 1
    assert policy.can_add_input(captioner)


def test_other_data_sets_are_not_limited() -> None:
    reader, writer = Operator("MapBatches(ImageFetcher)"), Operator("MapBatches(StageVectors)", 1)
    policy = policy_of(JobConfig(commit_images=1, unit_images=1), reader, writer)
    writer.metrics.num_inputs_received = 10_000
    assert policy.can_add_input(reader)
    assert policy.can_add_input(writer)
    assert UnstagedUnits(DataContext(), {reader: None}, None).can_add_input(reader)
