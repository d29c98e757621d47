"""Test that images are still found after their shard was rewritten."""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from skytext.archive import ChangedError, fetch_row, fetch_rows
from skytext.config.settings import load_config
from skytext.run.reindex.report.thumbnails import thumbnail
from skytext.table.location import TableLocation
from skytext.table.shards import moved_images
from skytext.table.shards.moved_images import moved_row
from tests.archives import Entry, images, write_archive
from tests.table.image_rows import rows_of, write_manifests

OLD, NEW = images(0, 4), images(9, 1)


@pytest.fixture
def where(tmp_path: Path) -> TableLocation:
    return TableLocation.parse(str(tmp_path / "table"))


def write_cells(path: Path, entries: list[Entry]) -> None:
    cells = [{"bytes": data, "path": name} for name, data in entries]
    pq.write_table(pa.table({"image": cells}), path, row_group_size=2)


def fetch(where: TableLocation, rows: list[dict[str, Any]]) -> list[bytes | Exception]:
    return fetch_rows(rows, num_threads=3, find_moved=partial(moved_row, where))


def test_images_behind_a_new_one_are_read_where_they_are_now(
    tmp_path: Path, where: TableLocation
) -> None:
    root = write_archive(tmp_path / "aerial", {"a.tar": OLD})
    write_cells(root / "p.parquet", OLD)
    rows = rows_of(root)
    write_manifests(where, root)
    write_archive(root, {"a.tar": [*NEW, *OLD]})
    write_cells(root / "p.parquet", [*NEW, *OLD])
    # No run has read the rewritten shards yet.
    assert [type(one) for one in fetch(where, rows)] == [ChangedError] * 8
    write_manifests(where, root)
    assert fetch(where, rows) == [data for _, data in (*OLD, *OLD)]
    assert [type(one) for one in fetch_rows(rows, num_threads=3)] == [ChangedError] * 8


def test_an_image_with_other_bytes_or_none_is_still_refused(
    tmp_path: Path, where: TableLocation
) -> None:
    root = write_archive(tmp_path / "aerial", {"a.tar": OLD, "b.tar": OLD})
    rows = rows_of(root)
    (first, _), *_, last = OLD
    write_archive(root, {"a.tar": [(first, NEW[0][1]), last]})
    (root / "b.tar").unlink()
    write_manifests(where, root)
    found = fetch(where, rows)
    assert [type(one) for one in found[:3]] == [ChangedError] * 3
    assert found[3] == last[1]
    assert [type(one) for one in found[4:]] == [FileNotFoundError] * 4


def test_a_shard_that_changed_after_its_manifest_is_refused(
    tmp_path: Path, where: TableLocation
) -> None:
    root = write_archive(tmp_path / "aerial", {"a.tar": OLD})
    rows = rows_of(root)
    write_archive(root, {"a.tar": [*NEW, *OLD]})
    write_manifests(where, root)
    write_archive(root, {"a.tar": [*images(20, 2), *OLD]})
    assert [type(one) for one in fetch(where, rows)] == [ChangedError] * 4
    with pytest.raises(ChangedError, match="deleted or changed after"):
        fetch_row(rows[0], find_moved=partial(moved_row, where))


def test_a_touched_file_of_a_folder_is_read_and_a_changed_one_is_not(
    tmp_path: Path, where: TableLocation
) -> None:
    root = write_archive(tmp_path / "aerial", {f"x/{name}": data for name, data in OLD})
    rows = rows_of(root)
    write_manifests(where, root)
    for name, _ in OLD:
        os.utime(root / "x" / name, ns=(1, 1))
    changed = root / "x" / OLD[1][0]
    # The manifest still has the hash of the earlier bytes.
    changed.write_bytes(b"?" * len(OLD[1][1]))
    found = fetch(where, rows)
    assert isinstance(found.pop(1), ChangedError)
    assert found == [data for _, data in (OLD[0], *OLD[2:])]


def test_a_manifest_is_read_once_for_many_images(
    tmp_path: Path, where: TableLocation, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = write_archive(tmp_path / "aerial", {"a.tar": OLD})
    rows = rows_of(root)
    write_archive(root, {"a.tar": [*NEW, *OLD]})
    write_manifests(where, root)
    read, shards = moved_images.read_manifest, []

    def counted(where: TableLocation, archive: str, shard: str, columns: Any) -> Any:
        shards.append(shard)
        return read(where, archive, shard, columns)

    monkeypatch.setattr(moved_images, "read_manifest", counted)
    for _ in range(3):
        assert fetch(where, rows) == [data for _, data in OLD]
    assert shards == ["a.tar"]


def test_a_report_shows_a_picture_from_a_rewritten_tar(
    tmp_path: Path, where: TableLocation
) -> None:
    root = write_archive(tmp_path / "aerial", {"a.tar": OLD})
    row, *_ = rows_of(root)
    write_archive(root, {"a.tar": [*NEW, *OLD]})
    write_manifests(where, root)
    picture, note = thumbnail(row, where, load_config(None, {}))
    assert (picture or b"").startswith(b"RIFF")
    assert note == ""
