"""Write the report of a run as a Markdown file and as one HTML file."""

from __future__ import annotations

import hashlib

from skytext.config.settings import Config
from skytext.run.reindex.report import samples, sections
from skytext.run.reindex.report.facts import RunFacts
from skytext.run.reindex.report.page import Page
from skytext.run.reindex.report.page_html import to_html
from skytext.run.reindex.report.page_markdown import to_markdown
from skytext.table.images_dataset import ImagesTable
from skytext.table.location import TableLocation
from skytext.table.queries.run_rows import rows_of_runs
from skytext.table.store.state_files import StateStore

_FOLDER = "reports"


def report_store(location: TableLocation, config: Config) -> StateStore:
    """Return the store for the reports of a table.

    If ``reindex.report`` is set, each table has its own folder in ``reindex.report``, because
    several tables may use the same setting and may write reports with the same names.

    Raises:
        AddressError: ``reindex.report`` is not a valid address.
        TableError: ``reindex.report`` is the address of a file.
    """
    if config.reindex.report is None:
        return StateStore(location, folder=_FOLDER)
    uri = location.uri
    own = f"{uri.rsplit('/', 1)[-1]}-{hashlib.sha256(uri.encode()).hexdigest()[:8]}"
    return StateStore(TableLocation.parse(config.reindex.report), folder=own)


def write_report(facts: RunFacts) -> str:
    """Write the report of a run; return the address of the HTML file.

    If there are more than ``reindex.keep_reports`` reports, the oldest reports are deleted.

    Raises:
        JobError: a store request failed.
    """
    page, folder = make_page(facts), report_store(facts.location, facts.config)
    folder.put(f"{facts.name}.md", to_markdown(page).encode())
    folder.put(f"{facts.name}.html", to_html(page).encode())
    pages = sorted(name for name in folder.list("") if name.endswith("Z.html"))
    old = pages[: -facts.config.reindex.keep_reports]
    folder.delete([*old, *(name.removesuffix("html") + "md" for name in old)])
    return f"{folder.uri}/{facts.name}.html"


def make_page(facts: RunFacts) -> Page:
    """Make the content of the report from the facts about a run."""
    after = ImagesTable.find(facts.location)
    shown = [sections.changes(facts, None)]
    if after is not None:
        before = None
        if facts.version_before is not None:
            before = ImagesTable.open(facts.location, facts.version_before)
        rows = rows_of_runs(before, after, [run["run_id"] for run in facts.runs.values()])
        shown = [
            sections.changes(facts, rows),
            *samples.match_sections(facts, after),
            *samples.samples(facts, before, after, rows),
            samples.withdrawn(facts, after),
        ]
    shown += [
        sections.failures(facts, after),
        sections.checks(facts),
        *sections.comparisons(facts),
        sections.costs(facts),
        sections.upkeep(facts),
    ]
    if not facts.summary:
        # If the result of the run is unknown, only the failures are shown.
        shown = [sections.failures(facts, after)]
    return Page(
        title=f"Re-indexing of {facts.location.uri}",
        outcome=facts.outcome,
        facts=list(_head(facts, after).items()),
        problem=facts.problem,
        sections=shown,
    )


def _head(facts: RunFacts, after: ImagesTable | None) -> dict[str, str]:
    """Return the most important figures. The keys are the labels of the figures."""
    live = None if after is None else after.live_version()
    head = {
        "started (UTC)": f"{facts.started_at:%Y-%m-%d %H:%M}",
        "live version": "none" if live is None else f"{live}",
    }
    if facts.version_before not in (None, live):
        head["live before"] = f"{facts.version_before}"
    if facts.summary:
        described = sum(run["num_captioned"] for run in facts.runs.values())
        head["took"] = sections.duration(facts.summary["duration_s"])
        head["described"] = f"{described:,}"
        head["failed"] = f"{sum(run['num_newly_failed'] for run in facts.runs.values()):,}"
        head["withdrawn"] = f"{facts.summary['num_withdrawn']:,}"
        head["tokens written"] = f"{sum(r['num_output_tokens'] for r in facts.runs.values()):,}"
    if after is not None:
        counts = after.status_counts()
        head["images in the table"] = f"{counts['ok'] + counts['failed']:,}"
    price = facts.config.job.cost_per_engine_hour
    if price is not None and facts.runs:
        hours = sum(run["engine_span_s"] for run in facts.runs.values()) / 3600
        head["cost"] = f"{hours * price:,.2f}"
    return head
