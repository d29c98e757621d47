"""Settings for a run: its stages, commits and limits."""

from __future__ import annotations

from pydantic import Field

from skytext.config.section import Fraction, PositiveFloat, PositiveInt, Section


class JobConfig(Section):
    """The units, commits, limits and resources of a run."""

    unit_images: int = Field(
        48,
        ge=1,
        le=4096,
        description="Number of images in a unit. A unit is always written, recorded and repeated "
        "as a whole. 48 × 5 answers nearly fill the batch of an engine, so a few units at the same "
        "time keep the batch full. Smaller units need more memory on the driver, about 15 kB for "
        "each task.",
    )
    unit_bytes: PositiveInt = Field(
        64 * 2**20,
        description="Maximum number of encoded bytes in a unit. It limits the memory if images are "
        "large.",
    )
    units_in_flight: int = Field(
        6,
        ge=2,
        le=64,
        description="Number of units that an engine processes at the same time. With several "
        "units, the engine always has work, also when one unit ends.",
    )
    commit_images: PositiveInt = Field(
        1000, description="Number of images after which finished rows are committed."
    )
    commit_interval_s: PositiveFloat = Field(
        60.0,
        description="Time in seconds after which finished rows are committed, even if there are "
        "fewer than `commit_images`.",
    )
    cost_per_engine_hour: float | None = Field(
        None,
        ge=0,
        description="Cost of one engine for one hour. If it is set, `skytext plan` prints the cost "
        "of a run.",
    )
    max_attempts: PositiveInt = Field(
        3,
        description="Maximum number of attempts for an image. `retry-failed` does not try an image "
        "again that has failed this many times.",
    )
    max_failure_rate: float = Field(
        0.5,
        gt=0,
        le=1,
        description="Maximum share of failed images. If a larger share fails, the run ends with an "
        "error. 1: the run never ends for this reason.",
    )
    failure_rate_after: PositiveInt = Field(
        500, description="Number of images after which the share of failed images is checked."
    )
    stall_timeout_s: PositiveFloat = Field(
        7200.0,
        description="If a run finishes no unit for this time, the run ends with an error. Choose a "
        "time that is longer than the start of an engine, and longer than the search for one image "
        "that makes the engine hang.",
    )
    drain_s: PositiveFloat = Field(
        60.0,
        description="Time in which the run may finish units that it has started, after SIGINT, "
        "SIGTERM or a notice that the node of the driver will be removed. A second signal ends the "
        "run immediately.",
    )
    lease_s: PositiveFloat = Field(
        30.0,
        description="Duration of a run's lease on the table. If the run that holds the table is on "
        "another machine and sends no heartbeat for this time, the lease expires, and a new run "
        "can claim the table. The value of the run that holds the table applies.",
    )
    read_cpus: Fraction = Field(
        0.25,
        description="Number of CPUs that a reading task requests. If it requested a whole CPU, no "
        "other task could run on a small machine.",
    )
    write_cpus: Fraction = Field(0.1, description="Number of CPUs that a writing task requests.")
    readers: PositiveInt | None = Field(
        None,
        description="Number of shards that are read in parallel. It is also the number of units "
        "that are decoded in parallel. The value must be high enough to supply the engines with "
        "images; a higher value needs more memory. null: one for each engine, at least two.",
    )
    writers: PositiveInt | None = Field(
        None,
        description="Number of units that are written in parallel. A few are enough, because "
        "writing is fast, and each writing task needs a process. null: one for every four engines, "
        "at least two.",
    )
    wait_for_nodes_s: float = Field(
        0.0,
        ge=0,
        description="How long a run waits if the cluster is too small and its autoscaler cannot "
        "add the missing nodes. Use it for clusters to which a person adds nodes.",
    )
    object_store_bytes: PositiveInt | None = Field(
        None,
        description="Size of the object store of a Ray that runs only on this machine. null: 512 "
        "MiB, or Ray's minimum if this is larger.",
    )
