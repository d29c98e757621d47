"""Test commits that remove rows, and commits whose response is lost."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import lance
import numpy as np
import pytest

from skytext.config.index import IndexConfig
from skytext.errors import CommitConflictError, JobError
from skytext.table.commits.commit_rows import Committer
from skytext.table.commits.stage_rows import StagedUnit
from skytext.table.compaction import merge_small_fragments
from skytext.table.images_dataset import ImagesTable
from skytext.table.index_facts import VECTOR_INDEX, index_names
from skytext.table.indexes.build_indexes import build_indexes, num_unindexed_rows
from skytext.table.location import TableLocation
from tests.search.rankings import column, dense_question, rank
from tests.table.rows import (
    ALWAYS,
    committer,
    failed_row,
    good_row,
    good_rows,
    location,
    make_table,
    stage,
    text_column,
)


@pytest.fixture
def where(tmp_path: Path) -> TableLocation:
    return location(tmp_path / "table")


def replacing(where: TableLocation, rows: list[dict[str, Any]], **more: Any) -> StagedUnit:
    """Stage rows that replace the existing rows of the same images."""
    units = ImagesTable.open(where).units_of([row["image_id"] for row in rows])
    return stage(where, rows, replaces=units, **more)


def statuses(where: TableLocation, version: int | None = None) -> dict[str, str]:
    table = ImagesTable.open(where, version)
    rows = table.dataset.to_table(columns=["member", "status"]).to_pylist()
    assert len({row["member"] for row in rows}) == len(rows) == table.num_rows()
    assert len(table.double_rows()) == 0
    return {row["member"]: row["status"] for row in rows}


def ids(*members: str) -> list[str]:
    return [good_row(member)["image_id"] for member in members]


def test_a_failed_row_becomes_ok_in_one_version(where: TableLocation) -> None:
    failed = [failed_row("a.jpg"), failed_row("b.jpg")]
    before = make_table(where, [good_row("0.jpg"), *failed], [good_row("1.jpg")]).version
    again = replacing(where, [good_row("a.jpg"), failed_row("b.jpg", reason="too_small")])
    assert statuses(where) == {"0.jpg": "ok", "a.jpg": "failed", "b.jpg": "failed", "1.jpg": "ok"}
    version = committer(where).commit([again])
    assert version == before + 1
    assert statuses(where) == {"0.jpg": "ok", "a.jpg": "ok", "b.jpg": "failed", "1.jpg": "ok"}
    table = ImagesTable.open(where)
    assert table.failure_counts() == {("decode", "too_small"): 1}
    assert set(table.units_of(ids("a.jpg", "b.jpg")).values()) == {again.unit_id}
    # Readers of the previous version see the old rows.
    assert statuses(where, before)["a.jpg"] == "failed"


def test_rows_of_different_units_are_added_and_deleted_in_one_version(where: TableLocation) -> None:
    make_table(where, good_rows(0, 4), [failed_row("", image_id="0" * 32)])
    units = [
        replacing(where, [good_row("00001.jpg", gsd=2.0)]),
        stage(where, good_rows(4, 2)),
        stage(where, [], removes=["0" * 32]),
        replacing(where, [good_row("00003.jpg", gsd=2.0)], removes=ids("00000.jpg")),
    ]
    committer(where).commit(units)
    table = ImagesTable.open(where)
    rows = table.dataset.to_table(columns=["member", "gsd"]).to_pylist()
    assert {row["member"]: row["gsd"] for row in rows} == {
        "00001.jpg": 2.0,
        "00002.jpg": None,
        "00003.jpg": 2.0,
        "00004.jpg": None,
        "00005.jpg": None,
    }
    assert len(rows) == 5


@pytest.mark.parametrize("merged", [False, True])
def test_an_empty_fragment_is_removed(where: TableLocation, merged: bool) -> None:
    table = make_table(where, good_rows(0, 2), good_rows(2, 2), good_rows(4, 2))
    if merged:
        merge_small_fragments(table)
    assert len(ImagesTable.open(where).dataset.get_fragments()) == (1 if merged else 3)
    committer(where).commit([replacing(where, [failed_row(f"0000{i}.jpg") for i in range(2, 4)])])
    fragments = ImagesTable.open(where).dataset.get_fragments()
    assert len(fragments) == (2 if merged else 3)
    assert all(fragment.count_rows() for fragment in fragments)
    committer(where).commit([stage(where, [], removes=ids(*(f"0000{i}.jpg" for i in range(6))))])
    table = ImagesTable.open(where)
    assert (table.num_rows(), table.dataset.get_fragments()) == (0, [])
    # The empty table accepts new rows and keeps its vector column.
    committer(where).commit([stage(where, good_rows(0, 1))])
    assert statuses(where) == {"00000.jpg": "ok"}
    assert ImagesTable.open(where).text_column.dim == 16


def test_an_image_whose_row_is_gone_already_takes_nothing_with_it(where: TableLocation) -> None:
    make_table(where, good_rows(0, 2))
    committer(where).commit([stage(where, good_rows(2, 1), removes=["0" * 32])])
    assert len(statuses(where)) == 3


def test_an_index_stays_good_while_rows_are_replaced(where: TableLocation) -> None:
    make_table(where, good_rows(0, 290), [failed_row(f"bad{i}.jpg") for i in range(10)])
    build_indexes(
        ImagesTable.open(where), IndexConfig(vector="always", recall_queries=32, exact_below_rows=0)
    )
    names = index_names(ImagesTable.open(where).dataset)
    assert VECTOR_INDEX in names
    vector = [[1.0] + [0.0] * 15]
    changed = good_row("00007.jpg", vectors=array(vector), text="a lighthouse on a cliff")
    healed = good_row("bad3.jpg", vectors=array([[0.0] * 15 + [1.0]]))
    committer(where).commit([replacing(where, [changed, healed], removes=ids("00008.jpg"))])
    table = ImagesTable.open(where)
    assert index_names(table.dataset) == names
    assert num_unindexed_rows(table) == 2
    # The next queries use a scalar index, the text index and the vector index. The exact queries
    # use no index.
    assert table.rows(ids("00007.jpg"), ["text"]) == [{"text": "a lighthouse on a cliff"}]
    assert table.rows(ids("00008.jpg"), ["text"]) == []
    assert table.status_counts() == {"ok": 290, "failed": 9, "withdrawn": 0}
    by_word = table.dataset.to_table(columns=["member"], full_text_query="lighthouse")
    assert by_word.column("member").to_pylist() == ["00007.jpg"]
    for query, member in ((vector[0], "00007.jpg"), ([0.0] * 15 + [1.0], "bad3.jpg")):
        for exact in (False, True):
            found = column(table, rank(table, dense_question(query, exact=exact), 3))
            assert found[0] == member
            assert "00008.jpg" not in found
    report = build_indexes(table, ALWAYS)
    assert num_unindexed_rows(ImagesTable.open(where, report.table_version)) == 0
    assert statuses(where)["bad3.jpg"] == "ok"


def array(values: list[Any]) -> Any:
    return np.array(values, np.float32)


class AnswerLost:
    """The responses to the first ``times`` commits are lost.

    If ``does_it`` is false, these commits are not executed.
    """

    def __init__(self, patch: pytest.MonkeyPatch, *, does_it: bool = True, times: int = 1) -> None:
        self.left = times
        real: Callable[..., Any] = lance.LanceDataset.commit

        def commit(*args: Any, **more: Any) -> Any:
            if not self.left:
                return real(*args, **more)
            self.left -= 1
            if does_it:
                real(*args, **more)
            raise OSError("connection reset by peer")

        patch.setattr(lance.LanceDataset, "commit", staticmethod(commit))


@pytest.mark.parametrize("kind", ["first", "further", "replacing"])
def test_a_commit_with_a_lost_response_counts_as_done(
    where: TableLocation, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    before = None if kind == "first" else make_table(where, good_rows(0, 2)).version
    rows = good_rows(0, 2) if kind == "replacing" else good_rows(2, 2)
    unit = replacing(where, rows) if kind == "replacing" else stage(where, rows)
    writer = committer(where)
    AnswerLost(monkeypatch)
    assert writer.commit([unit, stage(where, good_rows(9, 1))]) == (before or 0) + 1
    # The writer continues from the new version.
    assert writer.commit([stage(where, good_rows(10, 1))]) == (before or 0) + 2
    assert "00009.jpg" in statuses(where)
    assert len(statuses(where)) == {"first": 4, "further": 6, "replacing": 4}[kind]


@pytest.mark.parametrize("is_first", [True, False])
def test_a_failed_commit_is_reported(
    where: TableLocation, monkeypatch: pytest.MonkeyPatch, is_first: bool
) -> None:
    if not is_first:
        make_table(where, good_rows(0, 2))
    writer, unit = committer(where), stage(where, good_rows(2, 2))
    with monkeypatch.context() as patch:
        AnswerLost(patch, does_it=False)
        with pytest.raises(JobError, match=r"cannot .*: connection reset by peer") as raised:
            writer.commit([unit])
        assert not isinstance(raised.value, CommitConflictError)
    # No row was written, and the same unit can still be committed.
    table = ImagesTable.find(where)
    assert (0 if table is None else table.num_rows()) == (0 if is_first else 2)
    committer(where).commit([unit])
    assert len(statuses(where)) == (2 if is_first else 4)


def test_a_partial_commit_of_a_group_by_another_writer_conflicts(where: TableLocation) -> None:
    make_table(where, good_rows(0, 2))
    one, two = committer(where), committer(where)
    shared, own = stage(where, good_rows(2, 2)), stage(where, good_rows(4, 2))
    one.commit([shared])
    with pytest.raises(CommitConflictError):
        two.commit([shared, own])
    assert len(statuses(where)) == 4


def test_a_partial_first_commit_by_another_writer_conflicts(where: TableLocation) -> None:
    shared, own = stage(where, good_rows(2, 2)), stage(where, good_rows(4, 2))
    one, two = Committer(where, text_column(), None), Committer(where, text_column(), None)
    one.commit([shared])
    with pytest.raises(CommitConflictError):
        two.commit([shared, own])
    assert len(statuses(where)) == 2
