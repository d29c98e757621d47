"""Report the new images that match standing queries."""

from __future__ import annotations

from dataclasses import replace

from skytext.config.settings import Config
from skytext.run.caption_plan import CaptionPlan
from skytext.run.reindex.new_matches import find_new_matches
from skytext.table.commits.claim import Claim
from skytext.table.location import TableLocation
from skytext.table.reported_matches import MatchLog, MatchReport
from skytext.table.state_files import StateStore

_FOLDER = "reports"


def report_store(location: TableLocation, config: Config) -> StateStore:
    """Return where the reports of a table go.

    Raises:
        AddressError: ``reindex.report`` is no address.
        TableError: it is a file.
    """
    if config.reindex.report is None:
        return StateStore(location, folder=_FOLDER)
    return StateStore(TableLocation.parse(config.reindex.report), folder="")


def report_matches(plan: CaptionPlan, claim: Claim) -> tuple[MatchReport, ...]:
    """Find new images that match, write their GeoJSON files, and return the reports.

    A report of an earlier run that was ended before it was told is among them. Its file has the
    same name and content whichever run writes it.

    Args:
        plan: of the run.
        claim: of the run.

    Raises: as `find_new_matches`.
    """
    log, folder = MatchLog(claim.location), report_store(claim.location, plan.config)
    told = []
    for report in find_new_matches(claim, plan.config.embed):
        name = f"matches-{report.number:06d}.geojson"
        folder.put(name, log.matches(report))
        told.append(replace(report, address=f"{folder.uri}/{name}"))
    for report in told:
        log.mark_told(report)
    return tuple(told)
