"""Test the end of a run.

New matches are delivered with the report. If the delivery fails, a later run delivers the matches.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from skytext.cli import run as main
from skytext.config.settings import Config, load_config
from skytext.errors import CommitConflictError, JobError
from skytext.run.plans.caption_plan import CaptionPlan
from skytext.run.reindex import new_matches, notify_run
from skytext.run.reindex.notify import NotifyError
from skytext.run.reindex.notify_run import finish_run, notify_on_failure
from skytext.run.reindex.reindex_run import ReindexSummary
from skytext.table.commits.claim import hold
from skytext.table.images_dataset import ImagesTable
from skytext.table.standing.reported_matches import Compared, MatchLog
from skytext.table.standing.standing_queries import StandingQueries
from skytext.table.store.state_files import StateStore
from skytext.table.versions.promote_rollback import promote, rollback
from tests.cli.tables import described_row, make_described_table
from tests.run.reindex.match_watcher import Watcher
from tests.table.rows import committer, location, stage


def _here(function: Callable[..., Any], *args: Any) -> Any:
    return function(*args)


@pytest.fixture(autouse=True)
def in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Run the tasks of the driver's node in this process, without Ray."""
    for module in (new_matches, notify_run):
        monkeypatch.setattr(module, "run_on_driver_node", _here)


def finish(table: Path, **settings: Any) -> ReindexSummary:
    given = {f"reindex.{name}": value for name, value in settings.items()}
    where = location(table)
    plan = _plan(where, load_config(None, {"embed.model": "fake"} | given))
    summary = ReindexSummary(live_version=1, duration_s=1.0)
    with hold(where, "run", "reindex") as claim:
        finish_run(plan, claim, summary)
    return summary


def _plan(where: Any, config: Config) -> CaptionPlan:
    """Return a plan that has only the attributes that the end of a run uses."""
    plan = object.__new__(CaptionPlan)
    object.__setattr__(plan, "location", where)
    object.__setattr__(plan, "config", config)
    return plan


def add_image(table: Path, member: str, text: str, *, is_served: bool = True) -> None:
    where = location(table)
    writer = committer(where, ImagesTable.open(where).text_column)
    writer.commit([stage(where, [described_row(member, [text])])])
    if is_served:
        promote(where)


def numbers(summary: ReindexSummary) -> list[tuple[int, int]]:
    return [(report.number, report.num_matches) for report in summary.matches]


def test_undelivered_matches_are_delivered_by_the_next_run(tmp_path: Path) -> None:
    table = tmp_path / "table"
    promote(make_described_table(table).location)
    StandingQueries(location(table)).add("an airport", 0.3)
    assert numbers(finish(table)) == []
    add_image(table, "new.jpg", "an airport by the sea")
    with pytest.raises(NotifyError, match="status 1") as caught:
        finish(table, command="false", notify_timeout_s=0.1)
    assert numbers(caught.value.summary) == [(1, 1)]
    files = [path.name for path in (table / "reports").iterdir() if path.suffix == ".geojson"]
    add_image(table, "other.jpg", "an airport in the hills")
    # The waiting report keeps its number, and is delivered before the new report.
    assert numbers(finish(table)) == [(1, 1), (2, 1)]
    assert numbers(finish(table)) == []
    features = [
        json.loads((table / "reports" / name).read_text())["features"]
        for name in (*files, "matches-000002.geojson")
    ]
    assert [[one["properties"]["member"] for one in found] for found in features] == [
        ["new.jpg"],
        ["other.jpg"],
    ]


def test_an_image_that_is_not_served_yet_is_new_for_a_query(tmp_path: Path) -> None:
    table = tmp_path / "table"
    promote(make_described_table(table).location)
    # A captioning run described this image, but the version was not promoted. No search finds the
    # image.
    add_image(table, "new.jpg", "an airport by the sea", is_served=False)
    StandingQueries(location(table)).add("an airport", -1.0)
    assert numbers(finish(table)) == []
    promote(location(table))
    (report,) = finish(table).matches
    assert (report.num_matches, report.counts[0]["text"]) == (1, "an airport")


class Killed(BaseException):
    """Ends the run like a kill, because no code catches this error."""


@pytest.mark.parametrize(
    "place", [(notify_run, "find_new_matches"), (MatchLog, "matches"), (MatchLog, "mark_sent")]
)
def test_a_killed_run_reports_nothing_twice_and_nothing_never(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: tuple[Any, str]
) -> None:
    table = tmp_path / "table"
    promote(make_described_table(table).location)
    watcher = Watcher(table, StandingQueries(location(table)).add("an airport", -1.0))
    add_image(table, "new.jpg", "an airport by the sea")

    def kill(*_: Any) -> Any:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(*place, kill)
        with pytest.raises(Killed):
            finish(table)
    add_image(table, "other.jpg", "an airport in the hills")
    finish(table)
    watcher.check()
    assert len(watcher.reported()) == 2
    assert finish(table).matches == ()
    log = MatchLog(location(table)).last()
    assert (log.waiting, len(log.reported[watcher.query.query_id])) == ((), 2)
    assert list(StateStore(location(table)).list("watch/matches")) == []


