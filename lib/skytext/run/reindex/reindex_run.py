"""Update a table after its archive or its settings changed, and promote the new version.

The most useful work is done first. These are the steps, in this order:

1. Describe new and changed images.
2. Describe failed images again.
3. If the embedding model has changed, embed all descriptions with the new model.
4. Describe images again if their descriptions are stale.
5. Embed the images that have no image vector.

Each step is a run like a run of `skytext caption` or `skytext embed-images`. All steps use one
claim on the table. After these steps, missing images are withdrawn and the indexes are updated.
Then the new version is checked and promoted. At the end, unused data are deleted.
"""

from __future__ import annotations

import os
import shlex
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from skytext.config.reindex import ReindexConfig
from skytext.errors import (
    BrokenListingError,
    IncompleteRunError,
    JobError,
    ModelError,
    TableError,
)
from skytext.evaluation.golden import Golden, read_golden
from skytext.run.caption_run import run_caption
from skytext.run.cluster.driver_node import run_on_driver_node
from skytext.run.control.budget import Budget
from skytext.run.index_on_ray import build_vector_index
from skytext.run.open_run import HeldTable, hold_table
from skytext.run.plans.caption_plan import CaptionPlan
from skytext.run.plans.vector_plan import VectorPlan
from skytext.run.progress import Progress, RunSummary
from skytext.run.reindex.change_model import drop_unused, write_both
from skytext.run.reindex.compare_versions import (
    Asked,
    Comparison,
    NotComparedError,
    compare_versions,
)
from skytext.run.reindex.gate import Check, check_version
from skytext.run.reindex.image_vectors import missing_image_vectors, wanted_image_vectors
from skytext.run.reindex.logged_requests import logged_requests
from skytext.run.reindex.notify_run import finish_run, notify_on_failure
from skytext.run.reindex.withdraw import check_listing, withdraw_gone
from skytext.run.vector_run import run_vectors
from skytext.search.unrelated_questions import measure_chance
from skytext.table.clean_up import CleanUp, clean_held_table
from skytext.table.commits.stage_rows import staged_unit_ids
from skytext.table.images_dataset import ImagesTable
from skytext.table.indexes.build_indexes import BuildVectorIndex, IndexReport
from skytext.table.indexes.refresh_indexes import refresh_indexes
from skytext.table.location import TableLocation
from skytext.table.standing.reported_matches import MatchReport
from skytext.table.store.store_preflight import check_store
from skytext.table.versions.canary import Canary
from skytext.table.versions.promote_rollback import (
    end_canary,
    last_promotion,
    promote,
    start_canary,
)

COMMAND = "reindex"


@dataclass
class ReindexSummary:
    """The result of a re-indexing. ``to_json`` is the output of the command with ``--json``.

    Attributes:
        vectors: one summary for each run that embedded descriptions or images.
        runs: one summary for each captioning run. The key is the reason for the run: ``new`` (new
            and changed images), ``failed`` or ``stale``.
        num_withdrawn: number of images that the re-indexing withdrew, because the archive no longer
            has these images.
        incomplete: the reason why some descriptions have no vector of the configured model; empty
            if all descriptions have a vector.
        broken_listing: the reason why missing images were not withdrawn; empty if they were
            withdrawn or if no image is missing.
        index: the changes of the indexes; None if the indexes were not updated.
        gate: the result of each check before the promotion; empty if there was no new version.
        comparison: the comparison of the live version and the new version with golden queries; None
            if the golden queries were not compared.
        not_compared: the reason why the golden queries could not be compared; otherwise empty.
        shadow: the comparison of the live version and the new version with the last queries that
            services have logged; None if these queries were not compared.
        no_shadow: the reason why the logged queries could not be compared; otherwise empty.
        live_version: the version that is live at the end; None if no version is live.
        was_promoted: whether this re-indexing made ``live_version`` live.
        canary: the canary that the re-indexing started; None if it started no canary.
        cleaned: the data that the re-indexing deleted; None if it did not try to delete data.
        report: address of the HTML report; empty if no report was written.
        matches: the match reports that were delivered. A match report lists new images that match
            standing queries.
        is_partial: whether the budget was spent before all work was done. The next re-indexing then
            continues the work.
        duration_s: total duration in seconds.
    """

    vectors: list[dict[str, Any]] = field(default_factory=list)
    runs: dict[str, RunSummary] = field(default_factory=dict)
    num_withdrawn: int = 0
    incomplete: str = ""
    broken_listing: str = ""
    index: IndexReport | None = None
    gate: list[Check] = field(default_factory=list)
    comparison: Comparison | None = None
    not_compared: str = ""
    shadow: Comparison | None = None
    no_shadow: str = ""
    live_version: int | None = None
    was_promoted: bool = False
    canary: Canary | None = None
    cleaned: CleanUp | None = None
    report: str = ""
    matches: tuple[MatchReport, ...] = ()
    is_partial: bool = False
    duration_s: float = 0.0

    def to_json(self) -> dict[str, Any]:
        """Return the fields as a JSON object."""
        return {
            "vectors": self.vectors,
            "runs": {reason: summary.to_json() for reason, summary in self.runs.items()},
            "num_withdrawn": self.num_withdrawn,
            "incomplete": self.incomplete,
            "broken_listing": self.broken_listing,
            "index": None if self.index is None else self.index.to_json(),
            "gate": [check.to_json() for check in self.gate],
            "comparison": None if self.comparison is None else self.comparison.to_json(),
            "not_compared": self.not_compared,
            "shadow": None if self.shadow is None else self.shadow.to_json(),
            "no_shadow": self.no_shadow,
            "live_version": self.live_version,
            "was_promoted": self.was_promoted,
            "canary": None if self.canary is None else self.canary.to_json(),
            "cleaned": None if self.cleaned is None else self.cleaned.to_json(),
            "report": self.report,
            "matches": [report.to_json() for report in self.matches],
            "is_partial": self.is_partial,
            "duration_s": round(self.duration_s, 3),
        }

    @property
    def has_changed(self) -> bool:
        """Whether the re-indexing changed any row."""
        runs = (r.num_captioned + r.num_newly_failed + r.num_adopted for r in self.runs.values())
        vectors = (one["num_embedded"] + one["num_adopted"] for one in self.vectors)
        return bool(self.num_withdrawn or sum(runs) or sum(vectors))


