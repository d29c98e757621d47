"""Write the report of a run, report new matches of standing queries, and send notifications."""

from __future__ import annotations

import datetime as dt
import functools
import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, Protocol, TypeVar

from skytext.config.settings import Config
from skytext.errors import BrokenListingError, IncompleteRunError, SkytextError, StoreFaultError
from skytext.run.cluster.driver_node import run_on_driver_node
from skytext.run.plans.caption_plan import CaptionPlan
from skytext.run.progress import RunSummary, check_all_read
from skytext.run.reindex.new_matches import find_new_matches
from skytext.run.reindex.notify import NotifyError, notify
from skytext.run.reindex.report.facts import RunFacts
from skytext.run.reindex.report.page import Outcome
from skytext.run.reindex.report.write_report import report_store, write_report
from skytext.run.vector_run import check_store_gave_all
from skytext.table.commits.claim import Claim
from skytext.table.freshness import note_success
from skytext.table.images_dataset import ImagesTable
from skytext.table.location import TableLocation
from skytext.table.standing.reported_matches import MatchLog, MatchReport
from skytext.table.versions.promote_rollback import promotions

_log = logging.getLogger(__name__)


class Done(Protocol):
    """The result of a run: `skytext.run.reindex.reindex_run.ReindexSummary`."""

    vectors: list[dict[str, Any]]
    runs: dict[str, RunSummary]
    incomplete: str
    broken_listing: str
    live_version: int | None
    was_promoted: bool
    is_partial: bool
    duration_s: float
    report: str
    matches: tuple[MatchReport, ...]

    def to_json(self) -> dict[str, Any]:
        """Return the fields as a JSON object."""


D = TypeVar("D", bound=Done)


def check_outcome(table: str, summary: Done) -> None:
    """Raise an error if a run ended normally but did not do all its work.

    Args:
        table: address of the table.
        summary: result of the run.

    Raises:
        BrokenListingError: too many images are missing from the archive, so no image was withdrawn.
        IncompleteRunError: the configured model returned no finite vector for some descriptions.
        StoreFaultError: the store did not return some images. This is also raised if the table has
            no captioned image.
    """
    if summary.broken_listing:
        raise BrokenListingError(summary.broken_listing)
    if summary.incomplete:
        raise IncompleteRunError(summary.incomplete)
    for vectors in summary.vectors:
        check_store_gave_all(vectors["failures"], vectors["failure_samples"])
    for run in summary.runs.values():
        check_all_read(run)
    if summary.live_version is None and not any(run.num_ok for run in summary.runs.values()):
        raise StoreFaultError(f"{table} has no captioned image, so no index was built")


def finish_run(plan: CaptionPlan, claim: Claim, summary: Done) -> None:
    """Report the result of a run and the new matches of standing queries, at the end of the run.

    The function also delivers the match reports that earlier runs could not deliver. The files of
    these reports keep their names and their contents.

    Args:
        plan: plan of the run.
        claim: the claim that the run holds on the table.
        summary: result of the run. This function sets the attributes ``report`` and ``matches``.

    Raises: the errors of `find_new_matches` and `write_report`, and
        NotifyError: a notification failed. The next run delivers the match reports again.
    """
    log, folder = MatchLog(claim.location), report_store(claim.location, plan.config)
    matches = []
    for waiting in find_new_matches(claim, plan.config.embed):
        name, geojson = f"matches-{waiting.number:06d}.geojson", log.matches(waiting)
        folder.put(name, geojson)
        matches.append((replace(waiting, address=f"{folder.uri}/{name}"), geojson))
    summary.matches = tuple(report for report, _ in matches)
    outcome, problem = _outcome(plan, summary)
    started_at = dt.datetime.now(dt.UTC) - dt.timedelta(seconds=summary.duration_s)
    facts = RunFacts(
        location=plan.location,
        config=plan.config,
        started_at=started_at,
        outcome=outcome,
        problem=problem,
        summary=summary.to_json(),
        version_before=_version_before(plan, was_promoted=summary.was_promoted),
        matches=tuple(matches),
    )
    summary.report = run_on_driver_node(write_report, facts)
    try:
        notify(facts, summary.report)
    except NotifyError as error:
        error.summary = summary
        raise
    for report in summary.matches:
        log.mark_sent(report)
    if outcome != "failed":
        note_success(plan.location)


def _outcome(plan: CaptionPlan, summary: Done) -> tuple[Outcome, str]:
    try:
        check_outcome(plan.location.uri, summary)
    except SkytextError as error:
        return "failed", str(error)
    return ("partial" if summary.is_partial else "done"), ""


def _version_before(plan: CaptionPlan, *, was_promoted: bool) -> int | None:
    """Return the version that was live before the run; None if no version was live."""
    if was_promoted:
        return promotions(plan.location, 1)[0].previous_version
    table = ImagesTable.find(plan.location)
    return None if table is None else table.live_version()


def notify_on_failure(run: Callable[..., D]) -> Callable[..., D]:
    """Wrap a function that executes a run.

    If the function raises an error, the wrapper writes a report and sends notifications.
    """

    @functools.wraps(run)
    def run_and_notify(plan: CaptionPlan, **options: Any) -> D:
        on_note = options.get("on_note", _log.warning)
        with notifying_on_failure(plan.location, plan.config, on_note):
            return run(plan, **options)

    return run_and_notify


@contextmanager
def notifying_on_failure(
    location: TableLocation, config: Config, on_note: Callable[[str], None] = _log.warning
) -> Iterator[None]:
    """If the block raises an error, write a report and send notifications.

    Args:
        location: the table.
        config: the settings.
        on_note: receives a message if the failure cannot be reported. The error that the block
            raised is always raised again.
    """
    started_at = dt.datetime.now(dt.UTC)
    try:
        yield
    except NotifyError:
        raise
    except Exception as error:
        try:
            _notify_failure(location, config, started_at, error)
        # The error that ended the run is raised below. An error of the report must not replace it.
        except Exception as second:  # noqa: BLE001
            on_note(f"the failure could not be reported: {second}")
        raise


def _notify_failure(
    location: TableLocation, config: Config, started_at: dt.datetime, error: Exception
) -> None:
    done: Done | None = getattr(error, "summary", None)
    summary: Mapping[str, Any] = {}
    if done is not None:
        done.duration_s = (dt.datetime.now(dt.UTC) - started_at).total_seconds()
        summary = done.to_json()
    facts = RunFacts(
        location=location,
        config=config,
        started_at=started_at,
        outcome="failed",
        problem=str(error) or type(error).__name__,
        summary=summary,
        version_before=None,
    )
    address = ""
    try:
        address = _report_failure(facts)
        if done is not None:
            done.report = address
    finally:
        # Send the notifications even if the report could not be written.
        notify(facts, address)


def _report_failure(facts: RunFacts) -> str:
    """Write the report of a failed run; return its address.

    If the table does not exist and ``reindex.report`` is not set, no report is written, because the
    address of the table may be wrong. The result is then an empty string.
    """
    table = ImagesTable.find(facts.location)
    if table is None and facts.config.reindex.report is None:
        return ""
    before = None if table is None else table.live_version()
    return write_report(replace(facts, version_before=before))
