"""Vectors of descriptions by another model, beside those in use."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import lance
import numpy as np
import pyarrow as pa
import pytest

from skytext.errors import CommitConflictError
from skytext.table.commits.adoption import settle
from skytext.table.commits.change_columns import activate_column
from skytext.table.commits.claim import hold
from skytext.table.commits.commit_rows import Committer
from skytext.table.commits.stage_rows import StagedUnit
from skytext.table.commits.stage_vectors import stage_vectors
from skytext.table.images_dataset import ImagesTable
from skytext.table.index_facts import VECTOR_INDEX, index_names
from skytext.table.indexes.build_indexes import build_indexes
from skytext.table.location import TableLocation
from skytext.table.missing_vectors import num_with_vector
from skytext.table.vector_columns import Role
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
    """Stage vectors of the descriptions that the table has now."""
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
    # Described again before they are committed, with the same bytes.
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
    # Built on the old column, and committed while the new one becomes active.
    after = activate_column(table, OTHER)
    assert VECTOR_INDEX not in index_names(after.dataset)
    assert "gsd_idx" in index_names(after.dataset)
