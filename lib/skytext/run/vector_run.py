"""Fill a column of vectors: claim the table, prepare it, stream the job, commit, and prove it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from skytext.errors import (
    IncompleteRunError,
    InterruptedRunError,
    Reason,
    Stage,
    StoreFaultError,
)
from skytext.run.control.capacity import Offer, check_needed, read_offer
from skytext.run.control.committer import RemoteCommitter, record_run_remotely
from skytext.run.control.nodes import Resources
from skytext.run.control.prepare_vectors import PreparedVectors, finish_vectors, prepare_vectors
from skytext.run.open_run import HeldTable, OpenRun, UnitTaker, open_run
from skytext.run.progress import Progress
from skytext.run.ray_dataset import build_vector_dataset
from skytext.run.vector_plan import VectorPlan
from skytext.table.vector_columns import VectorKind

STORE_FAULT = f"{Stage.READ}/{Reason.STORE_FAULT}"
"""The key in ``failures`` for images that the store did not return."""
# A commit rewrites the column of a fragment, so small fragments are committed together.
_TEXTS_A_GROUP = 20_000
_SECTIONS = {
    VectorKind.IMAGE: {"image_embed", "images", "job"},
    VectorKind.TEXT: {"embed", "image_embed", "job"},
}


@dataclass(frozen=True, slots=True)
class VectorSummary:
    """The result of a run. ``to_json`` is the output of the command with ``--json``.

    Attributes:
        run_id: the run.
        kind: ``image`` or ``text``.
        num_ok: captioned images of the table.
        num_with_vector: captioned images that have a vector now.
        num_embedded: embedded by this run.
        num_adopted: embedded by an earlier, interrupted run and committed now.
        num_skipped: already had a vector.
        num_failed: could not be embedded by this run; they have no vector.
        failures: number by ``stage/reason``.
        failure_samples: one message by ``stage/reason``.
        model: the model.
        device: its device; None if it did not run.
        precision: its precision; None if it did not run.
        table_version: the last version that it made or saw.
        duration_s: total duration.
        embed_s: time in the model, summed over all actors.
        images_per_s: embedded images per second of the whole run.
    """

    run_id: str
    kind: str
    num_ok: int
    num_with_vector: int
    num_embedded: int
    num_adopted: int
    num_skipped: int
    num_failed: int
    failures: dict[str, int]
    failure_samples: dict[str, str]
    model: str
    device: str | None
    precision: str | None
    table_version: int | None
    duration_s: float
    embed_s: float
    images_per_s: float

    def to_json(self) -> dict[str, Any]:
        """Return the fields as a JSON object."""
        return {name: getattr(self, name) for name in self.__slots__}


def run_vectors(
    plan: VectorPlan,
    *,
    ray_address: str | None = None,
    held: HeldTable | None = None,
    on_progress: Callable[[Progress], None] = lambda _: None,
) -> VectorSummary:
    """Give every captioned image of a table its vectors, and prove it from the table.

    Staged units are durable, so a run that dies loses only the units in its actors.

    Args:
        plan: from `plan_images` or `plan_stale_vectors`.
        ray_address: a cluster; None for ``RAY_ADDRESS`` or a local Ray.
        held: the table, if it is held already.
        on_progress: called after every unit.

    Raises:
        TableHeldError: another live run holds the table.
        CapacityError: the plan does not fit the cluster.
        JobError: the work failed; staged and committed work is kept, and the next run continues.
        OSError: a disk is full or failed; the same applies.
        InterruptedRunError: a signal requested the end; finished work is committed.
        IncompleteRunError: an image has neither a vector nor a counted failure.
    """
    with open_run(
        plan.command,
        plan.location,
        plan.config,
        {"the model": plan.model},
        # Only the settings of this run, not those of captioning.
        recorded=plan.config.model_dump(mode="json", include=_SECTIONS[plan.column.kind]),
        ray_address=ray_address,
        held=held,
        on_progress=on_progress,
    ) as run:
        check_vector_capacity(plan, read_offer())
        return _run(plan, run)


def check_vector_capacity(plan: VectorPlan, offer: Offer) -> None:
    """Refuse a plan that can never run on the cluster; Ray would wait forever without a message.

    Raises:
        CapacityError: names the request, the capacity, and the settings to lower.
    """
    job, number, one = plan.config.job, plan.num_actors, plan.per_actor
    needed = Resources(
        number * one.num_cpus + job.read_cpus + job.write_cpus, number * one.num_gpus
    )
    section = "image_embed" if plan.of_images else "embed"
    advice = (
        f"{section}.num_actors ({number}), {section}.num_cpus_per_actor ({one.num_cpus:g}) or "
        f"{section}.num_gpus_per_actor"
    )
    check_needed(needed, offer, advice)


def _run(plan: VectorPlan, run: OpenRun) -> VectorSummary:
    embed, progress = plan.config.image_embed, run.progress
    group_images = embed.commit_images if plan.of_images else _TEXTS_A_GROUP
    prepared = prepare_vectors(run.claim, plan.column, group_images)
    progress.num_to_do = sum(group.num_images for group in prepared.groups)
    committer = RemoteCommitter(run.claim, prepared.text_column, prepared.version, plan.column)
    if prepared.groups:
        record_run_remotely(plan.location, run.record)
        taker = UnitTaker(
            run,
            committer,
            group_images,
            embed.commit_interval_s,
            {group.name: group.num_images for group in prepared.groups},
        )
        try:
            taker.stream(build_vector_dataset(plan, prepared, run.stop))
        except InterruptedRunError:
            num_there = prepared.num_there + progress.num_committed
            so_far = _summary(plan, run, prepared, committer, prepared.num_ok, num_there)
            run.end("interrupted", so_far)
            raise
    finished = finish_vectors(run.claim, plan.column, _num_without(plan, progress))
    committer.version, num_ok, num_there = finished
    summary = _summary(plan, run, prepared, committer, num_ok, num_there)
    if progress.is_budget_spent and num_there + progress.num_failed < num_ok:
        run.end("partial", summary)
        return summary
    try:
        _prove(plan, progress, num_ok, num_there)
    except IncompleteRunError:
        run.end("failed", summary)
        raise
    if prepared.groups or prepared.num_adopted:
        run.end("done", summary)
    return summary


def _num_without(plan: VectorPlan, progress: Progress) -> int:
    """Return the number of rows that may lack a vector while searches use the column.

    Deleted or damaged images have no vector. An image that the store did not return will get one
    later; until then an older column is better. Every description must have its vectors.
    """
    if not plan.of_images or STORE_FAULT in progress.failures:
        return 0
    return progress.num_failed


def _prove(plan: VectorPlan, progress: Progress, num_ok: int, num_there: int) -> None:
    """Compare the counts with the table.

    Raises:
        IncompleteRunError: they differ, or a description has no vectors.
    """
    if progress.num_failed and not plan.of_images:
        raise IncompleteRunError(
            f"{plan.model.name!r} returned no finite vector for {progress.num_failed:,} of "
            f"{num_ok:,} descriptions: searches use the earlier vectors; name another model"
        )
    if num_there + progress.num_failed != num_ok:
        raise IncompleteRunError(
            f"{num_ok:,} images are captioned, {num_there:,} have a vector and "
            f"{progress.num_failed:,} failed: run the same command again"
        )


def _summary(
    plan: VectorPlan,
    run: OpenRun,
    prepared: PreparedVectors,
    committer: RemoteCommitter,
    num_ok: int,
    num_there: int,
) -> VectorSummary:
    progress, duration_s = run.progress, run.duration_s
    device, precision = progress.ran_on or (None, None)
    return VectorSummary(
        run_id=run.record.run_id,
        kind=str(plan.column.kind),
        num_ok=num_ok,
        num_with_vector=num_there,
        num_embedded=progress.num_ok,
        num_adopted=prepared.num_adopted,
        num_skipped=prepared.num_there - prepared.num_adopted,
        num_failed=progress.num_failed,
        failures=dict(progress.failures),
        failure_samples=dict(progress.failure_samples),
        model=plan.model.name,
        device=device,
        precision=precision,
        table_version=committer.version,
        duration_s=round(duration_s, 3),
        embed_s=round(progress.embed_s, 3),
        images_per_s=round(progress.num_ok / duration_s, 3) if duration_s else 0.0,
    )


def check_store_gave_all(failures: Mapping[str, int], samples: Mapping[str, str]) -> None:
    """Raise if the run did not get all images from the store.

    Args:
        failures: from its summary.
        samples: from its summary.

    Raises:
        StoreFaultError: the store did not return some images.
    """
    if STORE_FAULT in failures:
        raise StoreFaultError(
            f"the store did not return {failures[STORE_FAULT]:,} images "
            f"({samples[STORE_FAULT]}): run the same command again"
        )
