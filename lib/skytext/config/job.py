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
        description="Images per unit. A unit is written, recorded and repeated as a whole. 48 × 5 "
        "answers nearly fill an engine's batch, so a few units keep it full. Smaller units cost "
        "memory of the driver, about 15 kB per task.",
    )
    unit_bytes: PositiveInt = Field(
        64 * 2**20, description="Maximum encoded bytes per unit: limits memory for large images."
    )
    units_in_flight: int = Field(
        6,
        ge=2,
        le=64,
        description="Units that an engine works on at once, so that its batch stays full.",
    )
    commit_images: PositiveInt = Field(1000, description="Commit after this many images.")
    commit_interval_s: PositiveFloat = Field(60.0, description="Commit after this many seconds.")
    cost_per_engine_hour: float | None = Field(
        None, ge=0, description="Cost of an engine's machine per hour, for the estimate of `plan`."
    )
    max_attempts: PositiveInt = Field(
        3, description="`retry-failed` skips images with this many failed attempts."
    )
    max_failure_rate: float = Field(
        0.5, gt=0, le=1, description="A larger share of failed images ends the run; 1: no limit."
    )
    failure_rate_after: PositiveInt = Field(
        500, description="Number of images after which the share of failures is checked."
    )
    stall_timeout_s: PositiveFloat = Field(
        7200.0,
        description="A run without any finished unit for this long ends. It must be longer than an "
        "engine's start, and than the search for an image that hangs the engine.",
    )
    drain_s: PositiveFloat = Field(
        60.0,
        description="Maximum time to finish the work in flight after SIGINT, SIGTERM or a notice "
        "that the driver's node leaves. A second signal abandons it at once.",
    )
    lease_s: PositiveFloat = Field(
        30.0,
        description="Lease time: a run on another machine without a heartbeat for this long loses "
        "its table. The claim contains it, and other runs use the holder's value.",
    )
    read_cpus: Fraction = Field(
        0.25, description="CPUs per reading task. A whole CPU is too much on small machines."
    )
    write_cpus: Fraction = Field(0.1, description="CPUs per writing task.")
    readers: PositiveInt | None = Field(
        None,
        description="Concurrent reading tasks and decoding tasks. They must stay ahead of the "
        "engines without using much memory. null: one per engine, at least two.",
    )
    writers: PositiveInt | None = Field(
        None,
        description="Concurrent writing tasks. Writing is fast, and every task is a process. null: "
        "one per four engines, at least two.",
    )
    wait_for_nodes_s: float = Field(
        0.0,
        ge=0,
        description="Maximum wait for nodes that neither the cluster nor its autoscaler has yet: "
        "for clusters to which nodes are added by hand.",
    )
    object_store_bytes: PositiveInt | None = Field(
        None, description="Object store of a local Ray; null: 512 MiB or Ray's minimum."
    )
