"""Settings of a run: its stages, commits and limits."""

from __future__ import annotations

from pydantic import Field

from skytext.config.section import Fraction, PositiveFloat, PositiveInt, Section


class JobConfig(Section):
    """Units, commits, limits and resources of a run."""

    unit_images: int = Field(
        48,
        ge=1,
        le=4096,
        description="Images in a unit. A unit is written, recorded and repeated as a whole. 48 "
        "× 5 answers nearly fill the batch of an engine, so a few units in flight "
        "keep it full. Smaller units cost memory of the driver, about 15 kB for "
        "each task.",
    )
    unit_bytes: PositiveInt = Field(
        64 * 2**20,
        description="Greatest number of encoded bytes in a unit: limits memory for large images.",
    )
    units_in_flight: int = Field(
        6,
        ge=2,
        le=64,
        description="Units that an engine processes at once, so that it never drains between "
        "units.",
    )
    commit_images: PositiveInt = Field(1000, description="Commit after this many images …")
    commit_interval_s: PositiveFloat = Field(
        60.0, description="… or after this many seconds, whichever is first."
    )
    cost_per_engine_hour: float | None = Field(
        None,
        ge=0,
        description="Cost of an engine's machine for one hour. `plan` then prints a price.",
    )
    max_attempts: PositiveInt = Field(
        3, description="`retry-failed` does not try an image again that failed this often."
    )
    max_failure_rate: float = Field(
        0.5, gt=0, le=1, description="The run ends if a larger share of the images fails; 1: never."
    )
    failure_rate_after: PositiveInt = Field(
        500, description="The share of failures is checked after this many images."
    )
    stall_timeout_s: PositiveFloat = Field(
        7200.0,
        description="A run that finishes no unit for this long ends. Choose it longer than the "
        "start of an engine, and longer than the search for one image that makes "
        "the engine hang.",
    )
    drain_s: PositiveFloat = Field(
        60.0,
        description="Time to finish work in flight after SIGINT, SIGTERM or a notice that the "
        "driver's node will go away. A second signal ends it at once.",
    )
    lease_s: PositiveFloat = Field(
        30.0,
        description="A run on another machine without a heartbeat for this long loses the "
        "table. The value is part of the run's claim, and other runs use the value "
        "of the holder.",
    )
    read_cpus: Fraction = Field(
        0.25,
        description="CPUs that a reading task requests. A whole CPU would block small machines.",
    )
    write_cpus: Fraction = Field(0.1, description="CPUs that a writing task requests.")
    readers: PositiveInt | None = Field(
        None,
        description="Number of shards read at once, and of units decoded at once. It must "
        "supply the engines; a higher value needs more memory. null: one for each "
        "engine, at least two.",
    )
    writers: PositiveInt | None = Field(
        None,
        description="Number of units written at once. Writing is fast, and each task is a "
        "process. null: one for every four engines, at least two.",
    )
    wait_for_nodes_s: float = Field(
        0.0,
        ge=0,
        description="Time that a run waits for nodes that neither the cluster nor its "
        "autoscaler has. For clusters to which nodes are added by hand.",
    )
    object_store_bytes: PositiveInt | None = Field(
        None, description="Size of the object store of a local Ray; null: 512 MiB or Ray's minimum."
    )
