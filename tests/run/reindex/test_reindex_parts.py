"""Test the decisions of a reindex run that need no Ray."""

from __future__ import annotations

import dataclasses
import datetime as dt
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from skytext.cli.reindex import _lines
from skytext.config.settings import Config, load_config
from skytext.errors import IncompleteRunError, ModelError
from skytext.evaluation.golden import Golden, GoldenQuery
from skytext.models.checkpoints import image_model
from skytext.run.control.budget import Budget
from skytext.run.control.interruption import Stopping
from skytext.run.open_run import HeldTable
from skytext.run.plans.caption_plan import CaptionPlan, plan_caption
from skytext.run.plans.vector_plan import image_column, plan_stale_vectors
from skytext.run.reindex import change_model, compare_versions, gate, reindex_run
from skytext.run.reindex.compare_versions import NotComparedError
from skytext.run.reindex.gate import Check
from skytext.run.reindex.image_vectors import missing_image_vectors
from skytext.run.reindex.notify_run import check_outcome
from skytext.run.reindex.reindex_run import (
    GateError,
    ReindexSummary,
    _compare,
    _compute,
    _replaced_model,
    _serve,
)
from skytext.run.reindex.report.facts import RunFacts
from skytext.run.reindex.report.sections import checks
from skytext.table.commits.change_columns import activate_column
from skytext.table.commits.claim import hold
from skytext.table.images_dataset import ImagesTable
from skytext.table.location import TableLocation
from skytext.table.logged_queries import LoggedQuery, save_queries
from skytext.table.store.state_files import StateStore
from skytext.table.vector_columns import Role, VectorColumn
from skytext.table.versions import canary
from skytext.table.versions.promote_rollback import end_canary, promote, promotions, start_canary
from tests.service.tables import embed_again, make_served_table
from tests.table.image_rows import IMAGE_DIM, embed_numbers
from tests.table.rows import committer, good_rows, location, make_table, stage


def plan_of(where: TableLocation, config: Config) -> CaptionPlan:
    """Return a plan that has only the attributes that the tested functions use."""
    plan = object.__new__(CaptionPlan)
    object.__setattr__(plan, "location", where)
    object.__setattr__(plan, "config", config)
    return plan


def settings(image_model_name: str, **more: Any) -> Config:
    given = {"image_embed.model": image_model_name, "embed.model": "fake"}
    return load_config(None, given | more)


def models_of_missing(where: TableLocation, named: str, *, is_limited: bool = False) -> list[str]:
    plans = missing_image_vectors(plan_of(where, settings(named)), is_limited=is_limited)
    return [one.model.name for one in plans]


def column_of(name: str) -> VectorColumn:
    config = settings(name)
    return dataclasses.replace(image_column(image_model(config.image_embed), config), dim=IMAGE_DIM)


def roles(where: TableLocation) -> dict[str, Any]:
    found = ImagesTable.open(where).columns
    return {column.model: column.role for column in found if column.kind == "image"}


def test_a_full_image_column_that_searches_do_not_use_is_planned_until_they_do(
    tmp_path: Path,
) -> None:
    where = location(tmp_path / "table")
    make_table(where, good_rows(0, 3))
    old, new = column_of("fake"), column_of("fake:dim=12")
    embed_numbers(where, 0, 1, 2, column=old)
    assert models_of_missing(where, "fake") == []
    embed_numbers(where, 0, 1, 2, column=new)

    # The run was killed after the last vector. The new column is full, but still pending.
    assert roles(where) == {"fake": Role.ACTIVE, "fake:dim=12": Role.PENDING}
    assert models_of_missing(where, "fake:dim=12") == ["fake:dim=12"]
    assert models_of_missing(where, "fake") == []

    # The settings name the old model again.
    promote(where)
    activate_column(ImagesTable.open(where), new)
    assert roles(where) == {"fake": Role.RETIRED, "fake:dim=12": Role.ACTIVE}
    assert models_of_missing(where, "fake") == ["fake"]
    assert models_of_missing(where, "fake:dim=12") == []


def test_with_a_budget_images_get_vectors_of_the_model_in_use_first(tmp_path: Path) -> None:
    where = location(tmp_path / "table")
    make_table(where, good_rows(0, 3))
    embed_numbers(where, 0, 1, 2, column=column_of("fake"))
    assert models_of_missing(where, "fake:dim=12", is_limited=True) == ["fake:dim=12"]
    committer(where).commit([stage(where, good_rows(3, 1))])
    assert models_of_missing(where, "fake:dim=12", is_limited=True) == ["fake", "fake:dim=12"]
    # Without a budget, the model changes in the same run.
    assert models_of_missing(where, "fake:dim=12") == ["fake:dim=12"]
    # With other pixel settings, vectors of the old model cannot be computed.
    other = settings("fake:dim=12", **{"images.max_side_px": 512})
    found = missing_image_vectors(plan_of(where, other), is_limited=True)
    assert [one.model.name for one in found] == ["fake:dim=12"]


