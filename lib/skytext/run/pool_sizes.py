"""Numbers of actors and tasks for the stages of a captioning run (no Ray)."""

from __future__ import annotations

import math
from dataclasses import dataclass

from skytext.config.settings import Config

_FEWEST_TASKS = 2
_ENGINES_A_WRITER = 4


@dataclass(frozen=True, slots=True)
class PoolSizes:
    """Numbers of concurrent actors and tasks.

    Attributes:
        num_engines: vLLM actors at the start.
        max_engines: maximum number of vLLM actors.
        num_embedders: embedding actors.
        num_readers: tasks that read shards; the same number of tasks decodes.
        num_writers: tasks that stage units.
    """

    num_engines: int
    max_engines: int
    num_embedders: int
    num_readers: int
    num_writers: int

    def describe(self) -> str:
        """Return the sizes as text for messages."""
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
    """Return the configured sizes; unset ones are derived from the engines.

    Args:
        config: the settings.
        free_cpus: CPUs of the cluster without those of the initial engines.
        free_gpus: GPUs of the cluster without those of the initial engines.
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
