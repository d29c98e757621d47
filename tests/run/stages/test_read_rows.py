"""Test that images with a row are fetched from the position in the row."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from skytext.archive import ReadLimits, Shard, UnavailableError, discover, refetch
from skytext.run.stages.read_shards import ShardReader, shard_row
from skytext.run.units import UnitHead, unpack
from skytext.table.location import TableLocation
from tests.archive.formats.tars import Entry, write_shard
from tests.archives import images, jpeg
from tests.table.rows import failed_row, good_row, make_table

OURS = "o" * 32
MANY = 10**9
SIDECAR: list[Entry] = [("0004.json", {"gsd": 0.5, "note": {"sensor": "x"}})]


@pytest.fixture
def where(tmp_path: Path) -> TableLocation:
    return TableLocation.parse(str(tmp_path / "table"))


def tar(folder: Path) -> Shard:
    return write_shard(folder / "aerial" / "a.tar", [*images(0, 6), *SIDECAR])


def folder(folder: Path) -> Shard:
    root = folder / "aerial" / "images"
    root.mkdir(parents=True)
    for i in range(6):
        (root / f"{i:04d}.jpg").write_bytes(jpeg(i))
    (root / "0004.json").write_text('{"gsd": 0.5}')
    (shard,) = discover([str(folder / "aerial")])
    return shard


def parquet(folder: Path) -> Shard:
    path = folder / "aerial" / "a.parquet"
    path.parent.mkdir()
    pq.write_table(
        pa.table({"image": [jpeg(i) for i in range(6)], "gsd": [0.5] * 6}), path, row_group_size=4
    )
    (shard,) = discover([str(folder / "aerial")])
    return shard


def read(
    where: TableLocation, shard: Shard, version: int | None, num_known: int | None, **more: Any
) -> list[tuple[UnitHead, list[dict[str, Any]]]]:
    more = {"unit_images": 2, "unit_bytes": MANY} | more
    reader = ShardReader(limits=ReadLimits(), location=where, table_version=version, **more)
    batch = pa.Table.from_pylist([shard_row(shard, None, num_known)])
    units = []
    for unit in reader(batch):
        head, samples = unpack(unit)
        units.append((head, samples.to_pylist()))
    return units


def describe(where: TableLocation, shard: Shard, number_failed: int) -> int:
    """Make a table of the shard's images. The first ``number_failed`` rows are failed rows."""
    samples = [row for _, rows in read(where, shard, None, None) for row in rows]
    made = [
        (failed_row if i < number_failed else good_row)(sample["member"])
        | {name: value for name, value in sample.items() if name not in ("data", "failure")}
        for i, sample in enumerate(samples)
    ]
    return make_table(where, made).version


def samples_of(units: list[tuple[UnitHead, list[dict[str, Any]]]]) -> list[list[dict[str, Any]]]:
    """Return the samples of each unit.

    The metadata is parsed, because the table formats JSON differently.
    """
    return [
        [row | {"metadata": json.loads(row["metadata"] or "null")} for row in rows]
        for _, rows in units
        if rows
    ]


@pytest.mark.parametrize("make", [tar, folder, parquet])
@pytest.mark.parametrize("select", ["new", "failed"])
def test_fetched_samples_equal_streamed_samples(
    tmp_path: Path, where: TableLocation, make: Callable[[Path], Shard], select: str
) -> None:
    shard = make(tmp_path)
    version = describe(where, shard, 3)
    more = {"select": select, "described_with": OURS if select == "new" else ""}
    streamed = read(where, shard, version, None, **more)
    fetched = read(where, shard, version, 6, **more)
    assert samples_of(fetched) == samples_of(streamed)
    assert [len(rows) for _, rows in fetched] == [2, 1, 0]
    for units in (streamed, fetched):
        assert sum(head.num_listed for head, _ in units) == 6
        assert sum(head.num_skipped for head, _ in units) == 3
        assert sum(head.shard_bytes_read for head, _ in units) == shard.size_bytes
        assert len({head.unit_id for head, _ in units}) == len(units)


def test_a_later_pass_fetches_the_images_that_were_put_off(
    tmp_path: Path, where: TableLocation
) -> None:
    shard = tar(tmp_path)
    version = describe(where, shard, 0)
    every = [row for _, rows in read(where, shard, version, 6, described_with=OURS) for row in rows]
    only = frozenset({every[1]["image_id"], every[4]["image_id"]})
    later = read(where, shard, version, 6, described_with=OURS, only=only)
    assert [row["image_id"] for _, rows in later for row in rows] == sorted(
        only, key=[row["image_id"] for row in every].index
    )


def test_rows_that_failed_too_often_are_not_retried(tmp_path: Path, where: TableLocation) -> None:
    shard = tar(tmp_path)
    version = describe(where, shard, 2)
    ((head, rows),) = read(where, shard, version, 6, select="failed", max_attempts=1)
    assert (head.num_listed, head.num_skipped, rows) == (6, 6, [])


def test_a_file_that_was_touched_is_fetched_and_one_that_is_gone_is_a_failure(
    tmp_path: Path, where: TableLocation
) -> None:
    shard = folder(tmp_path)
    version = describe(where, shard, 0)
    root = tmp_path / "aerial" / "images"
    os.utime(root / "0000.jpg", (1, 1))
    (root / "0001.jpg").unlink()
    units = read(where, shard, version, 6, described_with=OURS)
    rows = [row for _, rows in units for row in rows]
    assert (rows[0]["data"], rows[0]["failure"]) == (jpeg(0), None)
    assert (rows[1]["data"], rows[1]["failure"]["reason"]) == (None, "unreadable")
    assert {head.fault for head, _ in units} == {""}


@pytest.mark.parametrize(("num_given", "expected"), [(2, [2, 0]), (3, [2, 1, 0]), (0, [0])])
def test_the_first_image_that_the_store_does_not_answer_for_ends_the_shard(
    tmp_path: Path,
    where: TableLocation,
    monkeypatch: pytest.MonkeyPatch,
    num_given: int,
    expected: list[int],
) -> None:
    shard = tar(tmp_path)
    version = describe(where, shard, 0)
    offsets = sorted(
        row["byte_offset"]
        for _, rows in read(where, shard, version, 6, described_with=OURS)
        for row in rows
    )
    real, asked = refetch.read_range, []

    def read_range(uri: str, offset: int, *args: Any, **more: Any) -> bytes:
        asked.append(offset)
        if offset >= offsets[num_given]:
            raise UnavailableError("no answer")
        return real(uri, offset, *args, **more)

    monkeypatch.setattr(refetch, "read_range", read_range)
    units = read(where, shard, version, 6, described_with=OURS)
    assert [len(rows) for _, rows in units] == expected
    # Each further request would wait as long as the failed request.
    assert len(asked) <= num_given + 2
    *others, (last, _) = units
    assert "no answer" in last.fault
    assert last.is_store_away
    assert {head.fault for head, _ in others} <= {""}
    assert sum(head.num_listed for head, _ in units) == 6
