from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import lance
import numpy as np
import pytest

from skytext.errors import CommitConflictError, JobError, TableError
from skytext.table.commits.change_columns import activate_column
from skytext.table.commits.commit_rows import Committer
from skytext.table.commits.stage_rows import (
    data_files,
    forget_records,
    has_all_files,
    read_records,
    staged_unit_ids,
)
from skytext.table.commits.stage_vectors import read_vectors
from skytext.table.compaction import merge_small_fragments
from skytext.table.images_dataset import ImagesTable
from skytext.table.indexes.build_indexes import VECTOR_INDEX, build_indexes, num_unindexed_rows
from skytext.table.location import TableLocation
from skytext.table.rows.missing_vectors import (
    count_without_vector,
    image_column_of,
    num_with_vector,
    rows_without_vector,
)
from skytext.table.vector_columns import Role
from tests.table.image_rows import (
    IMAGE_DIM,
    commit_vectors,
    embed_numbers,
    image_vector,
    stage_numbers,
    vectors_by_number,
)
from tests.table.image_rows import image_column as ours
from tests.table.rows import (
    ALWAYS,
    committer,
    failed_row,
    good_row,
    good_rows,
    location,
    make_table,
    stage,
)


@pytest.fixture
def where(tmp_path: Path) -> TableLocation:
    """Make a table with three fragments. They contain the rows 0 and 1, 2 and 3, and 4 and 5."""
    where = location(tmp_path / "table")
    make_table(where, good_rows(0, 2), good_rows(2, 2), good_rows(4, 2))
    return where


def check(where: TableLocation, embedded: Sequence[int], missing: Sequence[int]) -> None:
    found = vectors_by_number(where)
    assert sorted(found) == sorted([*embedded, *missing])
    for number in embedded:
        np.testing.assert_array_equal(np.float32(found[number]), image_vector(number))
    assert all(found[number] is None for number in missing)


def caption(where: TableLocation, *numbers: int, replaces: bool = False) -> None:
    rows = [good_row(f"{i:05d}.jpg") for i in numbers]
    old = {row["image_id"]: "unit" for row in rows} if replaces else None
    committer(where).commit([stage(where, rows, replaces=old)])


def test_a_table_without_the_column_reports_none(where: TableLocation) -> None:
    table = ImagesTable.open(where)
    assert table.image_column is None
    assert num_with_vector(table, ours()) == (6, 0)
    with pytest.raises(
        TableError, match=r"no image vectors.* run: skytext embed-images .* --model NAME"
    ):
        image_column_of(table)


def test_the_first_commit_makes_the_column_and_says_by_which_model(where: TableLocation) -> None:
    before = ImagesTable.open(where)
    embed_numbers(where, 1, 2, 5)
    check(where, [1, 2, 5], [0, 3, 4])
    table = ImagesTable.open(where)
    assert table.image_column == ours()
    assert num_with_vector(table, ours()) == (6, 3)
    assert table.text_column == before.text_column
    # The other columns of the table are unchanged.
    names = before.dataset.schema.names
    assert table.dataset.schema.names == [*names, ours().name]
    kept = table.dataset.to_table(columns=names).to_pylist()
    assert kept == before.dataset.to_table().to_pylist()
    # The earlier version has no image vectors. The error names a version that has image vectors.
    old = ImagesTable.open(where, before.version)
    assert old.image_column is None
    with pytest.raises(TableError, match=rf"has image vectors: use --version {table.version}"):
        image_column_of(old)


def test_commits_fill_the_column_and_leave_what_is_there(where: TableLocation) -> None:
    for numbers in ((1, 2), (0,), (3, 4, 5)):
        embed_numbers(where, *numbers)
    check(where, range(6), [])


def test_rows_captioned_later_have_none_until_they_are_embedded(where: TableLocation) -> None:
    embed_numbers(where, *range(6))
    early = stage(where, good_rows(6, 2))
    caption(where, 8, 9)
    committer(where).commit([early])
    check(where, range(6), [6, 7, 8, 9])
    embed_numbers(where, 6, 9)
    check(where, [*range(6), 6, 9], [7, 8])


