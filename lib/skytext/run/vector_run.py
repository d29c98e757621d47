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
from skytext.run.control.capacity import Offer, check_asked, read_offer
from skytext.run.control.committer import RemoteCommitter, record_run_remotely
from skytext.run.control.nodes import Resources
from skytext.run.control.prepare_vectors import PreparedVectors, finish_vectors, prepare_vectors
from skytext.run.open_run import HeldTable, OpenRun, UnitTaker, open_run
from skytext.run.progress import Progress
from skytext.run.ray_dataset import build_vector_dataset
from skytext.run.vector_plan import VectorPlan
from skytext.table.vector_columns import VectorKind

STORE_FAULT = f"{Stage.READ}/{Reason.STORE_FAULT}"
"""The key in ``failures`` of images that the store did not give."""
# A commit writes the column of a fragment anew: small fragments are committed together.
_TEXTS_A_GROUP = 20_000
_SECTIONS = {
    VectorKind.IMAGE: {"image_embed", "images", "job"},
    VectorKind.TEXT: {"embed", "image_embed", "job"},
}


@dataclass(frozen=True, slots=True)
class VectorSummary:
    """What a run did. ``to_json`` gives what the command prints with ``--json``.

    Attributes:
        run_id: the run.
        kind: what the vectors are made of, ``image`` or ``text``.
        num_ok: images that are done, all of the table.
        num_with_vector: those of them that have a vector now.
        num_embedded: by this run.
        num_adopted: embedded by an earlier run that ended early, committed now.
        num_skipped: that had a vector already.
        num_failed: that could not be embedded by this run; they have no vector.
        failures: ``stage/reason`` to their number.
        failure_samples: ``stage/reason`` to one of them in words.
        model: the model.
        device: that it ran on; None where it did not.
        precision: that it ran in; None where it did not.
        table_version: the last that it made or saw.
        duration_s: in all.
        embed_s: in the model, of all actors together.
        images_per_s: embedded, over the whole run.
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
    """Give every image of a table that is done its vectors, and prove it from the table.

    What is staged is durable, so a run that dies loses what is in its actors' hands, no more.

    Args:
        plan: from `plan_images` or `plan_stale_vectors`.
        ray_address: a cluster; None for ``RAY_ADDRESS`` or a local Ray.
        held: the table, if it is held already.
        on_progress: called after every unit.

    Raises:
        TableHeldError: another run that lives holds the table.
        CapacityError: the plan does not fit the cluster.
        JobError: the work failed; what was staged or committed stays, a re-run goes on from there.
        OSError: a disk is full or refuses; the same holds.
        InterruptedRunError: a signal asked for the end; what was done is committed.
        IncompleteRunError: an image has neither a vector nor a counted failure.
    """
    with open_run(
        plan.command,
        plan.location,
        plan.config,
        {"the model": plan.model},
        # What it goes by, and no more: of captioning it says nothing.
        recorded=plan.config.model_dump(mode="json", include=_SECTIONS[plan.column.kind]),
        ray_address=ray_address,
        held=held,
        on_progress=on_progress,
    ) as run:
        check_vector_capacity(plan, read_offer())
        return _run(plan, run)


def check_vector_capacity(plan: VectorPlan, offer: Offer) -> None:
    """Refuse a plan that the cluster can never run; Ray would wait for ever, silently.

    Raises:
        CapacityError: says what is asked for, what there is, and which settings to lower.
    """
    job, number, one = plan.config.job, plan.num_actors, plan.per_actor
    asked = Resources(number * one.num_cpus + job.read_cpus + job.write_cpus, number * one.num_gpus)
    section = "image_embed" if plan.of_images else "embed"
    advice = (
        f"{section}.num_actors ({number}), {section}.num_cpus_per_actor ({one.num_cpus:g}) or "
        f"{section}.num_gpus_per_actor"
    )
    check_asked(asked, offer, advice)


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
    """Return how many rows may be without a vector while searches use the column.

    An image that is gone or damaged has none. One that the store did not give will have one, and
    until then an older column is the better one. A description is at hand: each has its vectors.
    """
    if not plan.of_images or STORE_FAULT in progress.failures:
        return 0
    return progress.num_failed


def _prove(plan: VectorPlan, progress: Progress, num_ok: int, num_there: int) -> None:
    """Compare what was counted with what the table holds.

    Raises:
        IncompleteRunError: they differ, or a description has no vectors.
    """
    if progress.num_failed and not plan.of_images:
        raise IncompleteRunError(
            f"{plan.model.name!r} gave no finite vector for {progress.num_failed:,} of {num_ok:,} "
            "descriptions: searches go on with the vectors that they had; name another model"
        )
    if num_there + progress.num_failed != num_ok:
        raise IncompleteRunError(
            f"{num_ok:,} images are done, {num_there:,} have a vector and "
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
    """End a command whose run did not get all images.

    Args:
        failures: of its summary.
        samples: of its summary.

    Raises:
        StoreFaultError: the store did not give some of them.
    """
    if STORE_FAULT in failures:
        raise StoreFaultError(
            f"images that the store did not give: {failures[STORE_FAULT]:,} "
            f"({samples[STORE_FAULT]}): run the same command again"
        )