class GateError(JobError):
    """The new version does not meet the conditions for a promotion. The live version stays live.

    Attributes:
        summary: the result of the re-indexing until the error.

    Args:
        summary: the result of the re-indexing until the error.
        live_model: name of the live version's embedding model. It is empty if the new version has
            the same embedding model.
    """

    def __init__(self, summary: ReindexSummary, live_model: str = "") -> None:
        self.summary = summary
        failed = "; ".join(str(check) for check in summary.gate if not check.passed)
        advice = (
            ". The new version has another embedding model. To promote new images with the old "
            f"model, run the same command with --embedding-model {shlex.quote(live_model)}"
        )
        super().__init__(
            f"the new version was not promoted (live version: {summary.live_version}). These "
            f"checks failed: {failed}{advice if live_model else ''}"
        )


@notify_on_failure
def run_reindex(
    plan: CaptionPlan,
    *,
    ray_address: str | None = None,
    on_progress: Callable[[Progress], None] = lambda _: None,
    on_note: Callable[[str], None] = lambda _: None,
) -> ReindexSummary:
    """Do all necessary work until the budget is spent, and promote the new version.

    The new version is promoted only if it meets the conditions for a promotion.

    Args:
        plan: the result of `plan_caption` with ``stale="all"``.
        ray_address: address of a cluster; None for ``RAY_ADDRESS`` or a local Ray.
        on_progress: called after every unit.
        on_note: receives a message before each step. It also receives a message if the run waits.

    Raises:
        GateError: the new version does not meet the conditions for a promotion.
        BrokenListingError: too many images are missing from the sources. The table was not changed.
        CallError: the file of golden queries is not usable.
        SkytextError: `run_caption`, `run_vectors` or `refresh_indexes` raised this error.
    """
    started, limits = time.monotonic(), plan.config.reindex
    budget = Budget(limits.max_images, limits.max_hours and limits.max_hours * 3600)
    summary = ReindexSummary()
    if plan.is_new_table:
        check_store(plan.location)
    # Call this function only because it raises an error if the image model cannot be found. Without
    # this call, the command would fail only after hours of other work.
    missing_image_vectors(plan, is_limited=budget.is_limited)
    golden = None if limits.golden is None else read_golden(limits.golden, must_check=False)
    with hold_table(
        COMMAND, plan.location, plan.config, ray_address=ray_address, budget=budget
    ) as held:
        check_listing(held.claim, plan.shards, plan.options(), limits.max_withdrawn)
        _compute(plan, held, summary, on_progress, on_note)
        summary.is_partial = budget.is_spent or any(r.is_partial for r in summary.runs.values())
        _withdraw(plan, held, summary, on_note)
        _serve(plan, held, summary, on_note, ray_address, golden)
        summary.duration_s = time.monotonic() - started
        finish_run(plan, held.claim, summary)
    return summary


