"""Determine how many actors and tasks each stage of a captioning run has. Ray is not needed."""

from __future__ import annotations

import math
from dataclasses import dataclass

from skytext.config.settings import Config

_FEWEST_TASKS = 2
_ENGINES_A_WRITER = 4


@dataclass(frozen=True, slots=True)
class PoolSizes:
    """The number of concurrent actors or tasks of each stage.

    Attributes:
        num_engines: number of vLLM actors when the run starts.
        max_engines: maximum number of vLLM actors.
        num_embedders: number of embedding actors.
        num_readers: number of tasks that read shards. The number of tasks that decode images is the
            same.
        num_writers: number of tasks that stage units.
    """

    num_engines: int
    max_engines: int
    num_embedders: int
    num_readers: int
    num_writers: int

    def describe(self) -> str:
        """Return the sizes as a string for messages."""
        engines = f"{self.num_engines}"
        if self.max_engines > self.num_engines:
            engines += f" to {self.max_engines}"
        return (
            f"engines {engines}, embedders {self.num_embedders}, readers {self.num_readers}, "
            f"writers {self.num_writers}"
        )

    def to_json(self) -> dict[str, int]:
        """Return the fields as a JSON object."""
        return {name: getattr(self, name) for name in self.__slots__}


def pool_sizes(
    config: Config, free_cpus: float = math.inf, free_gpus: float = math.inf
) -> PoolSizes:
    """Return the sizes of all stages.

    If the settings do not contain the size of a stage, the size depends on the number of engines.

    Args:
        config: the settings.
        free_cpus: number of CPUs of the cluster, minus the CPUs of the initial engines.
        free_gpus: number of GPUs of the cluster, minus the GPUs of the initial engines.
    """
    engine, embed, job = config.caption.engine, config.embed, config.job
    engines = engine.engine_limit
    fitting = (free_cpus - job.read_cpus - job.write_cpus) / embed.num_cpus_per_actor
    if embed.num_gpus_per_actor:
        fitting = min(fitting, free_gpus / embed.num_gpus_per_actor)
    return PoolSizes(
        num_engines=engine.num_engines,
        max_engines=engines,
        num_embedders=embed.num_actors or max(1, math.floor(min(fitting, engines))),
        num_readers=job.readers or max(_FEWEST_TASKS, engines),
        num_writers=job.writers or max(_FEWEST_TASKS, math.ceil(engines / _ENGINES_A_WRITER)),
    )
