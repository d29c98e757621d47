from __future__ import annotations

import dataclasses
from pathlib import Path

import lance
import numpy as np
import pyarrow as pa
import pytest

from skytext.config.index import IndexConfig
from skytext.errors import CommitConflictError, JobError, TableError
from skytext.table.commits.commit_rows import Committer
from skytext.table.images_dataset import ImagesTable
from skytext.table.index_facts import VECTOR_INDEX, index_names
from skytext.table.indexes.build_indexes import build_indexes, num_unindexed_rows
from skytext.table.location import IMAGES, TableLocation
from tests.table.rows import (
    ALWAYS,
    DIM,
    committer,
    good_row,
    good_rows,
    location,
    make_table,
    rows_of,
    stage,
    text_column,
)


@pytest.fixture
def where(tmp_path: Path) -> TableLocation:
    return location(tmp_path / "table")


def members(where: TableLocation) -> list[str]:
    dataset = ImagesTable.open(where).dataset
    return sorted(dataset.to_table(columns=["member"]).column("member").to_pylist())


def test_the_first_commit_makes_a_whole_table(where: TableLocation) -> None:
    writer = committer(where)
    assert writer.version is None
    units = [stage(where, good_rows(0, 3)), stage(where, good_rows(3, 2))]
    assert ImagesTable.find(where) is None
    version = writer.commit(units)
    table = ImagesTable.open(where)
    assert (table.version, table.num_rows()) == (version, 5)
    assert table.text_column == dataclasses.replace(text_column(), dim=DIM)
    # There is only one version, so no version lacks the metadata of the vector column.
    assert [entry["version"] for entry in table.dataset.versions()] == [version]


def test_a_table_keeps_the_schema_and_the_values(where: TableLocation) -> None:
    row = good_row(
        "a.jpg",
        bbox={"west": 170.0, "south": -1.0, "east": -170.0, "north": 1.0},
        gsd=0.5,
        metadata='{"sensor": "S2"}',
    )
    (kept,) = rows_of(make_table(where, [row]))
    assert kept["bbox"] == row["bbox"]
    assert kept["vectors"] == [pytest.approx(vector) for vector in row["vectors"]]
    assert kept["captions"] == row["captions"]
    assert kept["created_at"] == row["created_at"]
    assert kept["failure"] is None


def test_every_further_commit_is_one_version(where: TableLocation) -> None:
    writer = committer(where)
    first = writer.commit([stage(where, good_rows(0, 3))])
    second = writer.commit([stage(where, good_rows(3, 2)), stage(where, good_rows(5, 1))])
    assert second == first + 1 == writer.version
    assert members(where) == [f"{i:05d}.jpg" for i in range(6)]
    third = committer(where).commit([stage(where, good_rows(6, 1))])
    assert third == second + 1
    assert ImagesTable.open(where).num_rows() == 7


def test_a_stale_writer_commits_nothing(where: TableLocation) -> None:
    make_table(where, good_rows(0, 2))
    one, two = committer(where), committer(where)
    one.commit([stage(where, good_rows(2, 2))])
    version = one.commit([stage(where, good_rows(4, 1))])
    late = stage(where, good_rows(2, 2))
    for _ in range(2):
        with pytest.raises(CommitConflictError, match="another run committed"):
            two.commit([late])
    assert ImagesTable.open(where).version == version
    assert members(where) == [f"{i:05d}.jpg" for i in range(5)]
    # A writer that starts from the latest version can commit.
    committer(where).commit([stage(where, good_rows(5, 1))])
    assert ImagesTable.open(where).num_rows() == 6


def test_a_concurrent_index_build_neither_conflicts_nor_is_lost(where: TableLocation) -> None:
    writer = committer(where)
    writer.commit([stage(where, good_rows(0, 300))])
    report = build_indexes(ImagesTable.open(where), ALWAYS)
    assert report.vector is not None
    names = index_names(ImagesTable.open(where).dataset)
    writer.commit([stage(where, good_rows(300, 7))])
    table = ImagesTable.open(where)
    assert table.num_rows() == 307
    assert index_names(table.dataset) == names
    assert VECTOR_INDEX in names
    assert num_unindexed_rows(table) == 7
    # A row that is not in the index is found too.
    (row,) = table.rows([good_row("00306.jpg")["image_id"]], ["member"])
    assert row == {"member": "00306.jpg"}


def test_only_one_of_two_writers_creates_the_table(where: TableLocation) -> None:
    one, two = Committer(where, text_column(), None), Committer(where, text_column(), None)
    units = [stage(where, good_rows(0, 2)), stage(where, good_rows(0, 3))]
    version = one.commit(units[:1])
    for _ in range(2):
        with pytest.raises(CommitConflictError, match="another run committed"):
            two.commit(units[1:])
    assert ImagesTable.open(where).version == version
    assert members(where) == ["00000.jpg", "00001.jpg"]


