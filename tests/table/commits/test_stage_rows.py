"""Test the files and the record of a unit before its commit."""

from __future__ import annotations

from pathlib import Path

import pytest

from skytext.errors import JobError
from skytext.table.commits import stage_rows as staging
from skytext.table.commits.stage_rows import (
    StagedUnit,
    data_files,
    delete_files,
    forget_records,
    has_all_files,
    read_records,
    staged_unit_ids,
)
from skytext.table.images_dataset import ImagesTable
from skytext.table.location import TableLocation
from skytext.table.store.state_files import StateStore
from tests.table.rows import committer, good_rows, location, stage


@pytest.fixture
def where(tmp_path: Path) -> TableLocation:
    return location(tmp_path / "table")


def files(where: TableLocation) -> set[str]:
    return {path.name for path in Path(where.uri, "images.lance", "data").glob("*")}


def test_a_record_round_trips(where: TableLocation) -> None:
    rows = good_rows(0, 3)
    unit = stage(
        where,
        rows,
        unit_id="run/ü-0",
        caption_fingerprint="c",
        embedding_fingerprint="e",
        replaces={rows[1]["image_id"]: "old"},
        removes=["0" * 32],
    )
    assert unit.image_ids == tuple(row["image_id"] for row in rows)
    assert staged_unit_ids(where) == ["run/ü-0"]
    assert read_records(where, ["run/ü-0"]) == [unit]
    assert StagedUnit.from_json(unit.to_json()) == unit
    assert files(where) == set(data_files(unit))
    assert ImagesTable.find(where) is None


def test_the_first_record_of_a_unit_staged_twice_wins(where: TableLocation) -> None:
    """Ray repeats a task if its worker died after the task had staged the unit."""
    first = stage(where, good_rows(0, 3), unit_id="run/0")
    # A second attempt may describe an image differently, or may fail.
    second = stage(where, good_rows(0, 2), unit_id="run/0")
    assert second == first
    assert files(where) == set(data_files(first))
    committer(where).commit([second])
    assert ImagesTable.open(where).num_rows() == 3


def test_a_unit_staged_again_after_its_commit_is_ignored(
    where: TableLocation, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The run deletes the record after the commit, just before a late attempt reads the record."""
    unit = stage(where, good_rows(0, 2), unit_id="run/0")
    committer(where).commit([unit])
    monkeypatch.setattr(StateStore, "create", lambda *_: False)
    forget_records(where, [unit])
    with pytest.raises(JobError, match="unit run/0: its record was deleted"):
        stage(where, good_rows(0, 2), unit_id="run/0")
    assert staged_unit_ids(where) == []


def test_a_unit_of_no_rows_writes_no_files(where: TableLocation) -> None:
    unit = stage(where, [], removes=["0" * 32])
    assert (unit.num_rows, unit.fragments, data_files(unit)) == (0, (), [])
    assert has_all_files(where, unit)
    assert files(where) == set()


def test_incompletely_written_rows_are_rejected(
    where: TableLocation, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(staging, "_write", lambda *_: [])
    with pytest.raises(
        JobError, match="unit run/0: 3 rows should be written, but 0 rows were written"
    ):
        stage(where, good_rows(0, 3), unit_id="run/0")
    assert staged_unit_ids(where) == []


def test_records_are_read_in_the_requested_order(where: TableLocation) -> None:
    units = [stage(where, good_rows(i, 1), unit_id=f"run/{i}") for i in range(5)]
    asked = ["run/3", "run/0", "run/4"]
    assert [unit.unit_id for unit in read_records(where, asked)] == asked
    forget_records(where, units[:2])
    forget_records(where, units[:2])
    assert staged_unit_ids(where) == ["run/2", "run/3", "run/4"]
    with pytest.raises(JobError, match="unit run/0 has no record in"):
        read_records(where, ["run/2", "run/0"])


def test_a_unit_with_missing_files_is_reported(where: TableLocation) -> None:
    unit, other = stage(where, good_rows(0, 2)), stage(where, good_rows(2, 2))
    assert has_all_files(where, unit)
    delete_files(where, data_files(unit))
    assert not has_all_files(where, unit)
    assert has_all_files(where, other)
    # Deleting missing files is not an error.
    delete_files(where, data_files(unit))
    assert files(where) == set(data_files(other))
