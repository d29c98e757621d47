"""Test caption vectors of another model, in a second column beside the active column."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import lance
import numpy as np
import pyarrow as pa
import pytest

from skytext.errors import CommitConflictError, JobError
from skytext.table.commits.adoption import settle
from skytext.table.commits.change_columns import activate_column, drop_unused_columns, ensure_column
from skytext.table.commits.claim import hold
from skytext.table.commits.commit_rows import Committer
from skytext.table.commits.stage_rows import StagedUnit, has_vectors_for, stage_rows
from skytext.table.commits.stage_vectors import stage_vectors
from skytext.table.images_dataset import ImagesTable
from skytext.table.index_facts import VECTOR_INDEX, index_names
from skytext.table.indexes.build_indexes import build_indexes
from skytext.table.location import TableLocation
from skytext.table.rows.missing_vectors import num_with_vector
from skytext.table.vector_columns import Role, is_vector_name
from skytext.table.versions.promote_rollback import MAX_KEPT, promote
from tests.table.rows import (
    ALWAYS,
    committer,
    good_row,
    good_rows,
    location,
    make_table,
    rows_of,
    stage,
    text_column,
    to_table,
    unit_vectors,
)

OTHER = text_column("other", "e" * 32, dim=8)
TEXTS = dataclasses.replace(OTHER, dim=0)


@pytest.fixture
def where(tmp_path: Path) -> TableLocation:
    where = location(tmp_path / "table")
    make_table(where, good_rows(0, 3))
    return where


def vectors_of(numbers: range) -> Any:
    return [[v.tolist() for v in unit_vectors(np.random.default_rng(i), (2, 8))] for i in numbers]


def stage_texts(where: TableLocation, numbers: range = range(3)) -> StagedUnit:
    """Stage vectors of the other model for the current descriptions."""
    rows = {row["image_id"]: row for row in rows_of(ImagesTable.open(where), "image_id", "unit_id")}
    ids = [good_row(f"{i:05d}.jpg")["image_id"] for i in numbers]
    keys = [rows[image_id]["unit_id"] for image_id in ids]
    entries = pa.array(vectors_of(numbers), OTHER.field.type)
    return stage_vectors(where, "run/vectors-0-0", OTHER, ids, keys, entries)


def commit(where: TableLocation, unit: StagedUnit) -> ImagesTable:
    table = ImagesTable.open(where)
    Committer(where, table.text_column, table.version).commit([unit])
    return ImagesTable.open(where)


def pending(table: ImagesTable) -> dict[str, Any]:
    column = table.find_column(OTHER)
    assert column is not None
    found = table.dataset.to_table(columns=["member", column.name])
    return dict(zip(*(found.column(i).to_pylist() for i in range(2)), strict=True))


def test_vectors_go_to_the_description_that_was_embedded(where: TableLocation) -> None:
    staged = stage_texts(where)
    before = rows_of(ImagesTable.open(where), "image_id", "unit_id")
    # One image is described again before the vectors are committed. Its bytes are the same.
    row = good_row("00001.jpg", text="another description")
    (old,) = [one["unit_id"] for one in before if one["image_id"] == row["image_id"]]
    committer(where).commit([stage(where, [row], replaces={row["image_id"]: old})])
    table = commit(where, staged)
    found = pending(table)
    assert found["00001.jpg"] is None
    assert found["00000.jpg"] == vectors_of(range(1))[0]
    assert num_with_vector(table, OTHER) == (3, 2)


def test_an_existing_vector_is_kept(where: TableLocation) -> None:
    table = commit(where, stage_texts(where))
    first = pending(table)
    ids = [good_row("00000.jpg")["image_id"]]
    (row,) = [r for r in rows_of(table, "image_id", "unit_id") if r["image_id"] == ids[0]]
    late = pa.array(vectors_of(range(9, 10)), OTHER.field.type)
    after = commit(where, stage_vectors(where, "late", OTHER, ids, [row["unit_id"]], late))
    assert pending(after) == first
    assert after.version == table.version


def test_rows_that_were_prepared_before_another_column_is_active_are_refused(
    where: TableLocation,
) -> None:
    table = commit(where, stage_texts(where))
    writer = committer(where)
    staged = stage(where, good_rows(7, 1))
    activate_column(table, OTHER)
    with pytest.raises(CommitConflictError):
        writer.commit([staged])
    with hold(where, "run", "caption") as claim:
        assert settle(claim, TEXTS, "c" * 32).num_adopted == 0
    assert ImagesTable.open(where).num_rows() == 3


def test_the_next_run_removes_the_rest_of_a_dropped_column(
    where: TableLocation, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = commit(where, stage_texts(where))

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(lance.LanceDataset, "drop_columns", killed)
        with pytest.raises(KeyboardInterrupt):
            activate_column(table, OTHER)
    half = ImagesTable.open(where)
    assert half.text_column.fits(OTHER)
    assert table.text_column.name in half.dataset.schema.names
    with hold(where, "run", "caption") as claim:
        settle(claim, TEXTS, "c" * 32)
    assert table.text_column.name not in ImagesTable.open(where).dataset.schema.names


def test_an_index_on_a_dropped_column_is_ignored(where: TableLocation) -> None:
    make_table(where, good_rows(10, 300))
    build_indexes(ImagesTable.open(where), ALWAYS)
    indexed = ImagesTable.open(where)
    assert VECTOR_INDEX in index_names(indexed.dataset)
    table = commit(where, stage_texts(where, range(1)))
    assert VECTOR_INDEX in index_names(table.dataset)
    column = table.find_column(OTHER)
    assert column is not None
    assert column.role == Role.PENDING
    # The index was built on the old column. It is dropped when the new column becomes active.
    after = activate_column(table, OTHER)
    assert VECTOR_INDEX not in index_names(after.dataset)
    assert "gsd_idx" in index_names(after.dataset)


def test_the_previous_column_is_kept_while_a_roll_back_needs_it(where: TableLocation) -> None:
    make_table(where, good_rows(10, 300))
    build_indexes(ImagesTable.open(where), ALWAYS)
    old = promote(where).version
    before = ImagesTable.open(where, old).text_column
    after = activate_column(commit(where, stage_texts(where, range(1))), OTHER)
    kept = after.find_column(before)
    assert kept is not None
    assert kept.role == Role.RETIRED
    # The index of the new column has the same name as the old index.
    build_indexes(after, ALWAYS)
    assert VECTOR_INDEX in index_names(ImagesTable.open(where).dataset)
    for number in range(MAX_KEPT):
        assert drop_unused_columns(ImagesTable.open(where), OTHER).find_column(before) == kept
        committer(where, OTHER).commit([stage_other(where, good_rows(500 + number, 1))])
        promote(where)
    last = drop_unused_columns(ImagesTable.open(where), OTHER)
    assert [column.model for column in last.columns] == ["other"]
    assert before.name not in last.dataset.schema.names


def test_a_column_that_was_active_is_filled_again_and_used(where: TableLocation) -> None:
    before = promote(where).version
    active = ImagesTable.open(where, before).text_column
    activate_column(commit(where, stage_texts(where)), OTHER)
    table = ensure_column(ImagesTable.open(where), active)
    assert [(c.model, c.role) for c in table.columns] == [
        (active.model, Role.PENDING),
        ("other", Role.ACTIVE),
    ]
    assert num_with_vector(table, active) == (3, 3)
    assert activate_column(table, active).text_column.fits(active)


def test_an_unused_pending_column_is_dropped(where: TableLocation) -> None:
    table = commit(where, stage_texts(where))
    assert table.find_column(OTHER) is not None
    table = drop_unused_columns(table, OTHER)
    assert table.find_column(OTHER) is not None
    # In the meantime, new images get vectors of the active column.
    assert activate_column(table, table.text_column).find_column(OTHER) is not None
    third = text_column("third", "d" * 32, dim=4)
    assert drop_unused_columns(table, third).find_column(OTHER) is None


def test_rows_with_vectors_of_a_column_that_is_gone_are_not_committed(
    where: TableLocation,
) -> None:
    """A new column may have the field ids of the dropped column.

    The staged vectors would then be read as vectors of the new column.
    """
    ensure_column(ImagesTable.open(where), OTHER)
    unit = stage_other(where, good_rows(7, 1), with_active=True)
    third = text_column("third", "d" * 32, dim=4)
    ensure_column(drop_unused_columns(ImagesTable.open(where), third), third)
    assert not has_vectors_for(unit, ImagesTable.open(where))
    with pytest.raises(JobError, match="run the same command again"):
        committer(where).commit([unit])
    assert ImagesTable.open(where).num_rows() == 3


def stage_other(
    where: TableLocation, rows: list[dict[str, Any]], *, with_active: bool = False
) -> StagedUnit:
    """Stage rows with vectors for the other column.

    If ``with_active`` is true, the rows also have vectors for the active column.
    """
    active = ImagesTable.open(where).text_column
    table = to_table(rows)
    other = pa.array(vectors_of(range(len(rows))), OTHER.field.type)
    if not with_active:
        name = next(n for n in table.column_names if is_vector_name(n))
        table = table.set_column(table.column_names.index(name), OTHER.field, other)
        return stage_rows(where, f"both/{rows[0]['member']}", table, OTHER)
    return stage_rows(
        where, f"both/{rows[0]['member']}", table.append_column(OTHER.field, other), active
    )
