"""Test that the changes of runs are found.

An image of a run can be new, changed, described again, recovered or failed.
"""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import Any

from skytext.table.images_dataset import ImagesTable
from skytext.table.queries.caption_queries import take
from skytext.table.queries.run_rows import rows_of_runs, withdrawn_since
from tests.table.rows import committer, failed_row, good_row, location, make_table, stage

SHA = {"a": "a" * 64, "b": "b" * 64}


def members(table: ImagesTable, rows: Any) -> dict[str, list[str]]:
    return {
        name: sorted(take(table, ids, ["member"]).column("member").to_pylist())
        for name, ids in rows._asdict().items()
    }


def test_rows_are_classified_by_their_earlier_state(tmp_path: Path) -> None:
    where = location(tmp_path / "table")
    first = [
        good_row("same.jpg", content_sha256=SHA["a"]),
        good_row("changed.jpg", content_sha256=SHA["a"]),
        good_row("left.jpg", content_sha256=SHA["a"]),
        failed_row("bad.jpg", content_sha256=SHA["a"]),
        good_row("back.jpg", status="withdrawn", content_sha256=SHA["a"]),
    ]
    before = make_table(where, first)
    later: dict[str, Any] = {"run_id": "later", "content_sha256": SHA["a"]}
    second = [
        good_row("same.jpg", **later),
        good_row("changed.jpg", **later | {"content_sha256": SHA["b"]}),
        good_row("bad.jpg", **later),
        good_row("back.jpg", **later),
        good_row("new.jpg", **later),
        failed_row("worse.jpg", **later),
    ]
    writer = committer(where, before.text_column)
    replaces = {row["image_id"]: "unit" for row in second[:4]}
    units = before.units_of(list(replaces))
    writer.commit([stage(where, second, replaces=units)])
    after = ImagesTable.open(where)
    found = rows_of_runs(before, after, ["later", "other"])
    assert members(after, found) == {
        "new": ["back.jpg", "new.jpg"],
        "changed": ["changed.jpg"],
        "again": ["same.jpg"],
        "recovered": ["bad.jpg"],
        "failed": ["worse.jpg"],
    }
    assert all(not len(ids) for ids in rows_of_runs(before, after, []))
    alone = members(after, rows_of_runs(None, after, ["later"]))
    assert alone["new"] == ["back.jpg", "bad.jpg", "changed.jpg", "new.jpg", "same.jpg"]


def test_withdrawn_images_are_found_by_the_time(tmp_path: Path) -> None:
    noon = dt.datetime(2026, 1, 1, 12, tzinfo=dt.UTC)
    hour = dt.timedelta(hours=1)
    rows = [
        good_row("old.jpg", status="withdrawn", created_at=noon - hour),
        good_row("now.jpg", status="withdrawn", created_at=noon + hour),
        good_row("there.jpg", created_at=noon + hour),
    ]
    table = make_table(location(tmp_path / "table"), rows)
    assert withdrawn_since(table, noon, ["member"], 5) == [{"member": "now.jpg"}]