def test_rows_staged_before_there_was_a_column_are_committed_after(where: TableLocation) -> None:
    staged = stage(where, good_rows(6, 2))
    embed_numbers(where, 0)
    committer(where).commit([staged])
    check(where, [0], [1, 2, 3, 4, 5, 6, 7])


def test_a_replaced_row_loses_its_vector_and_the_others_keep_theirs(where: TableLocation) -> None:
    embed_numbers(where, *range(6))
    caption(where, 3, replaces=True)
    check(where, [0, 1, 2, 4, 5], [3])
    # Vectors are also written to a fragment that has lost a row.
    embed_numbers(where, 2, 3)
    check(where, range(6), [])


def test_a_table_of_no_rows_left_takes_rows_and_vectors_again(where: TableLocation) -> None:
    embed_numbers(where, 0, 4)
    ids = [good_row(f"{i:05d}.jpg")["image_id"] for i in range(6)]
    committer(where).commit([stage(where, [], removes=ids)])
    assert ImagesTable.open(where).num_rows() == 0
    embed_numbers(where, 0)
    caption(where, 0, 1)
    embed_numbers(where, 1)
    check(where, [1], [0])


def test_vectors_go_to_the_content_that_was_embedded(tmp_path: Path) -> None:
    where = location(tmp_path / "table")
    make_table(where, [good_row("00000.jpg", content_sha256="a"), good_row("00001.jpg")])
    embed_numbers(where, 0, 1, contents=["b", None])
    check(where, [1], [0])
    embed_numbers(where, 0, contents=["a"])
    check(where, [0, 1], [])


def test_vectors_of_rows_that_are_not_there_change_nothing(where: TableLocation) -> None:
    embed_numbers(where, 0)
    version = ImagesTable.open(where).version
    assert embed_numbers(where, 70, 71) == version


def test_merging_and_indexes_keep_the_vectors(where: TableLocation) -> None:
    embed_numbers(where, 0, 3, 4)
    build_indexes(ImagesTable.open(where), ALWAYS)
    embed_numbers(where, 1)
    table = ImagesTable.open(where)
    # The index on the caption vectors still covers every row, because another column was written.
    assert num_unindexed_rows(table) == 0
    merge_small_fragments(table)
    assert len(ImagesTable.open(where).dataset.get_fragments()) == 1
    check(where, [0, 1, 3, 4], [2, 5])
    embed_numbers(where, 2, 5)
    check(where, range(6), [])
    dataset = ImagesTable.open(where).dataset
    assert VECTOR_INDEX in {index.name for index in dataset.describe_indices()}


def listed(table: ImagesTable, fragment_id: int, model: str = "fake") -> list[dict[str, Any]]:
    batches = rows_without_vector(table, fragment_id, ours(model))
    return [row for batch in batches for row in batch.to_pylist()]


def test_missing_vectors_are_listed_by_fragment(tmp_path: Path) -> None:
    where = location(tmp_path / "table")
    first = [good_row("00000.jpg", byte_offset=512, byte_length=9), failed_row("00001.jpg")]
    make_table(where, first, good_rows(2, 2))
    table = ImagesTable.open(where)
    counts = count_without_vector(table, ours())
    a, b = counts
    assert list(counts.values()) == [1, 2]
    [place] = listed(table, a)
    assert (place["member"], place["byte_offset"], place["byte_length"]) == ("00000.jpg", 512, 9)
    embed_numbers(where, 2)
    table = ImagesTable.open(where)
    assert count_without_vector(table, ours()) == {a: 1, b: 1}
    left = [row["member"] for row in listed(table, b)]
    assert left == ["00003.jpg"]
    # No image has a vector of the other model yet.
    assert len(listed(table, b, "e")) == 2
    assert num_with_vector(table, ours()) == (3, 1)