def _compute(
    plan: CaptionPlan,
    held: HeldTable,
    summary: ReindexSummary,
    on_progress: Callable[[Progress], None],
    on_note: Callable[[str], None],
) -> None:
    """Describe and embed images until there is no more work or the budget is spent."""

    def embed(vectors: VectorPlan) -> None:
        on_note(f"embedding with {vectors.model.name}")
        try:
            done = run_vectors(vectors, held=held, on_progress=on_progress)
        except IncompleteRunError as error:
            if vectors.of_images:
                raise
            # The new column is incomplete, but searches still use the active column. So the other
            # steps can continue, and a version with new images can be promoted.
            summary.incomplete = str(error)
            on_note(summary.incomplete)
            return
        summary.vectors.append(done.to_json())

    of_texts = next((one for one in plan.stale_vectors if not one.of_images), None)
    base = replace(plan, stale_vectors=(), redo_stale=False, is_new_table=False)
    num_due = run_on_driver_node(_num_due, base)
    plans = [
        ("new", base),
        ("failed", replace(base, retry_failed=True)),
        ("stale", replace(base, redo_stale=True)),
    ]
    num_before = 2
    if not held.budget.is_limited:
        # Without a budget, process failed images before new images. If a new image then fails, the
        # command does not describe this image a second time.
        plans[:2] = reversed(plans[:2])
        # Embed the existing descriptions with the new model first. New rows then need no vectors of
        # the old model.
        num_before = 0
    has_backlog = of_texts is not None or num_due["stale"] > 0
    held.budget.reserved = plan.config.reindex.backlog_share if has_backlog else 0.0
    for number, (reason, one) in enumerate(plans):
        if number == num_before:
            held.budget.reserved = 0.0
            if of_texts is not None and not held.budget.is_spent:
                embed(of_texts)
        if held.budget.is_spent or num_due.get(reason) == 0:
            continue
        on_note(f"describing {reason} images")
        both = write_both(one, of_texts, held.claim)
        summary.runs[reason] = run_caption(
            both, held=held, on_progress=on_progress, on_note=on_note
        )
    for of_images in missing_image_vectors(plan, is_limited=held.budget.is_limited):
        if not held.budget.is_spent:
            embed(of_images)


def _withdraw(
    plan: CaptionPlan,
    held: HeldTable,
    summary: ReindexSummary,
    on_note: Callable[[str], None],
) -> None:
    """Withdraw missing images. Do nothing if an image in the archive has no row yet.

    A missing image may have been renamed. The old row of a renamed image must stay until the image
    has been described under its new name.
    """
    new = summary.runs.get("new")
    if new is None or new.is_partial or any(run.num_unread for run in summary.runs.values()):
        on_note("missing images are not withdrawn, because some images have no row yet")
        return
    max_share = plan.config.reindex.max_withdrawn
    try:
        done = withdraw_gone(held.claim, plan.shards, plan.options(), max_share, uuid.uuid4().hex)
    except BrokenListingError as error:
        # Continue after this error, so that a version with the new descriptions is promoted.
        summary.broken_listing = str(error)
        return
    summary.num_withdrawn = done.num_images


def _num_due(plan: CaptionPlan) -> dict[str, int]:
    """Return the number of failed rows to try again, and the number of stale rows."""
    table = ImagesTable.find(plan.location)
    if table is None:
        return {"failed": 0, "stale": 0}
    return {
        "failed": table.num_failed_due(plan.config.job.max_attempts),
        "stale": table.num_stale(plan.caption_fingerprint),
    }


def _serve(
    plan: CaptionPlan,
    held: HeldTable,
    summary: ReindexSummary,
    on_note: Callable[[str], None],
    ray_address: str | None,
    golden: Golden | None,
) -> None:
    """Promote the latest version if it is not live, then delete unused data.

    Before the promotion, the indexes are updated and the version is checked.

    Raises:
        GateError: the version does not meet the conditions for a promotion.
    """
    location, config = plan.location, plan.config
    table = ImagesTable.find(location)
    if table is None:
        return
    _end_overdue_canary(location, on_note)
    summary.live_version = table.live_version()
    last = last_promotion(location)
    if last is not None and last.action in ("rollback", "stop") and not summary.has_changed:
        on_note(
            "the live version stays live, because the table was rolled back and no row has changed "
            "since then"
        )
    elif last is not None and last.canary is not None and last.canary.version == table.version:
        on_note(
            "no row has changed, and the latest version is already a canary: "
            f"{last.canary.described}"
        )
    elif table.version != summary.live_version and table.some_row(["image_id"]) is not None:
        on_note("updating the indexes")
        of_images = wanted_image_vectors(plan)
        drop_unused(held.claim, plan.column, *([] if of_images is None else [of_images.column]))
        summary.index = _refresh(location, plan, ray_address, on_note)
        summary.gate = check_version(location, summary.index.table_version, config)
        if summary.live_version is not None:
            versions = summary.live_version, summary.index.table_version
            _compare(plan, summary, versions, golden, on_note)
        if not all(check.passed for check in summary.gate):
            raise GateError(summary, _replaced_model(location, summary))
        held.claim.check()
        _promote(location, config.reindex, summary)
    if staged_unit_ids(location):
        on_note("unused data are not deleted, because another command has staged units")
        return
    summary.cleaned = run_on_driver_node(clean_held_table, location, config.reindex.keep_days)


