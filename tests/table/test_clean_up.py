"""A clean-up removes only unused files."""

from __future__ import annotations

import datetime as dt
import json
import os
import time
from pathlib import Path
from typing import Any

import lance
import pytest

from skytext.errors import JobError, TableHeldError
from skytext.table.clean_up import clean_up
from skytext.table.commits.claim import hold
from skytext.table.commits.stage_rows import forget_records, read_records, staged_unit_ids
from skytext.table.images_dataset import ImagesTable
from skytext.table.location import TableLocation
from skytext.table.runs_dataset import RunRecord, last_runs, record_run
from skytext.table.versions.held_versions import held_versions, hold_versions
from skytext.table.versions.promote_rollback import promote, rollback
from tests.table.rows import committer, good_row, location, stage

NUM = 8


@pytest.fixture
def where(tmp_path: Path) -> TableLocation:
    """Make a table with eight versions. Each version after the first replaces the only row."""
    where = location(tmp_path / "table")
    row = good_row("a.jpg")
    writer = committer(where)
    for number in range(NUM):
        before = {row["image_id"]: f"unit-{number - 1}"} if number else {}
        writer.commit([stage(where, [row], unit_id=f"unit-{number}", replaces=before)])
    # A commit does not delete the records of its units. The run deletes them.
    forget_records(where, read_records(where, staged_unit_ids(where)))
    assert versions(where) == list(range(1, NUM + 1))
    return where


def versions(where: TableLocation) -> list[int]:
    return [one["version"] for one in ImagesTable.open(where).dataset.versions()]


def unit_of(where: TableLocation, version: int) -> str:
    (row,) = ImagesTable.open(where, version).dataset.to_table(columns=["unit_id"]).to_pylist()
    return str(row["unit_id"])


def test_needed_versions_are_kept_and_readable(where: TableLocation) -> None:
    for version in (2, 4):
        promote(where, version)
    hold_versions(where, "service", [6])
    dry = clean_up(where, keep_days=0, is_dry=True)
    assert versions(where) == list(range(1, NUM + 1))
    done = clean_up(where, keep_days=0)
    assert versions(where) == [2, 4, 6, 8]
    assert [unit_of(where, version) for version in (2, 4, 6, 8)] == [
        f"unit-{version - 1}" for version in (2, 4, 6, 8)
    ]
    assert (done.num_versions, done.num_kept) == (dry.num_versions, dry.num_kept) == (4, 4)
    assert done.num_bytes == dry.num_bytes > 0
    assert done.num_files == dry.num_files >= 4
    assert rollback(where).version == 2


def test_a_version_left_by_a_rollback_is_kept(where: TableLocation) -> None:
    promote(where, 2)
    promote(where, 5)
    rollback(where)
    clean_up(where, keep_days=0)
    assert versions(where) == [2, 5, 8]


def test_young_versions_are_kept(where: TableLocation) -> None:
    assert clean_up(where, keep_days=1).num_versions == 0
    assert versions(where) == list(range(1, NUM + 1))


def test_clean_up_removes_only_old_orphaned_files(where: TableLocation) -> None:
    clean_up(where, keep_days=0)
    data = Path(where.uri) / "images.lance" / "data"
    young, old = data / "young.lance", data / "old.lance"
    for path in (young, old):
        path.write_bytes(b"x" * 100)
    week = time.time() - dt.timedelta(days=8).total_seconds()
    os.utime(old, (week, week))
    assert clean_up(where, keep_days=0).num_versions == 0
    assert (young.exists(), old.exists()) == (True, False)


def test_an_ended_service_holds_no_versions(where: TableLocation) -> None:
    hold_versions(where, "ended", [2])
    hold_versions(where, "living", [3])
    path = Path(where.uri) / "state" / "held" / "ended.json"
    assert json.loads(path.read_text()) == [2]
    ago = time.time() - 3700
    os.utime(path, (ago, ago))
    assert held_versions(where) == {3}
    assert not path.exists()


def test_clean_up_is_rejected_with_staged_units_or_a_running_run(where: TableLocation) -> None:
    with hold(where, "run", "caption"), pytest.raises(TableHeldError, match="held by"):
        clean_up(where, keep_days=0)
    stage(where, [good_row("b.jpg")])
    with pytest.raises(JobError, match="1 staged units are not committed"):
        clean_up(where, keep_days=0)
    assert len(staged_unit_ids(where)) == 1
    assert versions(where) == list(range(1, NUM + 1))


def test_the_runs_are_merged_and_all_are_still_there(where: TableLocation) -> None:
    for number in range(70):
        moment = dt.datetime(2026, 1, 1, tzinfo=dt.UTC) + dt.timedelta(minutes=number)
        record_run(where, RunRecord(f"run-{number}", "caption", "done", moment, moment))
    clean_up(where, keep_days=0)
    assert [run.run_id for run in last_runs(where, 100)] == [f"run-{n}" for n in range(69, -1, -1)]
    assert len(list((Path(where.uri) / "runs.lance" / "data").iterdir())) <= 71


def test_a_clean_up_is_repeated_if_a_promotion_deletes_a_tag_meanwhile(
    where: TableLocation, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, tries = lance.LanceDataset.cleanup_old_versions, 0

    def interrupted(dataset: lance.LanceDataset, **options: Any) -> Any:
        nonlocal tries
        tries += 1
        # Lance lists the tags, and then reads each tag.
        if tries == 1:
            raise OSError("Not found: table/images.lance/_refs/tags/kept-51.json, refs.rs:956:21")
        return real(dataset, **options)

    monkeypatch.setattr(lance.LanceDataset, "cleanup_old_versions", interrupted)
    assert clean_up(where, keep_days=0).num_versions == NUM - 1
    assert tries > 1
    assert versions(where) == [NUM]
