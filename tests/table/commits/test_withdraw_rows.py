"""A withdrawn image keeps its row and its captions, and no search finds it."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

import pytest

from skytext.errors import TableHeldError
from skytext.table.commits.stage_rows import forget_records, read_records, staged_unit_ids
from skytext.table.commits.withdraw_rows import withdraw_rows
from skytext.table.images_dataset import ImagesTable
from skytext.table.location import TableLocation
from skytext.table.queries.caption_queries import word_scores
from tests.table.rows import failed_row, good_row, good_rows, location, make_table, rows_of

NUM = 2_500


@pytest.fixture
def table(tmp_path: Path) -> ImagesTable:
    where = location(tmp_path / "table")
    sourced = good_row("a.jpg", metadata='{"sensor": "x"}', gsd=0.5, collection="naip")
    table = make_table(where, [sourced, failed_row("b.jpg")], good_rows(0, NUM))
    forget_records(where, read_records(where, staged_unit_ids(where)))
    return table


def ids(table: ImagesTable) -> dict[str, str]:
    return {row["member"]: row["image_id"] for row in rows_of(table, "member", "image_id")}


def withdraw(table: ImagesTable, image_ids: list[str]) -> ImagesTable:
    withdraw_rows(table, image_ids, "run", "no longer in a.tar", lambda: None)
    return ImagesTable.open(table.location)


def test_withdrawal_keeps_captions_and_removes_vectors_and_text(table: ImagesTable) -> None:
    (before,) = rows_of(table, filter="member = 'a.jpg'")
    after = withdraw(table, [ids(table)["a.jpg"]])
    (row,) = rows_of(after, filter="member = 'a.jpg'")
    assert row["status"] == "withdrawn"
    assert row["failure"]["detail"] == "no longer in a.tar"
    assert row["created_at"] > before["created_at"] + dt.timedelta(days=1)
    gone = {"vectors", "text", "hit", "embedding_fingerprint", "embedding_model"}
    assert all(row[name] is None for name in gone)
    changed = gone | {"status", "failure", "unit_id", "run_id", "created_at"}
    assert {n: v for n, v in row.items() if n not in changed} == {
        n: v for n, v in before.items() if n not in changed
    }
    assert after.status_counts() == {"ok": NUM, "failed": 1, "withdrawn": 1}
    assert staged_unit_ids(table.location) == []


def test_many_are_withdrawn_once_and_others_are_unchanged(table: ImagesTable) -> None:
    every = ids(table)
    some = [every[f"{i:05d}.jpg"] for i in range(0, NUM, 2)]
    after = withdraw(table, [*some, every["b.jpg"], "f" * 32])
    assert after.status_counts() == {"ok": NUM // 2 + 1, "failed": 0, "withdrawn": NUM // 2 + 1}
    assert after.double_rows() == {}
    assert ids(after) == every
    again = withdraw(after, some)
    assert again.version == after.version


def test_a_text_search_finds_no_withdrawn_image(table: ImagesTable) -> None:
    table = withdraw(table, [ids(table)["a.jpg"]])
    table.dataset.create_scalar_index("text", "INVERTED", name="text_idx")
    table = ImagesTable.open(table.location)
    found = word_scores(table, "a.jpg shows a river", NUM)
    rows = table.dataset._take_rows(found.ids.tolist(), columns=["status"])
    assert set(rows.column("status").to_pylist()) == {"ok"}


def test_a_lost_claim_ends_the_withdrawal_before_any_change(table: ImagesTable) -> None:
    def lost() -> None:
        raise TableHeldError("held by another run")

    with pytest.raises(TableHeldError):
        withdraw_rows(table, [ids(table)["a.jpg"]], "run", "gone", lost)
    assert ImagesTable.open(table.location).version == table.version


def test_an_index_by_rows_leaves_withdrawn_rows_out(table: ImagesTable, tmp_path: Path) -> None:
    where: TableLocation = table.location
    before = table.rows_by_shard()["aerial", "a.tar"]
    after = withdraw(table, [ids(table)["a.jpg"]])
    now = after.rows_by_shard()["aerial", "a.tar"]
    assert (now.ids.num, now.by_status["withdrawn"]) == (before.ids.num - 1, 0)
    statuses = ImagesTable.open(where).statuses_of_shards({("aerial", "a.tar")})
    assert len(statuses["aerial", "a.tar"]) == NUM + 1
