"""The count that a run is proved by."""

from __future__ import annotations

from pathlib import Path

import pytest

from skytext.run.row_counts import TableCounts, _count, count_table
from skytext.table.location import TableLocation
from tests.table.rows import (
    failed_row,
    good_row,
    good_rows,
    location,
    make_table,
)


@pytest.fixture
def where(tmp_path: Path) -> TableLocation:
    return location(tmp_path / "table")


def test_the_proof_counts_what_is_there(where: TableLocation) -> None:
    table = make_table(
        where,
        [*good_rows(0, 3), good_row("x.jpg", shard="b.tar", caption_fingerprint="s" * 32)],
        # A second row, as a writer without a fence would leave it.
        [good_row("00001.jpg"), failed_row("y.jpg", shard="b.tar")],
    )
    counts = _count(where, table.version, "c" * 32)
    assert counts == TableCounts(
        {("aerial", "a.tar"): {"ok": 4}, ("aerial", "b.tar"): {"ok": 1, "failed": 1}}, 1, 1
    )
    assert count_table(where, None, "c" * 32) == TableCounts()


def test_two_rows_of_an_image_are_found_in_a_large_table(
    where: TableLocation, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = make_table(where, good_rows(0, 40), good_rows(7, 3))
    assert table.num_double() == 3
    # Sixteenth by sixteenth.
    monkeypatch.setattr("skytext.table.images_dataset._ROWS_AT_ONCE", 10)
    assert table.num_double() == 3
    assert make_table(location(Path(f"{where.uri}2")), good_rows(0, 40)).num_double() == 0
