"""``skytext reindex``: update a table to match its archive and settings, and promote it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any

import typer

from skytext.cli.caption import (
    EMBEDDED,
    announce,
    caption,
    caption_config,
)
from skytext.cli.options import with_options_of
from skytext.cli.promote import Canary, CanaryMinutes
from skytext.errors import ConfigError

if TYPE_CHECKING:
    from skytext.run.plans.caption_plan import CaptionPlan
    from skytext.run.reindex.compare_versions import Comparison
    from skytext.run.reindex.reindex_run import ReindexSummary

_REASONS = {"new": "new or changed", "failed": "failed in an earlier run", "stale": "stale"}


@with_options_of(caption, without=["stale", "verify_all"])
def reindex(
    *,
    max_images: Annotated[
        int | None,
        typer.Option(min=1, help="Stop when this number of images has been described or embedded."),
    ] = None,
    max_hours: Annotated[
        float | None,
        typer.Option(help="After this number of hours, do not start to process more images."),
    ] = None,
    report: Annotated[
        str | None,
        typer.Option(
            help="Folder or bucket address for reports. Default: the folder reports in the table's "
            "folder.",
            metavar="DIR",
        ),
    ] = None,
    max_withdrawn: Annotated[
        float | None,
        typer.Option(
            min=0,
            max=1,
            help="Maximum share of an archive's images that may be missing. If more images are "
            "missing, the command fails; default: 0.05.",
        ),
    ] = None,
    canary: Canary = None,
    canary_minutes: CanaryMinutes = None,
    **options: Any,
) -> None:
    """Update a table after its archive or its settings have changed. Run this command every night.

    The command describes new and changed images. It tries failed images again. It replaces captions
    and vectors that were made with other settings. It withdraws images that are missing from the
    archive. Then it refreshes the indexes, checks the new version, makes it live, and removes old
    versions. If a check fails, the live version does not change, and the exit status is 1.
    """
    from skytext.cli.output import JobBar, answers, note, print_json
    from skytext.run.plans.caption_plan import plan_caption
    from skytext.run.reindex.notify import NotifyError
    from skytext.run.reindex.notify_run import check_outcome, notifying_on_failure
    from skytext.run.reindex.reindex_run import GateError, run_reindex
    from skytext.table.location import TableLocation

    own = {
        "reindex.max_images": max_images,
        "reindex.max_hours": max_hours,
        "reindex.max_withdrawn": max_withdrawn,
        "reindex.report": report,
        "reindex.canary": canary,
        "reindex.canary_minutes": canary_minutes,
    }
    config = caption_config(options, own)
    with notifying_on_failure(TableLocation.parse(options["table"]), config, note):
        plan = plan_caption(options["sources"], options["table"], config, stale="all")
        _check_model(plan)
    announce(plan)
    failure: GateError | NotifyError | None = None
    try:
        with JobBar() as bar:
            summary = run_reindex(
                plan, ray_address=options["ray_address"], on_progress=bar.on_progress, on_note=note
            )
    except (GateError, NotifyError) as error:
        summary, failure = error.summary, error
    if options["as_json"]:
        print_json(summary.to_json())
    else:
        for line in _lines(summary):
            answers.print(line, markup=False, soft_wrap=True)
    if isinstance(failure, GateError):
        raise failure
    check_outcome(plan.location.uri, summary)
    if failure is not None:
        raise failure


def _check_model(plan: CaptionPlan) -> None:
    """Check that the default model does not replace the model of an existing table.

    Raises:
        ConfigError: no model is named, and the images were described by other models than the
            default model.
    """
    from skytext.table.images_dataset import ImagesTable

    table = ImagesTable.find(plan.location)
    if table is None or "model" in plan.config.caption.model_fields_set:
        return
    models = table.caption_models()
    if models and plan.caption_model.name not in models:
        raise ConfigError(
            f"the images in {plan.location.uri} were described by {', '.join(models)}, but this "
            f"command names no model. Name the model to use, e.g. --model {models[0]}"
        )


def _comparison_lines(kind: str, found: Comparison | None, why_not: str) -> Iterator[str]:
    if why_not:
        yield why_not
    if found is None:
        return
    refused = (
        f"; both versions rejected {found.num_refused:,} other queries" if found.num_refused else ""
    )
    yield (
        f"{found.num_queries:,} {kind} queries: overlap@10 with version {found.live_version} is "
        f"{found.overlap_at_10:.2f}{refused}"
    )
    for change in found.changes:
        yield (
            f"  {change.overlap_at_10:.2f}  {change.query}: in the first ten hits, "
            f"{len(change.lost)} are lost and {len(change.gained)} are new"
        )


def _lines(summary: ReindexSummary) -> Iterator[str]:
    from skytext.cli.output import plural

    for vectors in summary.vectors:
        yield (
            f"{vectors['num_embedded']:,} {EMBEDDED[vectors['kind']]} embedded again with "
            f"{vectors['model']}, {vectors['num_failed']:,} failed"
        )
    for reason, run in summary.runs.items():
        yield (
            f"{_REASONS[reason]}: {plural(run.num_captioned, 'image')} described, "
            f"{run.num_newly_failed:,} failed"
        )
    if summary.num_withdrawn:
        yield f"{plural(summary.num_withdrawn, 'image')} withdrawn: not in the archive any longer"
    for check in summary.gate:
        yield f"  {'passed' if check.passed else 'FAILED'}  {check}"
    yield from _comparison_lines("golden", summary.comparison, summary.not_compared)
    yield from _comparison_lines("logged", summary.shadow, summary.no_shadow)
    if summary.was_promoted:
        yield f"version {summary.live_version} is live"
    elif summary.canary is not None:
        yield f"canary: {summary.canary.described}; live version: {summary.live_version}"
    else:
        yield f"nothing was promoted; live version: {summary.live_version or 'none'}"
    for report in summary.matches:
        for one in report.counts:
            yield (
                f"{plural(one['num_matches'], 'new image')} for {one['text']!r} "
                f"({one['query_id']}): {report.address}"
            )
    if summary.cleaned is not None and summary.cleaned.num_versions:
        versions = plural(summary.cleaned.num_versions, "old version")
        yield f"{versions} removed ({summary.cleaned.num_bytes / 1e6:,.1f} MB)"
    if summary.report:
        yield f"report: {summary.report}"
    if summary.is_partial:
        yield "a limit (max_images or max_hours) is reached: run the same command again to continue"