def test_another_model_fills_a_separate_column(where: TableLocation) -> None:
    embed_numbers(where, 0, 1)
    other = ours("other", dim=5)
    embed_numbers(where, 1, 2, column=other)
    table = ImagesTable.open(where)
    # Readers use the first column until the other column becomes active.
    assert table.image_column == ours()
    check(where, [0, 1], [2, 3, 4, 5])
    pending = table.find_column(other)
    assert pending is not None
    assert pending.role == Role.PENDING
    assert num_with_vector(table, other) == (6, 2)
    caption(where, 6)
    assert num_with_vector(ImagesTable.open(where), other) == (7, 2)
    activated = activate_column(ImagesTable.open(where), other)
    assert activated.image_column == other
    assert ours().name not in activated.dataset.schema.names
    found = vectors_by_number(where)
    assert [number for number, vector in sorted(found.items()) if vector] == [1, 2]
    np.testing.assert_array_equal(np.float32(found[2]), image_vector(2, 5))
    # A repeated activation changes nothing.
    assert activate_column(activated, other).version == activated.version
    # An earlier version still uses the first column.
    assert ImagesTable.open(where, table.version).image_column == ours()


def test_vectors_of_another_length_are_refused(where: TableLocation) -> None:
    embed_numbers(where, 0)
    told = r"vectors with 5 dimensions, but the column .* has vectors with 8 dimensions"
    with pytest.raises(JobError, match=told):
        embed_numbers(where, 1, column=ours(dim=5))


def test_a_replacement_killed_between_steps_is_completed(
    where: TableLocation, monkeypatch: pytest.MonkeyPatch
) -> None:
    embed_numbers(where, 0, 1)
    other = ours("other", dim=5)
    for step in ("add_columns", "update_schema_metadata"):
        with monkeypatch.context() as patch:
            patch.setattr(lance.LanceDataset, step, died)
            with pytest.raises(KeyboardInterrupt):
                embed_numbers(where, 1, column=other)
        assert ImagesTable.open(where).columns[1:] == (ours(),)
    embed_numbers(where, 1, column=other)
    for step in ("update_schema_metadata", "drop_columns"):
        with monkeypatch.context() as patch:
            patch.setattr(lance.LanceDataset, step, died)
            with pytest.raises(KeyboardInterrupt):
                activate_column(ImagesTable.open(where), other)
    table = activate_column(ImagesTable.open(where), other)
    assert table.image_column == other
    assert [name for name in table.dataset.schema.names if "image_vector" in name] == [other.name]
    assert num_with_vector(table, other) == (6, 1)


def died(*_: object, **__: object) -> None:
    raise KeyboardInterrupt


Commit = Callable[[TableLocation, Committer, int], object]
COMMITS: dict[str, Commit] = {
    "vectors of the first": lambda where, _, version: commit_vectors(
        where, version, [stage_numbers(where, [0])]
    ),
    "vectors of the last": lambda where, _, version: commit_vectors(
        where, version, [stage_numbers(where, [5])]
    ),
    "another model": lambda where, _, version: commit_vectors(
        where, version, [stage_numbers(where, [1], column=ours("other"))]
    ),
    "new rows": lambda where, writer, _: writer.commit([stage(where, good_rows(60, 1))]),
    "replaced row": lambda where, writer, _: writer.commit(
        [stage(where, [good_row("00003.jpg")], replaces={good_row("00003.jpg")["image_id"]: "u"})]
    ),
    "fence": lambda where, writer, _: writer.raise_fence(),
}
WITH_VECTORS = [
    (first, second)
    for first in COMMITS
    for second in COMMITS
    if "vectors" in f"{first} {second}" or "model" in f"{first} {second}"
]


@pytest.mark.parametrize("has_column", [False, True])
@pytest.mark.parametrize(("first", "second"), WITH_VECTORS)
def test_the_second_writer_from_the_same_version_commits_nothing(
    where: TableLocation, first: str, second: str, has_column: bool
) -> None:
    if has_column:
        embed_numbers(where, 2, 4)
    one, two = committer(where), committer(where)
    version = ImagesTable.open(where).version
    COMMITS[first](where, one, version)
    landed = ImagesTable.open(where).version
    with pytest.raises(CommitConflictError, match="another run committed"):
        COMMITS[second](where, two, version)
    assert ImagesTable.open(where).version == landed


