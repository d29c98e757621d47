"""Run a plan: claim the table, prepare it, stream the job, commit, and prove it."""

from __future__ import annotations

import contextlib
import datetime as dt
import time
import uuid
from collections.abc import Callable, Sequence

from skytext.errors import (
    FailureRateError,
    IncompleteRunError,
    InterruptedRunError,
    StoreFaultError,
)
from skytext.run.caption_plan import CaptionPlan
from skytext.run.control.capacity import fit_plan, read_offer
from skytext.run.control.cluster import ray_cluster
from skytext.run.control.commit_schedule import Pending, check_not_stopped, commit_as_staged
from skytext.run.control.committer import RemoteCommitter, record_run_remotely
from skytext.run.control.drain_notice import watch_node
from skytext.run.control.interruption import Stopping, watch
from skytext.run.control.prepare_table import Prepared, prepare
from skytext.run.control.shared_paths import check_paths
from skytext.run.control.stop_flag import StopFlag
from skytext.run.passes import datasets_of_run
from skytext.run.pool_sizes import PoolSizes
from skytext.run.progress import Progress, RunSummary, summarise
from skytext.run.prove_run import prove_headers, prove_rows
from skytext.run.ray_dataset import stream
from skytext.run.run_record import ended_record, installed_versions
from skytext.run.stages.write_rows import UnitRecord
from skytext.table.commits.claim import Claim, hold
from skytext.table.runs_dataset import RunRecord
from skytext.table.store_preflight import check_store

_MIN_AWAY = 8
_ENDS = (InterruptedRunError, FailureRateError, StoreFaultError, IncompleteRunError)
"""Ends of a run that its record tells; of any other its last word is that it started."""


def run_caption(
    plan: CaptionPlan,
    *,
    ray_address: str | None = None,
    verify_all: bool = False,
    on_progress: Callable[[Progress], None] = lambda _: None,
    on_note: Callable[[str], None] = lambda _: None,
) -> RunSummary:
    """Do what a plan has to do, and prove that every image has one row.

    Shards that the store did not give are reported in the summary; the next run reads them.

    Args:
        plan: from `plan_caption` or `plan_retry`.
        ray_address: a cluster; None for ``RAY_ADDRESS`` or a local Ray.
        verify_all: at the end, compare the headers of all shards with what was read of them; else
            of 1 % of those that the run read, at least three.
        on_progress: called after every unit.
        on_note: is told what the run waits for.

    Raises:
        TableError: the store of a new table breaks a rule that a table rests on.
        TableHeldError: another run that lives holds the table.
        CapacityError: the plan does not fit the cluster.
        JobError: the work failed; what was committed stays, a re-run goes on from there.
        OSError: a disk is full or refuses; the same holds.
        FailureRateError: too large a part of the images failed.
        InterruptedRunError: a signal asked for the end; what was done is committed.
        StoreFaultError: the store gave none of many shards in a row.
        IncompleteRunError: the evidence does not show one row for every image.
    """
    job, run = plan.config.job, _run_record(plan, uuid.uuid4().hex)
    if plan.is_new_table:
        check_store(plan.location)
    with (
        watch(job.stall_timeout_s, job.drain_s) as stopping,
        hold(plan.location, run.run_id, plan.command, lease_s=job.lease_s) as claim,
        ray_cluster(ray_address, plan.config),
        watch_node(stopping.on_notice),
    ):
        stopping.install()
        models = {"the model": plan.caption_model, "the embedding model": plan.embed_model}
        check_paths(plan.location, models, plan.shards)
        sizes, gpus = fit_plan(plan.config, read_offer(), on_note)
        return _run(plan, run, claim, (sizes, gpus), stopping, on_progress, verify_all)


