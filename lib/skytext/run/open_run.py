"""The parts that every run needs.

Every run holds its table, is connected to Ray, has a record in the table, and handles signals.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import ray.data

from skytext.archive import Shard
from skytext.config.settings import Config
from skytext.models.checkpoints import ModelIdentity
from skytext.run.cluster.cluster import ray_cluster
from skytext.run.cluster.shared_paths import check_paths
from skytext.run.control.budget import NO_BUDGET, Budget
from skytext.run.control.commit_schedule import Pending, check_not_stopped, commit_as_staged
from skytext.run.control.committer import RemoteCommitter, record_run_remotely
from skytext.run.control.drain_notice import watch_node
from skytext.run.control.interruption import Stopping, watch
from skytext.run.control.stop_flag import StopFlag
from skytext.run.progress import Progress
from skytext.run.ray_dataset import stream
from skytext.run.run_record import Summary, ended_record, installed_versions
from skytext.run.units import UnitRecord
from skytext.table.commits.claim import Claim, hold
from skytext.table.location import TableLocation
from skytext.table.runs_dataset import RunRecord


@dataclass
class OpenRun:
    """A run that holds its table and is connected to Ray.

    Attributes:
        location: address of the table.
        record: the record of the run in the table.
        table: the held table.
        progress: the progress of the run.
        on_progress: called after every unit.
        started: time at which the run started, in seconds of the monotonic clock.
    """

    location: TableLocation
    record: RunRecord
    table: HeldTable
    progress: Progress
    on_progress: Callable[[Progress], None]
    started: float = field(default_factory=time.monotonic)

    @property
    def claim(self) -> Claim:
        """The claim that the run holds on the table."""
        return self.table.claim

    @property
    def stopping(self) -> Stopping:
        """The object that receives requests to end the run early."""
        return self.table.stopping

    @property
    def duration_s(self) -> float:
        """Number of seconds since the run started."""
        return time.monotonic() - self.started

    @property
    def stop(self) -> StopFlag:
        """The stop flag of the run. When it is raised, the stages stop."""
        return StopFlag(self.location, self.record.run_id)

    def end(self, state: str, summary: Summary) -> None:
        """Write the final state and the summary of the run to the table."""
        ended = ended_record(self.record, state, summary)
        record_run_remotely(self.location, ended, is_local=self.stopping.is_node_leaving)


@dataclass(frozen=True, slots=True)
class HeldTable:
    """A table that this process holds, for one run or for several consecutive runs.

    While this object is in use, Ray is connected.

    Attributes:
        claim: the claim that this process holds on the table.
        stopping: the object that receives requests to end a run early.
        budget: the budget that these runs share.
    """

    claim: Claim
    stopping: Stopping
    budget: Budget = NO_BUDGET


@contextmanager
def hold_table(
    command: str,
    location: TableLocation,
    config: Config,
    *,
    ray_address: str | None = None,
    budget: Budget = NO_BUDGET,
) -> Iterator[HeldTable]:
    """Hold the table and connect to Ray during the block.

    Args:
        command: name of the command. It is written to the claim.
        location: the table.
        config: the settings.
        ray_address: address of a cluster; None for ``RAY_ADDRESS`` or a local Ray.
        budget: the budget that all runs in the block share.

    Raises:
        TableHeldError: another running process holds the table.
        JobError: the cluster is not usable.
    """
    job = config.job
    with (
        watch(job.stall_timeout_s, job.drain_s) as stopping,
        hold(location, uuid.uuid4().hex, command, lease_s=job.lease_s) as claim,
        ray_cluster(ray_address, config),
        watch_node(stopping.on_notice),
    ):
        stopping.install()
        yield HeldTable(claim, stopping, budget)


@contextmanager
def open_run(
    command: str,
    location: TableLocation,
    config: Config,
    models: Mapping[str, ModelIdentity],
    *,
    recorded: dict[str, Any],
    shards: Sequence[Shard] = (),
    ray_address: str | None = None,
    held: HeldTable | None = None,
    on_progress: Callable[[Progress], None] = lambda _: None,
) -> Iterator[OpenRun]:
    """Start a run. The table is held during the block.

    Args:
        command: name of the command that starts the run.
        location: the table.
        config: the settings.
        models: the models of the run. The keys are the names of the models in error messages.
        recorded: the settings to write to the record of the run.
        shards: shards of the sources.
        ray_address: see `hold_table`.
        held: the held table, if the caller already holds the table; otherwise None.
        on_progress: called after every unit.

    Raises: the errors of `hold_table`, and
        ConfigError: the path of the table, of a model or of a shard does not exist on a node of the
            cluster.
    """
    run = RunRecord(
        run_id=uuid.uuid4().hex,
        command=command,
        state="started",
        started_at=dt.datetime.now(dt.UTC),
        config=recorded,
        versions=installed_versions(),
    )
    holding = (
        hold_table(command, location, config, ray_address=ray_address)
        if held is None
        else contextlib.nullcontext(held)
    )
    with holding as table:
        check_paths(location, models, shards)
        total_bytes = sum(shard.size_bytes for shard in shards)
        yield OpenRun(location, run, table, Progress(total_bytes), on_progress)


class UnitTaker:
    """Receives the records of a run's units, counts the units, and commits the units.

    Args:
        run: the run.
        committer: the object that commits units.
        commit_images: see `skytext.run.control.commit_schedule.Pending`.
        commit_interval_s: see `skytext.run.control.commit_schedule.Pending`.
        groups: see `skytext.run.control.commit_schedule.Pending`.
    """

    def __init__(
        self,
        run: OpenRun,
        committer: RemoteCommitter,
        commit_images: int,
        commit_interval_s: float,
        groups: Mapping[str, int] | None = None,
    ) -> None:
        self._run = run
        self._committer = committer
        self._pending = Pending(self._commit, commit_images, commit_interval_s, groups)

    def stream(self, dataset: ray.data.Dataset) -> None:
        """Execute a data set that yields unit records, and commit units during the execution.

        Raises:
            InterruptedRunError: a signal or the cluster ended the run. Finished work is committed.
            SkytextError: the error that ended the run.
        """
        run = self._run
        try:
            with contextlib.closing(stream(dataset)) as records:
                run.progress.finish_s = commit_as_staged(
                    records, self._take, self._pending, run.stop, run.stopping
                )
        finally:
            if run.progress.is_budget_spent:
                run.stop.lower()
        check_not_stopped(run.stopping, f"{run.progress.num_committed:,} images")
        run.on_progress(run.progress)

    def check(self) -> None:
        """Raise an error if the run must end. This is called after every unit."""

    def _take(self, record: UnitRecord) -> None:
        run, head = self._run, record.head
        run.progress.is_stopping = run.stopping.is_requested
        run.progress.add(record)
        unit_id = None if record.num_rows is None else head.unit_id
        self._pending.add(unit_id, record.num_rows or 0, head.shard, head.num_listed)
        self.check()
        self._check_budget(record)
        run.on_progress(run.progress)

    def _check_budget(self, record: UnitRecord) -> None:
        """Raise the stop flag if the budget is spent.

        The stages then finish the work that they have started.
        """
        run = self._run
        # Count only images without a failure. Otherwise images that fail in every nightly run would
        # use up the budget for new images.
        run.table.budget.spend(record.num_ok)
        if run.table.budget.is_spent and not run.progress.is_budget_spent:
            run.progress.is_budget_spent = True
            run.stop.raise_()

    def _commit(self, unit_ids: Sequence[str], num_images: int) -> None:
        progress, started = self._run.progress, time.monotonic()
        self._committer.is_local = self._run.stopping.is_node_leaving
        self._committer.commit(unit_ids)
        progress.num_committed += num_images
        progress.commit_s += time.monotonic() - started