def _compare(
    plan: CaptionPlan,
    summary: ReindexSummary,
    versions: tuple[int, int],
    golden: Golden | None,
    on_note: Callable[[str], None],
) -> None:
    """Run the golden queries and the logged queries on both versions. Add checks to the gate.

    If there are golden queries, only the golden queries add checks. Otherwise the logged queries
    add a check, if the settings have a minimum overlap.
    """

    def compare(asked: Asked, *harmless: type[Exception]) -> tuple[Comparison | None, str]:
        try:
            return compare_versions(plan.location, plan.config, *versions, asked), ""
        except harmless as error:
            on_note(str(error))
            return None, str(error)

    limits = plan.config.reindex
    if golden is not None:
        on_note("running the golden queries")
        # A NotComparedError must not end the run. Otherwise no version could be promoted as long as
        # the live version cannot be searched.
        summary.comparison, summary.not_compared = compare(golden, NotComparedError)
    logged = logged_requests(plan.location, limits.shadow_queries, on_note)
    if logged:
        on_note("running the last queries of services")
        # Every user of a service can add a logged query, and the query may need a model that cannot
        # be loaded. Such a query must not end the run.
        harmless = (NotComparedError, TableError, ModelError)
        summary.shadow, summary.no_shadow = compare(logged, *harmless)
    decisive = summary.shadow if golden is None else summary.comparison
    if decisive is not None:
        summary.gate += decisive.checks(limits)


def _replaced_model(location: TableLocation, summary: ReindexSummary) -> str:
    """Return the name of the live version's embedding model.

    The name is empty if the latest version has the same embedding model.
    """
    if summary.live_version is None:
        return ""
    live = ImagesTable.open(location, summary.live_version).text_column
    return "" if live.fits(ImagesTable.open(location).text_column) else live.model


def _promote(location: TableLocation, limits: ReindexConfig, summary: ReindexSummary) -> None:
    """Promote the indexed version, or start a canary with it.

    A canary is started if ``reindex.canary`` is set and another version is live.
    """
    version = None if summary.index is None else summary.index.table_version
    if limits.canary is None or summary.live_version is None:
        summary.live_version = promote(location, version, why=COMMAND).version
        summary.was_promoted = True
        return
    begun = start_canary(location, version, limits.canary, limits.canary_minutes, why=COMMAND)
    summary.canary = begun.canary


def _end_overdue_canary(location: TableLocation, on_note: Callable[[str], None]) -> None:
    """Promote a canary after its time limit, if no service has promoted or stopped the canary.

    The version of the canary has passed the gate. If the canary continued, each nightly re-indexing
    would replace it by a new canary, and no version would become live.
    """
    last = last_promotion(location)
    if last is None or last.canary is None or not last.canary.is_overdue:
        return
    why = (
        f"{COMMAND}: the time limit of the canary has expired, and no service has promoted or "
        "stopped the canary"
    )
    if end_canary(location, last.number, passed=True, why=why):
        on_note(f"version {last.canary.version} is live: {why}")


def _refresh(
    location: TableLocation,
    plan: CaptionPlan,
    ray_address: str | None,
    on_note: Callable[[str], None],
) -> IndexReport:
    build: BuildVectorIndex | None = None
    if ray_address is not None or os.environ.get("RAY_ADDRESS"):
        num_workers = plan.config.index.num_workers

        def build(table: Any, vector_plan: Any) -> None:
            build_vector_index(table, vector_plan, num_workers)

    measured = measure_chance(ImagesTable.open(location), plan.config, only_missing=True)
    for problem in measured.problems:
        on_note(problem)
    return refresh_indexes(ImagesTable.open(location), plan.config.index, build)