def test_a_concurrent_commit_makes_the_commit_fail(
    where: TableLocation, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If the writer only checked the versions, it would not notice a commit after the check."""
    embed_numbers(where, 2)
    version = ImagesTable.open(where).version
    staged = stage_numbers(where, [0, 3])
    real = lance.LanceDataset.commit

    def late(*arguments: object, **options: object) -> object:
        monkeypatch.setattr(lance.LanceDataset, "commit", real)
        caption(where, 7)
        return real(*arguments, **options)

    monkeypatch.setattr(lance.LanceDataset, "commit", late)
    with pytest.raises(CommitConflictError):
        commit_vectors(where, version, [staged])
    check(where, [2], [0, 1, 3, 4, 5, 7])


def test_concurrent_maintenance_does_not_make_the_commit_fail(
    where: TableLocation, monkeypatch: pytest.MonkeyPatch
) -> None:
    embed_numbers(where, 2)
    build_indexes(ImagesTable.open(where), ALWAYS)
    version = ImagesTable.open(where).version
    staged = stage_numbers(where, [0, 3])
    real = lance.LanceDataset.commit

    def late(*arguments: object, **options: object) -> object:
        monkeypatch.setattr(lance.LanceDataset, "commit", real)
        merge_small_fragments(ImagesTable.open(where))
        return real(*arguments, **options)

    monkeypatch.setattr(lance.LanceDataset, "commit", late)
    commit_vectors(where, version, [staged])
    assert len(ImagesTable.open(where).dataset.get_fragments()) == 1
    check(where, [0, 2, 3], [1, 4, 5])


def test_a_caption_commit_tolerates_a_merge_of_indexed_fragments(where: TableLocation) -> None:
    build_indexes(ImagesTable.open(where), ALWAYS)
    writer = committer(where)
    merge_small_fragments(ImagesTable.open(where))
    writer.commit([stage(where, good_rows(6, 1))])
    assert ImagesTable.open(where).num_rows() == 7


def test_a_commit_with_a_lost_response_is_not_repeated(
    where: TableLocation, monkeypatch: pytest.MonkeyPatch
) -> None:
    embed_numbers(where, 2)
    version = ImagesTable.open(where).version
    staged = stage_numbers(where, [0, 3])
    real = lance.LanceDataset.commit

    def lost(*arguments: object, **options: object) -> object:
        real(*arguments, **options)
        raise OSError("error decoding response body")

    monkeypatch.setattr(lance.LanceDataset, "commit", lost)
    assert commit_vectors(where, version, [staged]) == version + 1
    check(where, [0, 2, 3], [1, 4, 5])


def test_staged_vectors_are_read_back_and_forgotten(where: TableLocation) -> None:
    before = staged_unit_ids(where)
    staged = stage_numbers(where, [0, 3], contents=["a", None])
    assert set(staged_unit_ids(where)) == {*before, staged.unit_id}
    assert read_records(where, [staged.unit_id]) == [staged]
    assert staged.column == ours().to_json()
    assert has_all_files(where, staged)
    found = read_vectors(where, [staged])
    assert found.column("key").to_pylist() == ["a", None]
    vectors = np.array(found.column(ours().name).to_pylist(), np.float32)
    assert vectors.shape == (2, IMAGE_DIM)
    np.testing.assert_array_equal(vectors[1], image_vector(3))
    forget_records(where, [staged])
    assert staged_unit_ids(where) == before
    assert len(data_files(staged)) == 1
    assert not has_all_files(where, staged)


def test_the_first_record_of_a_unit_staged_twice_wins(where: TableLocation) -> None:
    first = stage_numbers(where, [0], unit_id="unit")
    second = stage_numbers(where, [0], unit_id="unit")
    assert second == first
    commit_vectors(where, ImagesTable.open(where).version, [second])
    check(where, [0], [1, 2, 3, 4, 5])
