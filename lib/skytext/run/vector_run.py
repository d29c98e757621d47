"""Fill a vector column.

A run claims the table, prepares the table, streams images or descriptions through all stages,
commits the vectors, and verifies the result.
"""

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
from skytext.run.cluster.capacity import Offer, check_needed, read_offer
from skytext.run.cluster.nodes import Resources
from skytext.run.control.committer import RemoteCommitter, record_run_remotely
from skytext.run.control.prepare_vectors import PreparedVectors, finish_vectors, prepare_vectors
from skytext.run.open_run import HeldTable, OpenRun, UnitTaker, open_run
from skytext.run.plans.vector_plan import VectorPlan
from skytext.run.progress import Progress
from skytext.run.ray_dataset import build_vector_dataset
from skytext.table.vector_columns import VectorKind

STORE_FAULT = f"{Stage.READ}/{Reason.STORE_FAULT}"
"""Key in ``failures``. Its value is the number of images that the store did not return."""
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
        run_id: id of the run.
        kind: ``image`` or ``text``.
        num_ok: number of captioned images in the table.
        num_with_vector: number of captioned images that have a vector at the end of the run.
        num_embedded: number of images that this run embedded.
        num_adopted: number of images that an interrupted run embedded and this run committed.
        num_skipped: number of images that already had a vector.
        num_failed: number of images that this run could not embed. They have no vector.
        failures: number of failed images by ``stage/reason``.
        failure_samples: one error message by ``stage/reason``.
        model: name of the model.
        device: device of the model; None if the model did not run.
        precision: precision of the model; None if the model did not run.
        table_version: the last table version that the run made or saw.
        duration_s: total duration in seconds.
        embed_s: seconds in which the model worked, as a sum over all actors.
        images_per_s: number of embedded images divided by the total duration.
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
    """Compute the missing vectors of the captioned images in a table, and verify the result.

    If the run is killed, staged units are not lost. Only the units that the actors are processing
    are lost.

    Args:
        plan: the result of `plan_images` or `plan_stale_vectors`.
        ray_address: address of a cluster; None for ``RAY_ADDRESS`` or a local Ray.
        held: the held table, if the caller already holds the table; otherwise None.
        on_progress: called after every unit.

    Raises:
        TableHeldError: another running process holds the table.
        CapacityError: the plan needs more resources than the cluster has.
        JobError: the work failed. Staged and committed work is kept, and the next run continues.
        OSError: a disk is full or failed. Staged and committed work is kept, and the next run
            continues.
        InterruptedRunError: a signal or the cluster ended the run. Finished work is committed.
        IncompleteRunError: an image has no vector although its embedding did not fail, or a
            description has no finite vector.
    """
    with open_run(
        plan.command,
        plan.location,
        plan.config,
        {"the model": plan.model},
        # Record only the settings that this run uses. It does not use the captioning settings.
        recorded=plan.config.model_dump(mode="json", include=_SECTIONS[plan.column.kind]),
        ray_address=ray_address,
        held=held,
        on_progress=on_progress,
    ) as run:
        check_vector_capacity(plan, read_offer())
        return _run(plan, run)


def check_vector_capacity(plan: VectorPlan, offer: Offer) -> None:
    """Reject a plan that the cluster can never execute.

    Otherwise Ray would wait forever without a message.

    Raises:
        CapacityError: the plan needs more resources than the cluster has. The message contains the
            needed resources, the available resources and the settings to lower.
    """
    job, number, one = plan.config.job, plan.num_actors, plan.per_actor
    needed = Resources(
        number * one.num_cpus + job.read_cpus + job.write_cpus, number * one.num_gpus
    )
    section = "image_embed" if plan.of_images else "embed"
    advice = (
        f"{section}.num_actors ({number}), {section}.num_cpus_per_actor ({one.num_cpus:g}), "
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
    """Return how many rows may have no vector when the new column becomes active.

    Deleted and damaged images never get a vector, so the result is the number of these images. If
    the store did not return an image, a later run can embed the image, so the result is 0. Searches
    then use the older column until that later run. For descriptions the result is also 0, because
    every description must have a vector.
    """
    if not plan.of_images or STORE_FAULT in progress.failures:
        return 0
    return progress.num_failed


def _prove(plan: VectorPlan, progress: Progress, num_ok: int, num_there: int) -> None:
    """Compare the counts of the run with the table.

    Raises:
        IncompleteRunError: the counts differ from the table, or a description has no finite vector.
    """
    if progress.num_failed and not plan.of_images:
        raise IncompleteRunError(
            f"{plan.model.name!r} returned no finite vector for {progress.num_failed:,} of "
            f"{num_ok:,} descriptions. Searches still use the earlier vectors. Use another model"
        )
    if num_there + progress.num_failed != num_ok:
        raise IncompleteRunError(
            f"{num_ok:,} images are captioned. {num_there:,} of them have a vector, and "
            f"{progress.num_failed:,} could not be embedded. To embed the other images, run the "
            "same command again"
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
    """Raise an error if the store did not return all images.

    Args:
        failures: ``failures`` of the run's summary.
        samples: ``failure_samples`` of the run's summary.

    Raises:
        StoreFaultError: the store did not return some images.
    """
    if STORE_FAULT in failures:
        raise StoreFaultError(
            f"the store did not return {failures[STORE_FAULT]:,} images "
            f"({samples[STORE_FAULT]}). To embed them, run the same command again"
        )
