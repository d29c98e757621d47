"""Test the measurement of images that searches cannot find yet, and of the size of the table."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

from skytext.table.freshness import last_success, measure_freshness, note_success
from skytext.table.indexes.build_indexes import build_indexes
from skytext.table.versions.promote_rollback import promote
from tests.table.rows import ALWAYS, committer, failed_row, good_rows, location, make_table, stage

NOON = dt.datetime(2026, 1, 1, 12, tzinfo=dt.UTC)
HOUR = dt.timedelta(hours=1)


def test_unserved_and_uncovered_rows_are_counted(tmp_path: Path) -> None:
    where = location(tmp_path / "table")
    table = make_table(where, good_rows(0, 300, created_at=NOON - HOUR))
    # No version is promoted, so searches use the latest version.
    first = measure_freshness(where)
    assert (first.unsearchable_since, first.num_uncovered, first.num_segments) == (None, 0, 0)
    assert first.last_success is None
    live = build_indexes(table, ALWAYS).table_version
    promote(where, live)
    indexed = measure_freshness(where)
    assert (indexed.unsearchable_since, indexed.num_uncovered) == (None, 0)
    assert (indexed.num_segments, indexed.num_bytes > first.num_bytes) == (1, True)

    # An image that is described again can be found by its old description. A failed image is never
    # searchable.
    writer = committer(where, table.text_column)
    again = good_rows(0, 1, created_at=NOON)
    units = table.units_of([again[0]["image_id"]])
    writer.commit([stage(where, again, replaces=units)])
    writer.commit([stage(where, [failed_row("bad.jpg", created_at=NOON)])])
    assert measure_freshness(where).unsearchable_since is None

    # New images are not searchable until their version is live.
    writer.commit([stage(where, good_rows(900, 2, created_at=NOON + 2 * HOUR))])
    writer.commit([stage(where, good_rows(800, 2, created_at=NOON + HOUR))])
    later = measure_freshness(where)
    assert later.unsearchable_since == NOON + HOUR
    assert later.num_uncovered == 0
    assert later.num_versions == indexed.num_versions + 4
    promote(where)
    now = measure_freshness(where)
    assert now.unsearchable_since is None
    assert now.num_uncovered >= 5


def test_the_last_success_is_kept_with_the_table(tmp_path: Path) -> None:
    where = location(tmp_path / "table")
    make_table(where, good_rows(0, 1))
    before = dt.datetime.now(dt.UTC)
    assert last_success(where) is None
    note_success(where)
    found = measure_freshness(where).last_success
    assert found is not None
    assert before <= found <= dt.datetime.now(dt.UTC)