def test_the_candidates_of_one_query_at_a_time_are_in_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table, steps = tmp_path / "table", list[str]()
    promote(make_described_table(table).location)
    for text in ("an airport", "ships"):
        StandingQueries(location(table)).add(text, -1.0)
    add_image(table, "new.jpg", "an airport by the sea")

    def noted(name: str) -> None:
        called = getattr(new_matches, name)

        def note_and_call(*args: Any) -> Any:
            steps.append(name)
            return called(*args)

        monkeypatch.setattr(new_matches, name, note_and_call)

    for name in ("unseen_pictures", "matching_pictures", "make_table_embedder"):
        noted(name)
    (report,) = finish(table).matches
    assert [one["num_matches"] for one in report.counts] == [1, 1]
    first = ["unseen_pictures", "make_table_embedder", "matching_pictures"]
    assert steps == [*first, "unseen_pictures", "matching_pictures"]


def test_a_roll_back_and_a_second_promotion_report_nothing_twice(tmp_path: Path) -> None:
    table = tmp_path / "table"
    promote(make_described_table(table).location)
    query = StandingQueries(location(table)).add("ships", -1.0)
    add_image(table, "new.jpg", "ships and cranes")
    assert numbers(finish(table)) == [(1, 1)]
    rollback(location(table))
    assert numbers(finish(table)) == []
    promote(location(table))
    assert numbers(finish(table)) == []
    late = StandingQueries(location(table)).add("ships", -1.0)
    assert numbers(finish(table)) == []
    StandingQueries(location(table)).remove(query.query_id)
    add_image(table, "more.jpg", "ships again")
    (report,) = finish(table).matches
    assert [one["query_id"] for one in report.counts] == [late.query_id]


def test_a_failure_is_notified_even_without_a_report(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table, received = tmp_path / "table", tmp_path / "received"
    make_described_table(table)
    settings = {"reindex.command": f"tee -a {received}", "reindex.notify_timeout_s": 5}
    plan = _plan(location(table), load_config(None, settings))

    @notify_on_failure
    def run(plan: CaptionPlan, **_: Any) -> ReindexSummary:
        raise JobError("the engine died")

    notes: list[str] = []
    with pytest.raises(JobError, match="the engine died"):
        run(plan, on_note=notes.append)
    (first,) = map(json.loads, received.read_text().splitlines())
    assert (first["event"], first["problem"]) == ("reindex.failed", "the engine died")
    assert "the engine died" in Path(first["report"]).read_text()
    assert notes == []

    def refuse(*_: Any) -> None:
        raise JobError("no space")

    received.unlink()
    monkeypatch.setattr(StateStore, "put", refuse)
    with pytest.raises(JobError, match="the engine died"):
        run(plan, on_note=notes.append)
    (second,) = map(json.loads, received.read_text().splitlines())
    assert (second["problem"], second["report"]) == ("the engine died", "")
    assert notes == ["the failure could not be reported: no space"]

    # If the disk is full, Lance and the report raise an OSError.
    def full(*_: Any) -> None:
        raise OSError("no space left")

    @notify_on_failure
    def run_on_full_disk(plan: CaptionPlan, **_: Any) -> ReindexSummary:
        raise OSError("LanceError(IO): disk full")

    received.unlink()
    notes.clear()
    monkeypatch.setattr(StateStore, "put", full)
    with pytest.raises(OSError, match="disk full"):
        run_on_full_disk(plan, on_note=notes.append)
    (third,) = map(json.loads, received.read_text().splitlines())
    assert (third["problem"], third["report"]) == ("LanceError(IO): disk full", "")
    assert notes == ["the failure could not be reported: no space left"]


def test_a_run_that_cannot_be_planned_is_notified(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table, received = tmp_path / "table", tmp_path / "received"
    make_described_table(table)
    call = ["reindex", str(tmp_path / "gone"), "--model", "fake", "--embedding-model", "fake"]
    call += ["--set", f"reindex.command=tee -a {received}", "--table"]
    assert main([*call, str(table)]) == 2
    (first,) = map(json.loads, received.read_text().splitlines())
    assert first["event"] == "reindex.failed"
    assert "gone" in first["problem"]
    assert first["problem"] in " ".join(capsys.readouterr().err.split())
    assert "does not exist" in Path(first["report"]).read_text()

    # If there is no table, the address may be wrong. Nothing is written to this address.
    received.unlink()
    assert main([*call, str(tmp_path / "other")]) == 2
    assert json.loads(received.read_text())["report"] == ""
    assert not (tmp_path / "other").exists()


def test_a_run_that_was_overtaken_writes_nothing_into_the_log(tmp_path: Path) -> None:
    make_described_table(tmp_path / "table")
    log = MatchLog(location(tmp_path / "table"))
    before = log.last()
    assert before == Compared()
    after = log.append(before, dataclasses.replace(before, num_reports=1))
    with pytest.raises(CommitConflictError, match="run the same command again"):
        log.append(before, dataclasses.replace(before, num_reports=2))
    assert log.last() == after
    assert (after.number, after.num_reports) == (1, 1)
