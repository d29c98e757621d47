"""A local copy of rows gives the same results as the table. The copy is made only once."""

from __future__ import annotations

import threading
from pathlib import Path

import lance
import numpy as np
import pyarrow.compute as pc
import pytest

from skytext.table.images_dataset import ImagesTable
from skytext.table.location import TableLocation
from skytext.table.queries import row_copy
from skytext.table.queries.caption_queries import RowIds, take_variants
from skytext.table.queries.row_copy import Copies, Rows, copy_rows
from tests.table.image_rows import embed_numbers
from tests.table.rows import (
    DIM,
    failed_row,
    good_row,
    good_rows,
    location,
    make_table,
    unit_vectors,
)

NUM_ROWS = 50


@pytest.fixture
def where(tmp_path: Path) -> TableLocation:
    where = location(tmp_path / "table")
    rng = np.random.default_rng(1)
    rows = [
        good_row(f"{i:03d}.jpg", vectors=unit_vectors(rng, (1 + i % 5, DIM)), gsd=float(i))
        if i % 7
        else failed_row(f"{i:03d}.jpg")
        for i in range(NUM_ROWS)
    ]
    make_table(where, rows[:30])
    make_table(where, rows[30:])
    return where


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "copies"


@pytest.fixture(autouse=True)
def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(row_copy, "_ROWS_A_BATCH", 4)


def copied(table: ImagesTable, folder: Path) -> Copies:
    copies = copy_rows(table, folder)
    assert copies is not None
    return copies


def row_ids(table: ImagesTable, condition: str | None = None) -> RowIds:
    found = table.dataset.scanner(columns=[], with_row_id=True, filter=condition).to_table()
    ids: RowIds = found.column("_rowid").to_numpy()
    return ids


def assert_same(table: ImagesTable, copies: Copies) -> None:
    rng = np.random.default_rng(3)
    every, done = row_ids(table), row_ids(table, "status = 'ok'")
    columns = [table.text_column, *([table.image_column] if table.image_column else [])]
    assert list(copies) == [column.name for column in columns]
    for column in columns:
        for ids in (every, every[::-1], rng.permutation(every)[:9], every[:1], every[:0]):
            ours = copies[column.name].variants(ids)
            theirs = take_variants(table, ids, column)
            np.testing.assert_array_equal(ours.ids, theirs.ids)
            np.testing.assert_array_equal(ours.vectors, theirs.vectors)
            np.testing.assert_array_equal(ours.offsets, theirs.offsets)
            assert [x.dtype for x in ours] == [x.dtype for x in theirs]
    ids = rng.permutation(done)
    copy = copies[table.text_column.name]
    assert copy.hits(ids) == Rows(table).hits(ids)
    assert copy.hits(ids[:0]) == []


def files_of(folder: Path) -> dict[str, int]:
    return {path.name: path.stat().st_mtime_ns for path in folder.glob("*/*.arrow")}


def test_the_copy_equals_the_table(where: TableLocation, folder: Path) -> None:
    table = ImagesTable.open(where)
    assert len(table.dataset.get_fragments()) > 1
    assert_same(table, copied(table, folder))


