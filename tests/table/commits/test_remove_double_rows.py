from __future__ import annotations

import datetime as dt
from pathlib import Path

import pytest

from skytext.errors import TableError, TableHeldError
from skytext.table.commits.claim import hold
from skytext.table.commits.remove_double_rows import remove_double_rows
from skytext.table.images_dataset import ImagesTable
from skytext.table.location import TableLocation
from tests.table.rows import failed_row, good_row, good_rows, location, make_table

OLD, NEW = (dt.datetime(2026, 1, day, tzinfo=dt.UTC) for day in (1, 2))


@pytest.fixture
def where(tmp_path: Path) -> TableLocation:
    return location(tmp_path / "table")


def test_the_newest_ok_row_of_an_image_is_kept(where: TableLocation) -> None:
    table = make_table(
        where,
        [*good_rows(3, 2), good_row("a.jpg", created_at=NEW), good_row("b.jpg", created_at=OLD)],
        [failed_row("a.jpg", created_at=NEW), good_row("b.jpg", created_at=NEW, gsd=2.0)],
        [failed_row("a.jpg", created_at=OLD), failed_row("c.jpg")],
    )
    assert len(table.double_rows()) == 2
    done = remove_double_rows(where)
    assert (done.num_images, done.num_removed) == (2, 3)
    table = ImagesTable.open(where)
    assert (table.version, table.num_rows(), len(table.double_rows())) == (done.table_version, 5, 0)
    left = table.dataset.to_table(["member", "status", "gsd"]).to_pylist()
    assert {row["member"]: row["status"] for row in left} == {
        "00003.jpg": "ok",
        "00004.jpg": "ok",
        "a.jpg": "ok",
        "b.jpg": "ok",
        "c.jpg": "failed",
    }
    assert [row["gsd"] for row in left if row["member"] == "b.jpg"] == [2.0]


def test_a_table_without_duplicates_gets_no_version(where: TableLocation) -> None:
    version = make_table(where, good_rows(0, 4)).version
    done = remove_double_rows(where)
    assert (done.num_images, done.num_removed, done.table_version) == (0, 0, version)
    assert ImagesTable.open(where).version == version


def test_many_rows_are_removed_in_several_commits(
    where: TableLocation, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("skytext.table.commits.remove_double_rows._ROWS_A_COMMIT", 3)
    make_table(where, good_rows(0, 8), good_rows(0, 8))
    assert remove_double_rows(where).num_removed == 8
    table = ImagesTable.open(where)
    assert (table.num_rows(), len(table.double_rows())) == (8, 0)


def test_a_table_that_a_run_holds_is_not_changed(where: TableLocation) -> None:
    make_table(where, good_rows(0, 2), good_rows(0, 2))
    with hold(where, "run", "caption"), pytest.raises(TableHeldError):
        remove_double_rows(where)
    assert ImagesTable.open(where).num_rows() == 4


def test_a_missing_table_is_a_wrong_call(where: TableLocation) -> None:
    with pytest.raises(TableError):
        remove_double_rows(where)