def _run(
    plan: CaptionPlan,
    run: RunRecord,
    claim: Claim,
    pools: tuple[PoolSizes, float],
    stopping: Stopping,
    on_progress: Callable[[Progress], None],
    verify_all: bool,
) -> RunSummary:
    started, progress = time.monotonic(), Progress(plan.total_bytes)
    prepared = prepare(claim, plan.identity, plan.shards, plan.options(), run)
    progress.prepare_s = time.monotonic() - started
    progress.num_adopted = prepared.adoption.num_adopted
    progress.num_gone_with_shard = prepared.num_gone_with_shard
    must_read = _count_settled(plan, prepared, progress)
    committer = RemoteCommitter(claim, plan.identity, prepared.version)
    is_recorded = must_read or progress.num_adopted > 0
    try:
        if must_read:
            units = _Units(plan, pools[0].num_readers, committer, progress, stopping, on_progress)
            stop = StopFlag(plan.location, run.run_id)
            for dataset in datasets_of_run(
                plan, prepared, run.run_id, pools, progress, lambda: committer.version
            ):
                with contextlib.closing(stream(dataset)) as records:
                    progress.finish_s = commit_as_staged(
                        records, units.take, units.pending, stop, stopping
                    )
                check_not_stopped(stopping, f"{progress.num_committed:,} images")
            on_progress(progress)
        proving = time.monotonic()
        num_stale = prove_rows(plan, prepared, committer.version, progress)
        prove_headers(
            plan,
            prepared,
            progress,
            None if verify_all else run.run_id,
            num_tasks=pools[0].num_readers,
            on_wait=lambda: check_not_stopped(stopping, f"{progress.num_committed:,} images"),
        )
        progress.finish_s += time.monotonic() - proving
    except _ENDS as error:
        if is_recorded:
            state = "interrupted" if isinstance(error, InterruptedRunError) else "failed"
            summary = _summary_so_far(run, progress, committer, started)
            ended = ended_record(run, state, summary)
            record_run_remotely(plan.location, ended, is_local=stopping.is_node_leaving)
        raise
    duration_s = time.monotonic() - started
    summary = summarise(run.run_id, progress, num_stale, committer.version, duration_s)
    if is_recorded:
        state = "incomplete" if summary.num_unread else "done"
        record_run_remotely(plan.location, ended_record(run, state, summary))
    return summary


def _count_settled(plan: CaptionPlan, prepared: Prepared, progress: Progress) -> bool:
    """Count the shards in which there is nothing to do; return whether there are others."""
    for shard in prepared.shards:
        # A retry is about the images that failed; the others are no part of it.
        if not shard.must_read and not plan.retry_failed:
            progress.add_settled(shard)
    return any(shard.must_read for shard in prepared.shards)


class _Units:
    """Counts the units of a run as their records come, and commits them."""

    def __init__(
        self,
        plan: CaptionPlan,
        num_readers: int,
        committer: RemoteCommitter,
        progress: Progress,
        stopping: Stopping,
        on_progress: Callable[[Progress], None],
    ) -> None:
        self._job = plan.config.job
        self._max_away = max(_MIN_AWAY, 2 * num_readers)
        self._committer = committer
        self._progress = progress
        self._stopping = stopping
        self._on_progress = on_progress
        self.pending = Pending(self._commit, self._job.commit_images, self._job.commit_interval_s)

    def take(self, record: UnitRecord) -> None:
        """Take a unit in, and commit where it is time.

        Raises:
            FailureRateError: too large a part of the images failed.
            StoreFaultError: the store gave no answer for the last shards.
        """
        self._progress.is_stopping = self._stopping.is_asked
        self._progress.add(record)
        is_staged = record.num_rows is not None
        self.pending.add(record.head.unit_id if is_staged else None, record.num_rows or 0)
        self._check_failure_rate()
        self._check_store()
        self._on_progress(self._progress)

    def _commit(self, unit_ids: Sequence[str], num_images: int) -> None:
        started = time.monotonic()
        self._committer.is_local = self._stopping.is_node_leaving
        self._committer.commit(unit_ids)
        self._progress.num_committed += num_images
        self._progress.commit_s += time.monotonic() - started

    def _check_store(self) -> None:
        """End a run whose store answers nothing: every further shard would wait in vain."""
        if self._progress.num_away_in_a_row >= self._max_away:
            *_, why = self._progress.unread.values()
            raise StoreFaultError(
                f"the store gave no answer for the last {self._progress.num_away_in_a_row} shards: "
                f"{why}; what was read is committed, run the same command again"
            )

    def _check_failure_rate(self) -> None:
        num_done, job = self._progress.num_done, self._job
        if num_done < job.failure_rate_after or job.max_failure_rate >= 1:
            return
        if self._progress.num_failed > job.max_failure_rate * num_done:
            worst, count = self._progress.failures.most_common(1)[0]
            raise FailureRateError(
                f"{self._progress.num_failed:,} of the first {num_done:,} images failed, mostly by "
                f"{worst} ({count:,}): more than --max-failure-rate {job.max_failure_rate:g} "
                "allows; what is done is committed, skytext failures shows samples"
            )


def _run_record(plan: CaptionPlan, run_id: str) -> RunRecord:
    return RunRecord(
        run_id=run_id,
        command=plan.command,
        state="started",
        started_at=dt.datetime.now(dt.UTC),
        config=plan.config.model_dump(mode="json") | {"sources": list(plan.sources)},
        versions=installed_versions(),
    )


def _summary_so_far(
    run: RunRecord, progress: Progress, committer: RemoteCommitter, started: float
) -> RunSummary:
    duration_s = time.monotonic() - started
    return summarise(run.run_id, progress, 0, committer.version, duration_s)
