"""Settings of a run: its stages, its commits, and when it gives up."""

from __future__ import annotations

from pydantic import Field

from skytext.config.section import Fraction, PositiveFloat, PositiveInt, Section


class JobConfig(Section):
    """How the work is cut up and kept."""

    unit_images: int = Field(
        48,
        ge=1,
        le=4096,
        description="Images a unit: written, recorded and repeated together. 48 × 5 answers nearly "
        "fill an engine's batch, so a few units in flight keep it full; smaller ones cost the "
        "driver memory, which keeps about 15 kB a task.",
    )
    unit_bytes: PositiveInt = Field(
        64 * 2**20, description="Encoded bytes a unit at the most: bounds memory on large images."
    )
    units_in_flight: int = Field(
        6,
        ge=2,
        le=64,
        description="Units that an engine works on at once: it never drains between.",
    )
    commit_images: PositiveInt = Field(1000, description="Commit after this many images …")
    commit_interval_s: PositiveFloat = Field(60.0, description="… or this long, whichever first.")
    cost_per_engine_hour: float | None = Field(
        None, ge=0, description="What an engine's machine costs an hour: `plan` then says a price."
    )
    max_attempts: PositiveInt = Field(
        3, description="`retry-failed` leaves an image alone that failed this often."
    )
    max_failure_rate: float = Field(
        0.5, gt=0, le=1, description="A larger share of failed images ends the run; 1: none does."
    )
    failure_rate_after: PositiveInt = Field(
        500, description="Images after which the share of failures is judged."
    )
    stall_timeout_s: PositiveFloat = Field(
        7200.0,
        description="A run in which no unit is finished for so long ends; longer than it takes an "
        "engine to start, or to find the one image in its batch that hangs it.",
    )
    drain_s: PositiveFloat = Field(
        60.0,
        description="After SIGINT, SIGTERM or a notice that the driver's node goes away, how long "
        "what is in flight may take to finish; a second signal gives it up at once.",
    )
    lease_s: PositiveFloat = Field(
        30.0,
        description="A run on another machine that shows no sign of life for so long has lost "
        "its table. It is written into the run's claim: others wait as long as its holder said.",
    )
    read_cpus: Fraction = Field(
        0.25, description="CPUs a reading task asks for: a whole one starves small machines."
    )
    write_cpus: Fraction = Field(0.1, description="CPUs a writing task asks for.")
    readers: PositiveInt | None = Field(
        None,
        description="Shards read at once, and units decoded at once: enough to be ahead of the "
        "engines, few enough that memory stays flat; null: one for each engine, at least two.",
    )
    writers: PositiveInt | None = Field(
        None,
        description="Units written at once: writing is quick, and every task is a process; null: "
        "one for every four engines, at least two.",
    )
    wait_for_nodes_s: float = Field(
        0.0,
        ge=0,
        description="How long a run waits for nodes that the plan needs and that neither the "
        "cluster nor its autoscaler has: for clusters to which nodes are added by hand.",
    )
    object_store_bytes: PositiveInt | None = Field(
        None, description="Object store of a local Ray; null: 512 MiB or Ray's minimum."
    )