def test_rows_are_read_from_an_existing_copy(
    where: TableLocation, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = ImagesTable.open(where)
    rows, ids = Rows(table), row_ids(table, "status = 'ok'")
    before = rows.variants(ids, table.text_column), rows.hits(ids)
    assert not rows.are_copied
    rows.use(copied(table, folder))
    assert rows.are_copied
    monkeypatch.setattr(lance.LanceDataset, "_take_rows", None)
    ours = rows.variants(ids, table.text_column)
    np.testing.assert_array_equal(ours.vectors, before[0].vectors)
    assert rows.hits(ids) == before[1]


def test_a_later_version_copies_only_what_is_new(where: TableLocation, folder: Path) -> None:
    before = copied(ImagesTable.open(where), folder)
    first = files_of(folder)
    make_table(where, [good_row(f"new-{i}.jpg") for i in range(9)])
    table = ImagesTable.open(where)
    after = copied(table, folder)
    assert first.items() < files_of(folder).items()
    assert_same(table, after)
    # If rows are deleted or fragments are merged, the old copies of these fragments are removed.
    table.dataset.delete("gsd > 40")
    table = ImagesTable.open(where)
    assert_same(table, copied(table, folder))
    table.dataset.optimize.compact_files()
    table = ImagesTable.open(where)
    assert_same(table, copied(table, folder))
    assert not first.keys() & files_of(folder).keys()
    assert len(files_of(folder)) == len(table.dataset.get_fragments())
    # The first copy can still be read, because its files are memory-mapped.
    old = ImagesTable.open(where, 2)
    assert_same(old, before)
    # If the old version is needed again, it is copied again.
    assert_same(old, copied(old, folder))


def test_new_image_vectors_need_no_new_caption_copy(folder: Path, tmp_path: Path) -> None:
    where = location(tmp_path / "embedded")
    make_table(where, good_rows(0, 6), good_rows(6, 6))
    copied(ImagesTable.open(where), folder)
    first = files_of(folder)
    embed_numbers(where, 1, 2, 7)
    table = ImagesTable.open(where)
    assert_same(table, copied(table, folder))
    # The image vectors of each fragment are in a separate file.
    assert first.items() < files_of(folder).items()
    assert len(files_of(folder)) == 2 * len(first)


def test_a_rewritten_column_is_copied_again(where: TableLocation, folder: Path) -> None:
    table = ImagesTable.open(where)
    before = copied(table, folder)
    old, first = ImagesTable.open(where), files_of(folder)
    table.dataset.update({"hit": "replace(hit, 'file', 'other')"}, where="gsd < 9")
    table = ImagesTable.open(where)
    assert_same(table, copied(table, folder))
    assert files_of(folder).keys() != first.keys()
    # `LanceFragment.update_columns` rewrites a column in place. This column is also copied again.
    fragment = table.dataset.get_fragments()[0]
    rows = fragment.to_table(columns=["image_id", "hit"], filter="status = 'ok'")
    texts = pc.replace_substring(rows.column("hit"), "river", "brook")
    metadata, fields = fragment.update_columns(
        rows.set_column(1, "hit", texts), left_on="image_id", right_on="image_id"
    )
    operation = lance.LanceOperation.Update(updated_fragments=[metadata], fields_modified=fields)
    lance.LanceDataset.commit(table.dataset.uri, operation, read_version=table.version)
    table = ImagesTable.open(where)
    after = copied(table, folder)
    assert_same(table, after)
    hits = after[table.text_column.name].hits(row_ids(table, "status = 'ok'"))
    assert any("brook" in hit.captions[0][2] for hit in hits)
    assert_same(old, before)


def test_tables_share_a_folder(where: TableLocation, folder: Path, tmp_path: Path) -> None:
    other = location(tmp_path / "other")
    make_table(other, [good_row(f"{i}.jpg") for i in range(5)])
    for _ in range(2):
        for table in (ImagesTable.open(where), ImagesTable.open(other)):
            assert_same(table, copied(table, folder))
    assert len(list(folder.iterdir())) == 2


def test_a_cancelled_copy_ends(where: TableLocation, folder: Path) -> None:
    table = ImagesTable.open(where)
    answers = iter([True, True, False])
    assert copy_rows(table, folder, lambda: next(answers)) is None
    assert files_of(folder) == {}
    assert [path.name for path in folder.glob("*/*")] == ["lock"]
    assert_same(table, copied(table, folder))


def test_a_waiting_copy_keeps_the_files_of_a_newer_version(
    where: TableLocation, folder: Path
) -> None:
    copied(ImagesTable.open(where), folder)
    there = files_of(folder)
    assert copy_rows(ImagesTable.open(where, 1), folder, lambda: False) is None
    assert files_of(folder) == there


def test_an_interrupted_copy_is_repeated(where: TableLocation, folder: Path) -> None:
    table = ImagesTable.open(where)
    copied(table, folder)
    path = next(folder.glob("*/*.arrow"))
    # A process was killed while it wrote this file.
    path.rename(path.with_suffix(".unfinished"))
    assert_same(table, copied(table, folder))
    assert not list(folder.glob("*/*.unfinished"))


def test_a_damaged_copy_is_repeated_at_the_next_attempt(where: TableLocation, folder: Path) -> None:
    table = ImagesTable.open(where)
    copied(table, folder)
    path = next(folder.glob("*/*.arrow"))
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ValueError, match="Arrow"):
        copy_rows(table, folder)
    assert_same(table, copied(table, folder))


def test_a_full_disk_is_an_error(
    where: TableLocation, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = ImagesTable.open(where)

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space left"):
        copy_rows(table, folder)
    assert [path.name for path in folder.glob("*/*")] == ["lock"]


def test_concurrent_processes_copy_once(
    where: TableLocation, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table, written, write = ImagesTable.open(where), [], row_copy._write

    def spy(*args: object) -> bool:
        written.append(args)
        return write(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(row_copy, "_write", spy)
    copies: list[Copies] = []
    threads = [
        threading.Thread(target=lambda: copies.append(copied(table, folder))) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(written) == len(table.dataset.get_fragments())
    assert len(copies) == 4
    for copy in copies:
        assert_same(table, copy)


def test_a_table_of_failures_has_nothing_to_copy(folder: Path, tmp_path: Path) -> None:
    where = location(tmp_path / "failures")
    make_table(where, [failed_row(f"{i}.jpg") for i in range(3)])
    table = ImagesTable.open(where)
    assert_same(table, copied(table, folder))


def test_rows_without_any_vector_are_left_out(folder: Path, tmp_path: Path) -> None:
    where = location(tmp_path / "empty")
    nothing = np.empty((0, DIM), np.float32)
    make_table(where, [good_row("0.jpg"), good_row("1.jpg", vectors=nothing), good_row("2.jpg")])
    table = ImagesTable.open(where)
    assert_same(table, copied(table, folder))
