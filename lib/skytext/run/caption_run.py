"""Execute a captioning plan.

A run claims the table, prepares the table, streams images through all stages, commits the rows, and
verifies the result.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace

from ray.exceptions import RayError

from skytext.config.job import JobConfig
from skytext.errors import (
    FailureRateError,
    IncompleteRunError,
    InterruptedRunError,
    StoreFaultError,
)
from skytext.models.checkpoints import ModelIdentity
from skytext.run.cluster.capacity import fit_plan, read_offer
from skytext.run.control.commit_schedule import check_not_stopped
from skytext.run.control.committer import RemoteCommitter
from skytext.run.control.live_count import LiveCount
from skytext.run.control.prepare_table import Prepared, prepare
from skytext.run.control.watcher import watching
from skytext.run.open_run import HeldTable, OpenRun, UnitTaker, open_run
from skytext.run.passes import datasets_of_run
from skytext.run.plans.caption_plan import CaptionPlan
from skytext.run.pool_sizes import PoolSizes
from skytext.run.progress import Progress, RunSummary, summarise
from skytext.run.prove_run import prove_headers, prove_rows
from skytext.run.vector_run import run_vectors
from skytext.table.store.store_preflight import check_store
from skytext.table.vector_columns import VectorKind

_MIN_AWAY = 8
_REPORT_EVERY_S = 1.0
_OF = {VectorKind.TEXT: "the descriptions", VectorKind.IMAGE: "the images"}
_ENDS = (InterruptedRunError, FailureRateError, StoreFaultError, IncompleteRunError)
"""If a run ends with one of these errors, a final state is written to the record of the run. If a
run ends with another error, the state in the record stays ``started``."""


def run_caption(
    plan: CaptionPlan,
    *,
    ray_address: str | None = None,
    held: HeldTable | None = None,
    verify_all: bool = False,
    on_progress: Callable[[Progress], None] = lambda _: None,
    on_described: Callable[[int], None] = lambda _: None,
    on_note: Callable[[str], None] = lambda _: None,
) -> RunSummary:
    """Execute a plan, and verify that every image has one row.

    If the plan has stale vectors, the function first replaces them by vectors of the configured
    models. There is one run for descriptions and one run for images. If the store did not deliver
    a shard, the summary contains this shard, and the next run reads it.

    Args:
        plan: the result of `plan_caption` or `plan_retry`.
        ray_address: address of a cluster; None for ``RAY_ADDRESS`` or a local Ray.
        held: the held table, if the caller already holds the table; otherwise None.
        verify_all: whether the headers of all shards are compared with their manifests at the end.
            If false, only a sample of shards is compared. The sample contains 1 % of the shards
            that the run read, but at least three shards.
        on_progress: called after every unit.
        on_described: receives the number of images that the engines have described. The number
            includes images in units that are not finished. A separate thread calls this function
            every second.
        on_note: receives a message if the run waits, and before stale vectors are replaced.

    Raises:
        TableError: the store cannot hold a new table.
        TableHeldError: another running process holds the table.
        CapacityError: the plan needs more resources than the cluster has.
        JobError: the work failed. Committed work is kept, and the next run continues from there.
        OSError: a disk is full or failed. Committed work is kept, and the next run continues from
            there.
        FailureRateError: too many images failed.
        InterruptedRunError: a signal or the cluster ended the run. Finished work is committed.
        StoreFaultError: the store did not respond for many consecutive shards.
        IncompleteRunError: the verification found an error.
    """
    if plan.is_new_table:
        check_store(plan.location)
    vectors = []
    for one in plan.stale_vectors:
        on_note(f"embedding {_OF[one.column.kind]} again, with {one.model.name}")
        vectors.append(run_vectors(one, ray_address=ray_address, held=held))
    with open_run(
        plan.command,
        plan.location,
        plan.config,
        _models(plan),
        recorded=plan.config.model_dump(mode="json") | {"sources": list(plan.sources)},
        shards=plan.shards,
        ray_address=ray_address,
        held=held,
        on_progress=on_progress,
    ) as run:
        pools = fit_plan(plan.config, read_offer(), on_note)
        with _described(run, on_described):
            summary = _run(plan, run, pools, verify_all)
    return replace(summary, stale_vectors=[one.to_json() for one in vectors])


def _models(plan: CaptionPlan) -> dict[str, ModelIdentity]:
    models = {"the model": plan.caption_model, "the embedding model": plan.embed_model}
    if plan.pending is not None:
        models["the new embedding model"] = plan.pending.model
    return models


def _run(
    plan: CaptionPlan, run: OpenRun, pools: tuple[PoolSizes, float], verify_all: bool
) -> RunSummary:
    progress, num_tasks = run.progress, pools[0].num_readers
    prepared = prepare(run.claim, plan.column, plan.shards, plan.options(), run.record)
    progress.prepare_s = run.duration_s
    progress.num_adopted = prepared.adoption.num_adopted
    progress.num_gone_with_shard = prepared.num_gone_with_shard
    must_read = _count_settled(plan, prepared, progress)
    committer = RemoteCommitter(run.claim, plan.column, prepared.version)
    is_recorded = must_read or progress.num_adopted > 0
    try:
        if must_read:
            taker = _CaptionTaker(run, committer, plan.config.job, num_tasks)
            for dataset in datasets_of_run(
                plan, prepared, run.record.run_id, pools, progress, lambda: committer.version
            ):
                taker.stream(dataset)
                if progress.is_budget_spent:
                    break
        num_stale = 0
        if not progress.is_budget_spent:
            num_stale = _prove(plan, prepared, run, committer, verify_all, num_tasks)
    except _ENDS as error:
        if is_recorded:
            state = "interrupted" if isinstance(error, InterruptedRunError) else "failed"
            run.end(state, _summary(run, committer))
        raise
    summary = _summary(run, committer, num_stale)
    if is_recorded:
        state = "incomplete" if summary.num_unread else "done"
        run.end("partial" if summary.is_partial else state, summary)
    return summary


@contextmanager
def _described(run: OpenRun, on_described: Callable[[int], None]) -> Iterator[None]:
    """During the block, call ``on_described`` every second with the number of described images."""
    count = LiveCount(run.record.run_id)

    def report(_: threading.Event) -> bool:
        # Ignore errors of Ray here. If Ray has failed, the main thread raises an error.
        with contextlib.suppress(RayError):
            on_described(count.read())
        return True

    with watching("skytext-described", lambda: _REPORT_EVERY_S, report):
        yield
    count.delete()


def _prove(
    plan: CaptionPlan,
    prepared: Prepared,
    run: OpenRun,
    committer: RemoteCommitter,
    verify_all: bool,
    num_tasks: int,
) -> int:
    """Verify that every image has one row. Return the number of stale rows.

    Raises:
        IncompleteRunError: the verification found an error.
    """
    progress, proving = run.progress, time.monotonic()
    num_stale = prove_rows(plan, prepared, committer.version, progress)
    prove_headers(
        plan,
        prepared,
        progress,
        None if verify_all else run.record.run_id,
        num_tasks=num_tasks,
        on_wait=lambda: check_not_stopped(run.stopping, f"{progress.num_committed:,} images"),
    )
    progress.finish_s += time.monotonic() - proving
    return num_stale


def _summary(run: OpenRun, committer: RemoteCommitter, num_stale: int = 0) -> RunSummary:
    return summarise(run.record.run_id, run.progress, num_stale, committer.version, run.duration_s)


def _count_settled(plan: CaptionPlan, prepared: Prepared, progress: Progress) -> bool:
    """Count the shards that need no work. Return whether at least one shard needs work."""
    for shard in prepared.shards:
        # ``retry-failed`` processes only failed images, so it does not count the other images.
        if not shard.must_read and not plan.retry_failed:
            progress.add_settled(shard)
    return any(shard.must_read for shard in prepared.shards)


class _CaptionTaker(UnitTaker):
    """Commits the units of a captioning run, and ends the run early in two cases.

    The run ends early if too many images failed, or if the store does not respond.
    """

    def __init__(
        self, run: OpenRun, committer: RemoteCommitter, job: JobConfig, num_readers: int
    ) -> None:
        super().__init__(run, committer, job.commit_images, job.commit_interval_s)
        self._progress = run.progress
        self._job = job
        self._max_away = max(_MIN_AWAY, 2 * num_readers)

    def check(self) -> None:
        """Raise an error if the run must end.

        Raises:
            FailureRateError: too many images failed.
            StoreFaultError: the store did not respond for the last shards.
        """
        self._check_failure_rate()
        self._check_store()

    def _check_store(self) -> None:
        """End the run if the store does not respond. Otherwise each later shard would also wait.

        Raises:
            StoreFaultError: the store did not respond for the last shards.
        """
        if self._progress.num_away_in_a_row >= self._max_away:
            *_, why = self._progress.unread.values()
            raise StoreFaultError(
                f"the store did not respond for the last {self._progress.num_away_in_a_row} "
                f"shards ({why}). Finished work is committed. To continue, run the same command "
                "again"
            )

    def _check_failure_rate(self) -> None:
        num_done, job = self._progress.num_done, self._job
        if num_done < job.failure_rate_after or job.max_failure_rate >= 1:
            return
        if self._progress.num_failed > job.max_failure_rate * num_done:
            worst, count = self._progress.failures.most_common(1)[0]
            raise FailureRateError(
                f"{self._progress.num_failed:,} of the first {num_done:,} images failed, which is "
                f"more than --max-failure-rate {job.max_failure_rate:g} allows. The most frequent "
                f"failure is {worst} ({count:,} images). Finished work is committed. To see "
                "samples, run: skytext failures TABLE"
            )
