"""Settings for a run: its stages, commits and limits."""

from __future__ import annotations

from pydantic import Field

from skytext.config.section import Fraction, PositiveFloat, PositiveInt, Section


class JobConfig(Section):
    """Settings for the units, commits, limits and resources of a run."""

    unit_images: int = Field(
        48,
        ge=1,
        le=4096,
        description="Number of images in a unit. A unit is the smallest amount of work that is "
        "written, recorded or repeated. A unit of 48 images with 5 answers each "
        "nearly fills the batch of an engine. Therefore a few parallel units keep the "
        "batch full. Smaller units need more memory on the node of the driver, "
        "because each task needs about 15 kB there.",
    )
    unit_bytes: PositiveInt = Field(
        64 * 2**20,
        description="Maximum number of encoded bytes in a unit. The setting limits the memory "
        "use if images are large.",
    )
    units_in_flight: int = Field(
        6,
        ge=2,
        le=64,
        description="Number of units that an engine processes at the same time. With several "
        "units, the engine still has work when one unit ends.",
    )
    commit_images: PositiveInt = Field(
        1000, description="Number of images after which finished rows are committed."
    )
    commit_interval_s: PositiveFloat = Field(
        60.0,
        description="Time in seconds after which finished rows are committed, even if there are "
        "fewer than `commit_images` images.",
    )
    cost_per_engine_hour: float | None = Field(
        None,
        ge=0,
        description="Cost of one engine for one hour. If this cost is set, `skytext plan` prints "
        "the cost of a run.",
    )
    max_attempts: PositiveInt = Field(
        3,
        description="Maximum number of attempts for an image. The command `retry-failed` "
        "ignores images that have failed this many times.",
    )
    max_failure_rate: float = Field(
        0.5,
        gt=0,
        le=1,
        description="Maximum share of failed images. If a larger share fails, the run ends "
        "with an error. With 1, the run never ends for this reason.",
    )
    failure_rate_after: PositiveInt = Field(
        500, description="Number of images after which the share of failed images is checked."
    )
    stall_timeout_s: PositiveFloat = Field(
        7200.0,
        description="Maximum time for which a run may finish no unit. After this time, the run "
        "ends with an error. Choose a time that is longer than the start of an "
        "engine, and longer than the run needs to find an image that makes an engine "
        "hang.",
    )
    drain_s: PositiveFloat = Field(
        60.0,
        description="When a run must stop, it first finishes the units that are in progress. This "
        "setting is the maximum time for that. A run must stop after SIGINT or "
        "SIGTERM, or when the cluster announces that the node of the driver will be "
        "removed. A second signal ends the run immediately.",
    )
    lease_s: PositiveFloat = Field(
        30.0,
        description="Duration of a run's lease on the table. The run renews the lease with "
        "heartbeats. If the run sends no heartbeat for this time, the lease expires, "
        "and a run on another machine can start. If the two runs have different "
        "settings, the setting of the run that holds the lease is used.",
    )
    read_cpus: Fraction = Field(
        0.25,
        description="Number of CPUs that a reading task requests. With a whole CPU for each "
        "reading task, no other task could run on a small machine.",
    )
    write_cpus: Fraction = Field(0.1, description="Number of CPUs that a writing task requests.")
    readers: PositiveInt | None = Field(
        None,
        description="Number of shards that are read in parallel. The same number of units is "
        "decoded in parallel. If the number is too low, the engines wait for images. "
        "A higher number needs more memory. null: one shard for each engine, but at "
        "least two shards.",
    )
    writers: PositiveInt | None = Field(
        None,
        description="Number of units that are written in parallel. A small number is enough, "
        "because writing is fast. Each writing task needs a process. null: one "
        "unit for every four engines, but at least two units.",
    )
    wait_for_nodes_s: float = Field(
        0.0,
        ge=0,
        description="Time for which a run waits for more nodes if the cluster is too small and "
        "the autoscaler cannot add the missing nodes. Set this time if nodes are "
        "added to the cluster by hand.",
    )
    object_store_bytes: PositiveInt | None = Field(
        None,
        description="Size of Ray's object store. The setting is used only if a local Ray is "
        "started on this machine. null: 512 MiB, or Ray's minimum if Ray's minimum is "
        "larger.",
    )