def test_a_refused_change_of_the_embedding_model_says_how_to_go_back(tmp_path: Path) -> None:
    table = make_served_table(tmp_path)
    promote(table.location)
    check = Check("recall@10", 0.5, "0.95 at least", passed=False)
    summary = ReindexSummary(live_version=table.version, gate=[check])
    assert _replaced_model(table.location, summary) == ""
    assert "--embedding-model" not in str(GateError(summary))
    embed_again(table.location, "fake:dim=24")
    messages = str(GateError(summary, _replaced_model(table.location, summary)))
    assert messages.endswith("run the same command with --embedding-model fake")


def test_a_description_without_a_finite_vector_does_not_stop_the_night(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = make_served_table(tmp_path)
    config = load_config(None, {"embed.model": "fake:dim=24"})
    (of_texts,) = plan_stale_vectors(table.location.uri, config)
    message = "'fake:dim=24' returned no finite vector for 1 of 4 descriptions"
    described: list[str] = []

    def refuse(*_: Any, **__: Any) -> None:
        raise IncompleteRunError(message)

    def run_caption(plan: CaptionPlan, **_: Any) -> Any:
        described.append("stale" if plan.redo_stale else "new")
        return SimpleNamespace(to_json=dict)

    monkeypatch.setattr(reindex_run, "run_on_driver_node", lambda f, *args: f(*args))
    monkeypatch.setattr(change_model, "run_on_driver_node", lambda f, *args: f(*args))
    monkeypatch.setattr(reindex_run, "run_vectors", refuse)
    monkeypatch.setattr(reindex_run, "run_caption", run_caption)
    archive = str(tmp_path / "archive")
    plan = plan_caption([archive], table.location.uri, config, stale="all")
    assert [one.column.fits(of_texts.column) for one in plan.stale_vectors] == [True]
    summary, notes = ReindexSummary(live_version=1), list[str]()
    with hold(table.location, "run", "reindex") as claim:
        held = HeldTable(claim, Stopping(1.0, 1.0, enabled=False))
        _compute(plan, held, summary, lambda _: None, notes.append)
    assert "new" in described
    assert summary.to_json()["incomplete"] == message
    assert message in notes
    assert ImagesTable.open(table.location).text_column.model == "fake"
    with pytest.raises(IncompleteRunError, match="returned no finite vector"):
        check_outcome(table.location.uri, summary)


def test_new_images_leave_a_part_of_the_budget_to_old_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = make_served_table(tmp_path)
    done: list[tuple[str, int]] = []

    def run_caption(plan: CaptionPlan, *, held: HeldTable, **_: Any) -> Any:
        """Spend the budget, as if the archive always had one more new image."""
        before = held.budget.num_images
        while not held.budget.is_spent:
            held.budget.spend(1)
        reason = "stale" if plan.redo_stale else "new"
        done.append((reason, held.budget.num_images - before))
        return SimpleNamespace(is_partial=True)

    monkeypatch.setattr(reindex_run, "run_on_driver_node", lambda f, *args: f(*args))
    monkeypatch.setattr(reindex_run, "run_caption", run_caption)
    given = {"embed.model": "fake", "caption.model": "fake"}
    config = load_config(None, given)
    plan = plan_caption([str(tmp_path / "archive")], table.location.uri, config, stale="all")
    for num_stale, expected in ((4, [("new", 8), ("stale", 2)]), (0, [("new", 10)])):
        due = {"failed": 0, "stale": num_stale}
        monkeypatch.setattr(reindex_run, "_num_due", lambda _, due=due: due)
        done.clear()
        with hold(table.location, "run", "reindex") as claim:
            held = HeldTable(claim, Stopping(1.0, 1.0, enabled=False), Budget(max_images=10))
            _compute(plan, held, ReindexSummary(), lambda _: None, lambda _: None)
        assert done == expected


def test_golden_queries_that_were_not_compared_are_in_the_summary(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any) -> None:
        raise NotComparedError("not compared: no model")

    monkeypatch.setattr(reindex_run, "compare_versions", refuse)
    plan = plan_of(location(tmp_path / "table"), settings("fake"))
    summary, notes = ReindexSummary(live_version=1), list[str]()
    golden = Golden(queries=(GoldenQuery(query="a river", images=("river.jpg",)),))
    _compare(plan, summary, (1, 2), golden, notes.append)
    assert (summary.gate, summary.comparison) == ([], None)
    assert summary.to_json()["not_compared"] == "not compared: no model"
    assert "not compared: no model" in _lines(summary)
    assert notes[1:] == ["not compared: no model"]


def test_logged_queries_are_compared_and_add_a_check_only_without_golden_queries(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    where = make_served_table(tmp_path).location
    monkeypatch.setattr(compare_versions, "run_on_driver_node", lambda f, *args: f(*args))
    versions = ImagesTable.open(where).version, ImagesTable.open(where).version - 1
    river = Golden(queries=(GoldenQuery(query="a river", images=("river.jpg",)),))

    def compare(golden: Golden | None = None, **limits: Any) -> tuple[ReindexSummary, str]:
        given = {f"reindex.{name}": value for name, value in limits.items()}
        summary, notes = ReindexSummary(live_version=versions[0]), list[str]()
        _compare(plan_of(where, settings("fake", **given)), summary, versions, golden, notes.append)
        return summary, "\n".join(notes)

    assert compare() == (ReindexSummary(live_version=versions[0]), "")
    now = dt.datetime.now(dt.UTC)
    searches = [{"text": "a forest"}, {"text": "a river"}, {"text": "of tomorrow", "new": 1}]
    save_queries(where, "a", [LoggedQuery(now, search) for search in searches])
    StateStore(where).put("queries/broken.json", b"{")
    summary, notes = compare()
    assert summary.shadow is not None
    assert (summary.shadow.num_queries, summary.shadow.overlap_at_10) == (2, 0.5)
    assert (summary.comparison, summary.gate) == (None, [])
    assert "queries/broken.json is damaged" in notes
    assert "a logged query was skipped: the request is invalid at new" in notes
    lines = "\n".join(_lines(summary))
    assert f"2 logged queries: overlap@10 with version {versions[0]} is 0.50" in lines
    assert summary.to_json()["shadow"]["changes"][0]["overlap_at_10"] == 0.5
    assert compare(shadow_queries=0)[0].shadow is None

    (check,) = compare(min_overlap=0.6)[0].gate
    assert ("logged queries" in check.name, check.passed) == (True, False)
    both, _ = compare(river, min_overlap=0.5, max_golden_drop=1.0)
    assert both.shadow is not None
    assert ["golden queries" in one.name for one in both.gate] == [True, True]

    def refuse(*_: Any) -> None:
        raise ModelError("no such model")

    monkeypatch.setattr(reindex_run, "compare_versions", refuse)
    summary, notes = compare(min_overlap=0.6)
    assert (summary.shadow, summary.no_shadow, summary.gate) == (None, "no such model", [])
    assert "no such model" in list(_lines(summary))
    with pytest.raises(ModelError):
        compare(river)


def test_a_new_version_is_a_canary_first_if_configured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    where = make_served_table(tmp_path).location
    for module in (reindex_run, gate, change_model):
        monkeypatch.setattr(module, "run_on_driver_node", lambda f, *args: f(*args))

    def serve(**more: Any) -> tuple[ReindexSummary, str]:
        given = {"index.vector": "never", "reindex.canary": 0.05, "reindex.max_failure_rate": 0.5}
        given |= {"embed.model": ImagesTable.open(where).text_column.model, **more}
        archive = str(tmp_path / "archive")
        plan = plan_caption([archive], where.uri, load_config(None, given), stale="all")
        summary, notes = ReindexSummary(), list[str]()
        with hold(where, "run", "reindex") as claim:
            held = HeldTable(claim, Stopping(1.0, 1.0, enabled=False))
            _serve(plan, held, summary, notes.append, None, None)
        return summary, "".join(notes)

    # There is no live version with which a canary could be compared.
    summary, _ = serve()
    live = summary.live_version
    assert (summary.was_promoted, summary.canary) == (True, None)

    embed_again(where, "fake:dim=24")
    summary, _ = serve()
    begun = promotions(where, 1)[0]
    assert (begun.action, begun.why, begun.version) == ("canary", "reindex", live)
    assert (summary.was_promoted, summary.live_version) == (False, live)
    assert summary.canary == begun.canary is not None
    message = summary.to_json()
    assert message["canary"]["share"] == 0.05
    assert f"canary: {summary.canary.described}; live version: {live}" in _lines(summary)
    facts = RunFacts(where, load_config(), dt.datetime.now(dt.UTC), "done", "", message, live)
    assert "answers 0.05 of the searches until" in checks(facts).texts[0]

    summary, said = serve()
    already = "no row has changed, and the latest version is already a canary: "
    assert f"{already}{begun.canary.described}" in said
    assert promotions(where, 1) == [begun]

    # If a service has stopped the canary, later runs do not try the same version again.
    end_canary(where, begun.number, passed=False, why="slow")
    summary, said = serve()
    assert "the live version stays live, because the table was rolled back" in said
    assert summary.canary is None

    # If there is no service, only the next run can end the canary.
    begun = start_canary(where, None, 0.05, 0.001)
    monkeypatch.setattr(canary, "_OVERDUE_AFTER", dt.timedelta(seconds=-1))
    summary, messages = serve()
    last = promotions(where, 1)[0]
    assert (last.action, last.versions) == ("promote", (live, begun.canary.version))
    assert last.why in messages
    assert (summary.was_promoted, summary.live_version) == (False, last.version)