def test_a_plan_older_than_another_commit_commits_nothing(where: TableLocation) -> None:
    """A writer starts from the version of its plan, not from the latest version."""
    planned = make_table(where, good_rows(0, 2)).version
    committer(where).commit([stage(where, good_rows(2, 2))])
    late = Committer(where, text_column(), planned)
    assert late.version == planned
    with pytest.raises(CommitConflictError, match="run the same command again"):
        late.commit([stage(where, good_rows(2, 2))])
    assert members(where) == [f"{i:05d}.jpg" for i in range(4)]


def test_a_concurrent_merge_does_not_block_a_writer(where: TableLocation) -> None:
    writer = committer(where)
    writer.commit([stage(where, good_rows(30 * i, 30)) for i in range(10)])
    first = writer.version
    report = build_indexes(ImagesTable.open(where), ALWAYS)
    assert report.num_fragments == 1
    version = writer.commit([stage(where, good_rows(300, 7))])
    assert first is not None
    assert version == writer.version == ImagesTable.open(where).version > report.table_version
    # The writer can commit again, starting from its last version.
    writer.commit([stage(where, good_rows(307, 3))])
    table = ImagesTable.open(where)
    assert members(where) == [f"{i:05d}.jpg" for i in range(310)]
    assert table.num_rows() == 310
    assert VECTOR_INDEX in index_names(table.dataset)
    assert num_unindexed_rows(table) == 10
    for i in (0, 299, 300, 309):
        row = good_row(f"{i:05d}.jpg")
        condition = f"image_id = '{row['image_id']}'"
        (found,) = rows_of(table, "member", "vectors", filter=condition)
        assert found["member"] == row["member"]
        assert found["vectors"] == [pytest.approx(vector) for vector in row["vectors"]]
    again = build_indexes(table, ALWAYS)
    assert num_unindexed_rows(ImagesTable.open(where, again.table_version)) == 0


def test_rows_of_another_writer_conflict_despite_maintenance(where: TableLocation) -> None:
    one = committer(where)
    one.commit([stage(where, good_rows(3 * i, 3)) for i in range(10)])
    before, after = committer(where), committer(where)
    build_indexes(ImagesTable.open(where), IndexConfig())
    committer(where).commit([stage(where, good_rows(30, 1))])
    with pytest.raises(CommitConflictError):
        before.commit([stage(where, good_rows(31, 1))])
    build_indexes(ImagesTable.open(where), IndexConfig())
    with pytest.raises(CommitConflictError):
        after.commit([stage(where, good_rows(31, 1))])
    assert members(where) == [f"{i:05d}.jpg" for i in range(31)]


def test_a_deleted_row_conflicts_unlike_maintenance(where: TableLocation) -> None:
    """The plan skips the image because it had a row. So this run would never describe the image."""
    writer = committer(where)
    writer.commit([stage(where, good_rows(0, 3))])
    ImagesTable.open(where).dataset.delete("member = '00001.jpg'")
    with pytest.raises(CommitConflictError):
        writer.commit([stage(where, good_rows(3, 1))])
    assert members(where) == ["00000.jpg", "00002.jpg"]


def test_a_transaction_removed_by_clean_up_is_treated_as_a_row_change(
    where: TableLocation, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = committer(where)
    writer.commit([stage(where, good_rows(3 * i, 3)) for i in range(10)])
    build_indexes(ImagesTable.open(where), IndexConfig())
    # After a clean-up, Lance returns no transaction.
    monkeypatch.setattr(lance.LanceDataset, "read_transaction", lambda *_: None)
    with pytest.raises(CommitConflictError):
        writer.commit([stage(where, good_rows(30, 1))])
    assert len(members(where)) == 30


def test_another_embedder_is_refused(where: TableLocation) -> None:
    make_table(where, good_rows(0, 1))
    with pytest.raises(TableError, match=r"embedded with 'fake'.*would use 'other'") as caught:
        committer(where, text_column("other", "0" * 32))
    assert "--embedding-model fake" in str(caught.value)
    # Another name of the model is accepted, because a model folder may have two names.
    committer(where, text_column("the same, elsewhere"))


def test_a_record_that_disagrees_with_its_fragments_is_refused(where: TableLocation) -> None:
    unit = dataclasses.replace(stage(where, good_rows(0, 3)), num_rows=4)
    with pytest.raises(JobError, match="different numbers of rows"):
        committer(where).commit([unit])
    assert ImagesTable.find(where) is None


def test_vectors_of_another_length_are_never_committed(where: TableLocation) -> None:
    make_table(where, good_rows(0, 1))
    short = np.array([[1.0, 0.0]], np.float32)
    with pytest.raises(OSError, match="different schema"):
        stage(where, [good_row("x.jpg", vectors=short)], dim=2)
    assert members(where) == ["00000.jpg"]


def test_a_foreign_data_set_is_not_changed(where: TableLocation) -> None:
    lance.write_dataset(pa.table({"image_id": ["x"]}), where.dataset_uri(IMAGES))
    with pytest.raises(TableError, match="not made by skytext"):
        ImagesTable.find(where)
    with pytest.raises(TableError, match="not made by skytext"):
        Committer(where, text_column(), 1)
    assert lance.dataset(where.dataset_uri(IMAGES)).count_rows() == 1
