"""Run an image plan: claim the table, adopt, stream the images, commit, and prove it.

list → fetch (tasks) → embed and stage (model actors) → commit: one streaming Ray Data execution.
What is staged is durable, so a run that dies loses what is in its actors' hands, no more.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import math
import time
import uuid
from collections.abc import Callable, Generator, Sequence

import ray
import ray.data
from ray.data import TaskPoolStrategy

from skytext.errors import IncompleteRunError, InterruptedRunError
from skytext.run.control.capacity import Offer, check_asked, read_offer
from skytext.run.control.cluster import ray_cluster
from skytext.run.control.commit_schedule import Pending, check_not_stopped, commit_as_staged
from skytext.run.control.committer import record_run_remotely
from skytext.run.control.drain_notice import watch_node
from skytext.run.control.interruption import Stopping, watch
from skytext.run.control.nodes import Resources
from skytext.run.control.shared_paths import check_paths
from skytext.run.control.stop_flag import StopFlag
from skytext.run.image_vectors.commit_vectors import (
    PreparedImages,
    RemoteVectorCommitter,
    count_vectors,
    prepare_images,
)
from skytext.run.image_vectors.embed_images import EmbedImages, VectorRecord
from skytext.run.image_vectors.fetch_images import ImageFetcher
from skytext.run.image_vectors.image_plan import ImagePlan
from skytext.run.image_vectors.image_progress import ImageProgress, ImageSummary
from skytext.run.image_vectors.list_rows import VectorlessImages
from skytext.run.pool_sizes import pool_sizes
from skytext.run.ray_dataset import ONE_UNIT, actor_pool, configure_ray_data, stream_records
from skytext.run.run_record import ended_record, installed_versions
from skytext.table.commits.claim import Claim, hold
from skytext.table.runs_dataset import RunRecord

COMMAND = "embed-images"


def run_images(
    plan: ImagePlan,
    *,
    ray_address: str | None = None,
    on_progress: Callable[[ImageProgress], None] = lambda _: None,
) -> ImageSummary:
    """Give every image of a table that is done a vector, and prove it from the table.

    Args:
        plan: from `plan_images`.
        ray_address: a cluster; None for ``RAY_ADDRESS`` or a local Ray.
        on_progress: called after every unit.

    Raises:
        TableHeldError: another run that lives holds the table.
        CapacityError: the plan does not fit the cluster.
        JobError: the work failed; what was staged or committed stays, a re-run goes on from there.
        OSError: a disk is full or refuses; the same holds.
        InterruptedRunError: a signal asked for the end; what was done is committed.
        IncompleteRunError: an image has neither a vector nor a counted failure.
    """
    job, run = plan.config.job, _run_record(plan, uuid.uuid4().hex)
    with (
        watch(job.stall_timeout_s, job.drain_s) as stopping,
        hold(plan.location, run.run_id, COMMAND, lease_s=job.lease_s) as claim,
        ray_cluster(ray_address, plan.config),
        watch_node(stopping.on_notice),
    ):
        stopping.install()
        check_paths(plan.location, {"the model": plan.model})
        check_image_capacity(plan, read_offer())
        return _run(plan, run, claim, stopping, on_progress)


def check_image_capacity(plan: ImagePlan, offer: Offer) -> None:
    """Refuse a plan that the cluster can never run; Ray would wait for ever, silently.

    Raises:
        CapacityError: says what is asked for, what there is, and which settings to lower.
    """
    embed, job = plan.config.image_embed, plan.config.job
    asked = Resources(
        embed.num_actors * embed.num_cpus_per_actor + job.read_cpus + job.write_cpus,
        embed.num_actors * embed.num_gpus_per_actor,
    )
    advice = (
        f"image_embed.num_actors ({embed.num_actors}), image_embed.num_cpus_per_actor "
        f"({embed.num_cpus_per_actor:g}) or image_embed.num_gpus_per_actor"
    )
    check_asked(asked, offer, advice)


def _run(
    plan: ImagePlan,
    run: RunRecord,
    claim: Claim,
    stopping: Stopping,
    on_progress: Callable[[ImageProgress], None],
) -> ImageSummary:
    started = time.monotonic()
    prepared = prepare_images(claim, plan.identity, replace=plan.replace)
    progress = ImageProgress(prepared.num_ok - prepared.num_there)
    committer = RemoteVectorCommitter(claim, prepared.version)
    if prepared.groups:
        record_run_remotely(plan.location, run)
        embed = plan.config.image_embed

        def commit(unit_ids: Sequence[str], num_images: int) -> None:
            committer.is_local = stopping.is_node_leaving
            committer.commit(unit_ids)
            progress.num_committed += num_images

        pending = Pending(commit, embed.commit_images, embed.commit_interval_s)

        def take(record: VectorRecord) -> None:
            progress.is_stopping = stopping.is_asked
            progress.add(record)
            pending.add(record.unit_id, record.num_embedded)
            on_progress(progress)

        stop = StopFlag(plan.location, run.run_id)
        try:
            records = stream_records(_dataset(plan, prepared, stop))
            with contextlib.closing(_parsed(records)) as parsed:
                commit_as_staged(parsed, take, pending, stop, stopping)
            check_not_stopped(stopping, f"the vectors of {progress.num_committed:,} images")
            on_progress(progress)
        except InterruptedRunError:
            counts = prepared.num_ok, prepared.num_there + progress.num_committed
            summary = _summary(plan, run, prepared, progress, committer, counts, started)
            ended = ended_record(run, "interrupted", summary)
            record_run_remotely(plan.location, ended, is_local=stopping.is_node_leaving)
            raise
    counts = count_vectors(plan.location, committer.version)
    _prove(progress, counts)
    summary = _summary(plan, run, prepared, progress, committer, counts, started)
    if prepared.groups or prepared.num_adopted:
        record_run_remotely(plan.location, ended_record(run, "done", summary))
    return summary


def _dataset(plan: ImagePlan, prepared: PreparedImages, stop: StopFlag) -> ray.data.Dataset:
    embed, job = plan.config.image_embed, plan.config.job
    configure_ray_data()
    groups = [{"fragment_ids": list(group)} for group in prepared.groups]
    lister = VectorlessImages(
        location=plan.location,
        version=prepared.version,
        fingerprint=plan.identity.fingerprint,
        unit_images=embed.unit_images,
        unit_bytes=embed.unit_bytes,
        stop=stop,
    )
    fetcher = ImageFetcher(plan.limits, plan.reading, embed.read_threads, stop)
    num_units = math.ceil((prepared.num_ok - prepared.num_there) / embed.unit_images)
    units = ray.data.from_items(groups, override_num_blocks=len(groups))
    units = units.map_batches(
        lister.__call__, num_cpus=job.write_cpus, compute=TaskPoolStrategy(size=1), **ONE_UNIT
    )
    units = units.map_batches(
        fetcher.__call__,
        num_cpus=job.read_cpus,
        # Ray warns of places that stay empty, and there are at least so many units.
        compute=TaskPoolStrategy(size=min(pool_sizes(plan.config).num_readers, num_units)),
        **ONE_UNIT,
    )
    return units.map_batches(
        EmbedImages,
        fn_constructor_args=(embed, plan.model, plan.identity.fingerprint, plan.location, stop),
        compute=actor_pool(embed.num_actors, embed.num_actors, 1),
        num_cpus=embed.num_cpus_per_actor,
        num_gpus=embed.num_gpus_per_actor,
        **ONE_UNIT,
    )


def _parsed(records: Generator[str, None, None]) -> Generator[VectorRecord, None, None]:
    with contextlib.closing(records):
        for text in records:
            yield VectorRecord.from_json(text)


def _prove(progress: ImageProgress, counts: tuple[int, int]) -> None:
    """Compare what was counted with what the table holds.

    Raises:
        IncompleteRunError: they differ.
    """
    num_ok, num_there = counts
    if num_there + progress.failures.total != num_ok:
        raise IncompleteRunError(
            f"{num_ok:,} images are done, {num_there:,} have a vector and "
            f"{progress.failures.total:,} failed: run the same command again"
        )


def _run_record(plan: ImagePlan, run_id: str) -> RunRecord:
    return RunRecord(
        run_id=run_id,
        command=COMMAND,
        state="started",
        started_at=dt.datetime.now(dt.UTC),
        # What it went by, and no more: of captioning it says nothing.
        config=plan.config.model_dump(mode="json", include={"image_embed", "images", "job"}),
        versions=installed_versions(),
    )


def _summary(
    plan: ImagePlan,
    run: RunRecord,
    prepared: PreparedImages,
    progress: ImageProgress,
    committer: RemoteVectorCommitter,
    counts: tuple[int, int],
    started: float,
) -> ImageSummary:
    duration_s = time.monotonic() - started
    return ImageSummary(
        run_id=run.run_id,
        num_ok=counts[0],
        num_with_vector=counts[1],
        num_embedded=progress.num_embedded,
        num_adopted=prepared.num_adopted,
        num_skipped=prepared.num_there - prepared.num_adopted,
        num_failed=progress.failures.total,
        failures=dict(progress.failures.counts),
        failure_samples=dict(progress.failures.said),
        model=plan.model.name,
        device=progress.device,
        precision=progress.precision,
        table_version=committer.version,
        duration_s=round(duration_s, 3),
        embed_s=round(progress.embed_s, 3),
        images_per_s=round(progress.num_embedded / duration_s, 3) if duration_s else 0.0,
    )
