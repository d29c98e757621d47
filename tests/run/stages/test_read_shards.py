from __future__ import annotations

import hashlib
import itertools
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from skytext.archive import ReadLimits, Shard, discover, image_id
from skytext.archive.storage import local
from skytext.archive.storage.ranged_file import RangedFile, Window
from skytext.run.control.stop_flag import StopFlag
from skytext.run.stages.read_shards import ShardReader, shard_row
from skytext.run.units import UnitHead, unpack
from skytext.table.images_dataset import ImagesTable
from skytext.table.location import TableLocation
from skytext.table.schema import SAMPLE
from skytext.table.shards.manifest import read_manifest
from tests.archive.formats.tars import link, make_tar, write_shard
from tests.archives import (
    bad_shards,
    cut_tar,
    images,
    jpeg,
    write_archive,
)
from tests.table.rows import failed_row, good_row, make_table

MANY = 10**9
Unit = tuple[UnitHead, list[dict[str, Any]]]


@pytest.fixture(autouse=True)
def where(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> TableLocation:
    """Return the address of a table. Manifests are stored there even if there is no table."""
    monkeypatch.chdir(tmp_path)
    return TableLocation.parse(str(tmp_path / "table"))


def read(
    shard: Shard,
    *,
    unit_images: int = 4096,
    unit_bytes: int = MANY,
    table: TableLocation | None = None,
    version: int | None = None,
    limits: ReadLimits | None = None,
    has_rows: bool = True,
    **more: Any,
) -> list[Unit]:
    where = table or TableLocation.parse("table")
    reader = ShardReader(unit_images, unit_bytes, limits or ReadLimits(), where, version, **more)
    units = []
    for batch in reader(pa.Table.from_pylist([shard_row(shard, None if has_rows else ())])):
        head, samples = unpack(batch)
        assert samples.schema.equals(SAMPLE)
        units.append((head, samples.to_pylist()))
    # These properties do not depend on how the shard is divided into units.
    assert len({head.unit_id for head, _ in units}) == len(units)
    assert {(head.archive, head.shard) for head, _ in units} == {(shard.archive, shard.path)}
    assert sum(head.shard_bytes_read for head, _ in units) == shard.size_bytes
    assert all(head.shard_bytes_read >= 0 for head, _ in units)
    for head, rows in units:
        assert head.num_listed == head.num_skipped + len(rows)
    return units


def sizes(units: list[Unit]) -> list[int]:
    return [len(rows) for _, rows in units]


@pytest.mark.parametrize(
    ("count", "unit_images", "expected"),
    [(10, 4, [4, 4, 2]), (8, 4, [4, 4, 0]), (3, 4, [3]), (3, 1, [1, 1, 1, 0])],
)
def test_a_unit_holds_so_many_images(
    tmp_path: Path, count: int, unit_images: int, expected: list[int]
) -> None:
    shard = write_shard(tmp_path / "aerial" / "a.tar", images(0, count))
    units = read(shard, unit_images=unit_images)
    assert sizes(units) == expected
    members = [row["member"] for _, rows in units for row in rows]
    assert members == [f"{i:04d}.jpg" for i in range(count)]


def test_a_unit_holds_so_many_bytes(tmp_path: Path) -> None:
    entries = [(f"{i}.jpg", b"x" * size) for i, size in enumerate([600, 500, 2000, 10, 10])]
    units = read(write_shard(tmp_path / "a.tar", entries), unit_bytes=1000)
    assert sizes(units) == [2, 1, 2]
    assert [head.num_listed for head, _ in units] == [2, 1, 2]


def test_a_row_has_the_source_fields(tmp_path: Path) -> None:
    sidecar = {"bbox": [1, 2, 3, 4], "gsd": 10, "datetime": "2026-01-01T00:00:00Z", "note": "x"}
    shard = write_shard(tmp_path / "a.tar", [("a.jpg", jpeg(1)), ("a.json", sidecar)])
    ((_, (row,)),) = read(shard)
    assert row["bbox"] == {"west": 1.0, "south": 2.0, "east": 3.0, "north": 4.0}
    assert row["gsd"] == 10.0
    assert row["datetime"].isoformat() == "2026-01-01T00:00:00+00:00"
    assert row["metadata"] == '{"note": "x"}'
    assert (row["data"], row["failure"]) == (jpeg(1), None)
    assert (row["byte_length"], row["shard_etag"]) == (len(jpeg(1)), shard.etag)


def test_images_with_a_row_are_skipped(tmp_path: Path, where: TableLocation) -> None:
    shard = write_shard(tmp_path / "aerial" / "a.tar", images(0, 10))
    done = [good_row(f"{i:04d}.jpg") for i in (0, 1, 2, 3, 7)]
    # Another shard with a member of the same name has no effect.
    table = make_table(where, [*done, good_row("0005.jpg", shard="b.tar")])
    units = read(shard, unit_images=4, table=where, version=table.version)
    members = [row["member"] for _, rows in units for row in rows]
    assert members == [f"{i:04d}.jpg" for i in (4, 5, 6, 8, 9)]
    assert sum(head.num_listed for head, _ in units) == 10
    assert sum(head.num_skipped for head, _ in units) == 5


def test_a_finished_shard_still_reports_its_listed_images(
    tmp_path: Path, where: TableLocation
) -> None:
    shard = write_shard(tmp_path / "aerial" / "a.tar", images(0, 5))
    table = make_table(where, [good_row(f"{i:04d}.jpg") for i in range(5)])
    ((head, rows),) = read(shard, unit_images=2, table=where, version=table.version)
    assert (head.num_listed, head.num_skipped, rows) == (5, 5, [])


def test_a_run_sees_the_version_that_it_started_from(tmp_path: Path, where: TableLocation) -> None:
    shard = write_shard(tmp_path / "aerial" / "a.tar", images(0, 2))
    table = make_table(where, [good_row("0000.jpg")], [good_row("0001.jpg")])
    ((head, rows),) = read(shard, table=where, version=table.version - 1)
    assert [row["member"] for row in rows] == ["0001.jpg"]
    assert head.num_skipped == 1


def table_row(row: dict[str, Any], **more: Any) -> dict[str, Any]:
    """Return the table row for a sample that was read from a shard."""
    make = good_row if row["failure"] is None else failed_row
    same = {name: row[name] for name in ("image_id", "content_sha256", "shard_etag")}
    return make(row["member"], **same, **more)


def test_the_failed_row_of_a_repaired_shard_is_removed(
    tmp_path: Path, where: TableLocation
) -> None:
    """A failed row stands for the truncated end of a shard.

    The complete shard has no such image.
    """
    root = write_archive(tmp_path / "aerial", {"a.tar": cut_tar(images(0, 4))})
    (shard,) = discover([str(root)])
    rows = [row for _, unit in read(shard) for row in unit]
    table = make_table(where, [table_row(row) for row in rows])
    again = read(shard, table=where, version=table.version)
    assert (sizes(again), again[0][0].removes) == ([0], ())
    write_archive(root, {"a.tar": images(0, 4)})
    (whole,) = discover([str(root)])
    units = read(whole, table=where, version=table.version)
    assert [row["member"] for _, unit in units for row in unit] == ["0003.jpg"]
    (marker,) = [row["image_id"] for row in rows if row["member"] == ""]
    assert [head.removes for head, _ in units] == [(marker,)]


@pytest.mark.parametrize("name", bad_shards(0))
def test_a_shard_that_cannot_be_read_ends_in_one_failed_sample(tmp_path: Path, name: str) -> None:
    content, reason, num_before = bad_shards(0)[name]
    (shard,) = discover([str(write_archive(tmp_path / "aerial", {name: content}))])
    rows = [row for _, rows in read(shard, unit_images=2) for row in rows]
    assert [row["failure"] is None for row in rows] == [True] * num_before + [False]
    failed = rows[-1]
    assert (failed["failure"]["stage"], failed["failure"]["reason"]) == ("read", reason)
    assert (failed["member"], failed["data"], failed["shard"]) == ("", None, name)


def test_a_member_that_is_too_large_fails_alone(tmp_path: Path) -> None:
    entries = [("a.jpg", b"x" * 100), ("b.jpg", b"x" * 5000), ("c.jpg", b"x" * 100)]
    shard = write_shard(tmp_path / "a.tar", entries)
    ((_, rows),) = read(shard, limits=ReadLimits(max_member_bytes=1000))
    assert [row["failure"] and row["failure"]["reason"] for row in rows] == [
        None,
        "member_too_large",
        None,
    ]


def test_a_shard_without_images_reports_nothing_listed(tmp_path: Path) -> None:
    ((head, rows),) = read(write_shard(tmp_path / "a.tar", [("notes.md", b"hello")]))
    assert (head.num_listed, head.num_skipped, rows) == (0, 0, [])


def test_the_last_unit_has_the_ignored_files(tmp_path: Path) -> None:
    entries = [*images(0, 3), ("notes.md", "x"), (".hidden.jpg", b"x"), ("alone.json", "{}")]
    units = read(write_shard(tmp_path / "a.tar", entries), unit_images=2)
    assert [dict(head.ignored) for head, _ in units] == [{}, {".md": 1, "hidden": 1, "sidecar": 1}]


def test_a_link_to_an_image_is_a_row_and_any_other_a_failed_one(tmp_path: Path) -> None:
    (name, data) = images(0, 1)[0]
    links = [link("twin.jpg", name), link("lost.jpg", "/elsewhere.jpg")]
    shard = write_shard(tmp_path / "a.tar", make_tar([*links, (name, data)]))
    rows = rows_by_member(read(shard))
    assert (rows["twin.jpg"]["data"], rows["twin.jpg"]["failure"]) == (data, None)
    for column in ("content_sha256", "byte_offset", "byte_length"):
        assert rows["twin.jpg"][column] == rows[name][column]
    assert rows["lost.jpg"]["failure"]["reason"] == "link_without_target"


def test_a_batch_may_hold_several_shards(tmp_path: Path) -> None:
    root = write_archive(tmp_path / "aerial", {"a.tar": images(0, 2), "b.tar": images(2, 1)})
    reader = ShardReader(9, MANY, ReadLimits(), TableLocation.parse("table"), None)
    shards = discover([str(root)])
    batch = pa.Table.from_pylist([shard_row(shard, ()) for shard in shards])
    units = [unpack(unit) for unit in reader(batch)]
    assert [(head.shard, samples.num_rows) for head, samples in units] == [
        ("a.tar", 2),
        ("b.tar", 1),
    ]


def rows_by_member(units: list[Unit]) -> dict[str, dict[str, Any]]:
    return {row["member"]: row for _, rows in units for row in rows}


def write_changed(
    tmp_path: Path, where: TableLocation, **rows: dict[str, Any]
) -> tuple[Shard, int]:
    """Make a table of four images in a shard, and then change the bytes of the second image.

    Returns:
        The changed shard, and the version of the table.
    """
    root = write_archive(tmp_path / "aerial", {"a.tar": images(0, 4)})
    (shard,) = discover([str(root)])
    samples = [row for _, unit in read(shard, table=where) for row in unit]
    made = [table_row(row, unit_id="of-before") for row in samples]
    for row in made:
        row |= rows.get(row["member"].removesuffix(".jpg"), {})
    version = make_table(where, made).version
    entries = images(0, 4)
    entries[1] = ("0001.jpg", jpeg(99))
    write_archive(root, {"a.tar": entries})
    (shard,) = discover([str(root)])
    return shard, version


def failure(attempts: int) -> dict[str, Any]:
    why = {"stage": "caption", "reason": "no_good_variant", "detail": "", "attempts": attempts}
    return {"status": "failed", "failure": why}


def test_an_image_whose_bytes_changed_replaces_its_row(
    tmp_path: Path, where: TableLocation
) -> None:
    shard, version = write_changed(tmp_path, where)
    units = read(shard, table=where, version=version)
    assert [head.num_skipped for head, _ in units] == [3]
    ((_, (row,)),) = units
    old = ImagesTable.open(where).units_of([row["image_id"]])
    assert row["member"] == "0001.jpg"
    assert row["replaces_unit"] == old[row["image_id"]]
    assert row["earlier_attempts"] == 0
    assert row["content_sha256"] == hashlib.sha256(jpeg(99)).hexdigest()


def test_a_new_image_replaces_nothing(tmp_path: Path, where: TableLocation) -> None:
    shard = write_shard(tmp_path / "aerial" / "a.tar", images(0, 1))
    ((_, (row,)),) = read(shard, table=where)
    assert (row["replaces_unit"], row["earlier_attempts"]) == (None, None)
    assert row["content_sha256"] == hashlib.sha256(jpeg(0)).hexdigest()


def test_an_image_that_cannot_be_read_any_more_keeps_its_row(
    tmp_path: Path, where: TableLocation
) -> None:
    shard, version = write_changed(tmp_path, where)
    units = read(shard, table=where, version=version, limits=ReadLimits(max_member_bytes=100))
    assert [(head.num_listed, head.num_skipped) for head, _ in units] == [(4, 4)]
    assert rows_by_member(units) == {}


def test_failed_images_are_left_to_a_retry(tmp_path: Path, where: TableLocation) -> None:
    shard, version = write_changed(tmp_path, where, **{"0002": failure(1)})
    assert list(rows_by_member(read(shard, table=where, version=version))) == ["0001.jpg"]


def test_a_retry_reads_only_failed_images(tmp_path: Path, where: TableLocation) -> None:
    tried = {"0001": failure(1), "0002": failure(2), "0003": failure(3)}
    shard, version = write_changed(tmp_path, where, **tried)
    root = tmp_path / "aerial"
    write_archive(root, {"a.tar": [*images(0, 1), ("0001.jpg", jpeg(99)), *images(2, 3)]})
    (shard,) = discover([str(root)])
    units = read(shard, table=where, version=version, select="failed")
    # 0004.jpg is new. This image is not in the work list, and a later run describes the image.
    assert [(head.num_listed, head.num_skipped) for head, _ in units] == [(4, 2)]
    found = rows_by_member(units)
    assert {name: row["earlier_attempts"] for name, row in found.items()} == {
        # The new bytes have not been tried.
        "0001.jpg": 0,
        "0002.jpg": 2,
    }
    old = ImagesTable.open(where).units_of([row["image_id"] for row in found.values()])
    assert all(row["replaces_unit"] == old[row["image_id"]] for row in found.values())
    more = read(shard, table=where, version=version, select="failed", max_attempts=4)
    assert list(rows_by_member(more)) == ["0001.jpg", "0002.jpg", "0003.jpg"]
    # An image is not retried after ``max_attempts`` failures.
    less = read(shard, table=where, version=version, select="failed", max_attempts=1)
    assert rows_by_member(less) == {}


def test_a_retry_reports_repaired_shards(tmp_path: Path, where: TableLocation) -> None:
    shard = write_shard(tmp_path / "aerial" / "a.tar", images(0, 2))
    ((_, samples),) = read(shard, table=where)
    rows = [table_row(row) for row in samples]
    rows += [good_row("gone.jpg"), failed_row("lost.jpg"), failed_row("", image_id="0" * 32)]
    version = make_table(where, rows).version
    ((head, again),) = read(shard, table=where, version=version, select="failed")
    assert (head.num_listed, head.num_skipped, again) == (2, 2, [])
    assert head.removes == ("0" * 32,)


def test_without_known_rows_the_table_is_not_read(
    tmp_path: Path, where: TableLocation, monkeypatch: pytest.MonkeyPatch
) -> None:
    def looked(*_: object) -> None:
        pytest.fail("the table was opened")

    shard = write_shard(tmp_path / "aerial" / "a.tar", images(0, 2))
    monkeypatch.setattr(ImagesTable, "open", looked)
    assert sizes(read(shard, table=where, version=1, has_rows=False)) == [2]


def test_a_reader_writes_the_manifest_of_a_complete_shard(
    tmp_path: Path, where: TableLocation, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("skytext.run.stages.read_shards._MEMBERS_A_TABLE", 2)
    shard = write_shard(tmp_path / "aerial" / "a.tar", [*images(0, 4), ("bad.jpg", b"")])
    units = read(shard, table=where, unit_images=2)
    kept = read_manifest(where, shard.archive, shard.path)
    assert kept is not None
    assert (kept.etag, kept.num_bytes) == (shard.etag, shard.size_bytes)
    assert kept.num_units == len(units)
    names = ["member", "image_id", "content_sha256", "byte_offset", "byte_length"]
    samples = [row for _, rows in units for row in rows]
    assert kept.members.select(names).to_pylist() == [{n: row[n] for n in names} for row in samples]
    # The manifest is written before any row, so a killed run leaves no wrong state.
    assert ImagesTable.find(where) is None


def test_a_stopped_reader_writes_no_manifest(
    tmp_path: Path, where: TableLocation, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("skytext.run.control.stop_flag._LOOK_EVERY_S", 0)
    shard = write_shard(tmp_path / "aerial" / "a.tar", images(0, 9))
    stop = StopFlag(where, "run")
    reader = ShardReader(2, MANY, ReadLimits(), where, None, stop=stop)
    units = reader.units(shard)
    assert unpack(next(units))[1].num_rows == 2
    StopFlag(where, "run").raise_()
    # An incomplete unit is left to the next run.
    assert list(units) == []
    assert read_manifest(where, shard.archive, shard.path) is None
    stop.lower()
    # Another run of the same table does not see the stop flag.
    other = ShardReader(2, MANY, ReadLimits(), where, None, stop=StopFlag(where, "other"))
    assert sum(unpack(unit)[1].num_rows for unit in other.units(shard)) == 9


def test_a_later_pass_reads_only_put_off_images(tmp_path: Path, where: TableLocation) -> None:
    root = write_archive(tmp_path / "aerial", {"a.tar": images(0, 6)})
    (shard,) = discover([str(root)])
    first = read(shard, table=where)
    put_off = {row["image_id"] for row in first[0][1][2:4]}
    manifest = read_manifest(where, shard.archive, shard.path)
    reader = ShardReader(9, MANY, ReadLimits(), where, None, only=frozenset(put_off))
    ((head, samples),) = [unpack(unit) for unit in reader.units(shard)]
    assert samples.to_pylist() == first[0][1][2:4]
    # The manifest of the first pass has not changed, and the unit has a new id.
    assert read_manifest(where, shard.archive, shard.path) == manifest
    assert head.unit_id != first[0][0].unit_id


def test_a_later_pass_leaves_the_row_of_a_damaged_tail_alone(
    tmp_path: Path, where: TableLocation
) -> None:
    (tmp_path / "aerial").mkdir()
    (tmp_path / "aerial" / "a.tar").write_bytes(cut_tar(images(0, 4)))
    (shard,) = discover([str(tmp_path / "aerial")])
    rows = [row for _, samples in read(shard, table=where) for row in samples]
    (marker,) = [row for row in rows if row["member"] == ""]
    committed = [
        failed_row("", image_id=marker["image_id"], archive=shard.archive, shard=shard.path)
    ]
    version = make_table(where, committed).version
    only = frozenset({rows[0]["image_id"]})
    units = read(shard, table=where, version=version, only=only)
    assert [head.removes for head, _ in units] == [()]


def test_unit_ids_are_unique_across_runs(tmp_path: Path, where: TableLocation) -> None:
    root = write_archive(tmp_path / "aerial", {"a.tar": images(0, 4), "b.tar": images(4, 4)})
    names: list[str] = []
    for run in ("run1", "run2"):
        for shard in discover([str(root)]):
            units = read(shard, table=where, unit_images=2, run_id=run)
            names += [head.unit_id for head, _ in units]
    assert len(set(names)) == len(names) == 2 * 2 * 3
    # A second read gives the same ids. Ray reads a shard again after the crash of a worker.
    (first, _) = discover([str(root)])
    again = read(first, table=where, unit_images=2, run_id="run1")
    assert [head.unit_id for head, _ in again] == names[:3]
    assert image_id("aerial", "a.tar", "", 0) in names[0]


def breaking_off(monkeypatch: pytest.MonkeyPatch, at_byte: int) -> None:
    """Make reads of local files fail if they go beyond a byte position."""
    original = local.LocalStore.open_ranged

    def open_ranged(*arguments: Any) -> RangedFile:
        file = original(*arguments)
        fetch = file._fetch

        def broken(offset: int, length: int) -> bytes:
            if offset + length > at_byte:
                raise OSError("it broke off")
            return fetch(offset, length)

        file._fetch = broken
        return file

    window = Window(512, 512)
    monkeypatch.setattr("skytext.archive.formats.tar.STREAMING", window)
    monkeypatch.setattr(local.LocalStore, "open_ranged", open_ranged)


def test_an_interrupted_shard_is_unread(
    tmp_path: Path, where: TableLocation, monkeypatch: pytest.MonkeyPatch
) -> None:
    pairs = [[image, (f"{image[0][:4]}.txt", "")] for image in images(0, 6)]
    shard = write_shard(tmp_path / "aerial" / "a.tar", itertools.chain.from_iterable(pairs))
    whole = read(shard, table=where, unit_images=2)
    (path,) = Path(where.uri, "state", "manifest").rglob("*.parquet")
    path.unlink()
    rows = [failed_row("", image_id="0" * 32), good_row("gone.jpg"), good_row("0000.jpg")]
    version = make_table(where, rows).version
    at_byte = whole[0][1][-1]["byte_offset"] * 2
    with monkeypatch.context() as patch:
        breaking_off(patch, at_byte)
        units = read(shard, table=where, unit_images=2)
        *_, (last, _) = read(shard, table=where, version=version, unit_images=2)
    assert "a.tar was not read to its end: it broke off" in units[-1][0].fault
    assert [head.fault for head, _ in units[:-1]] == [""] * (len(units) - 1)
    # The units before the fault are the same as without a fault.
    assert units[0] == whole[0]
    came = [row for _, rows in units for row in rows]
    assert all(row["failure"] is None for row in came)
    assert 2 <= len(came) < 6
    # The images after the fault are unknown, so no manifest is written and no row is removed.
    assert not list(Path(where.uri, "state", "manifest").rglob("*.parquet"))
    assert last.fault
    assert last.removes == ()


def test_an_undelivered_file_makes_its_folder_unread(
    tmp_path: Path, where: TableLocation, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = write_archive(tmp_path / "aerial", dict(images(0, 6)))
    (shard,) = discover([str(root)])
    whole = read(shard, table=where, unit_images=2)
    original = local.LocalStore.read_range

    def read_range(self: Any, location: Any, *more: Any) -> bytes:
        if location.name == "0002.jpg":
            raise OSError("no answer")
        return original(self, location, *more)

    monkeypatch.setattr(local.LocalStore, "read_range", read_range)
    units = read(shard, table=where, unit_images=2)
    # The other units are the same as without the fault.
    assert [[row["member"] for row in rows] for _, rows in units] == [
        ["0000.jpg", "0001.jpg"],
        ["0003.jpg"],
        ["0004.jpg", "0005.jpg"],
        [],
    ]
    assert [head.unit_id for head, _ in units] == [head.unit_id for head, _ in whole]
    *before, last = [head.fault for head, _ in units]
    # Only one unit reports the fault, because each reported fault counts as an unread shard.
    assert before == ["", "", ""]
    assert "0002.jpg was not read: no answer" in last


def test_an_unread_image_is_described_when_its_bytes_arrive(
    tmp_path: Path, where: TableLocation
) -> None:
    """Skytext 0.1 wrote failed rows for images after a store fault."""
    shard = write_shard(tmp_path / "aerial" / "a.tar", images(0, 2))
    why = {"stage": "read", "reason": "shard_unreadable", "detail": "", "attempts": 3}
    version = make_table(where, [failed_row("0000.jpg", content_sha256=None, failure=why)]).version
    ((_, rows),) = read(shard, table=where, version=version)
    assert [(row["member"], row["earlier_attempts"]) for row in rows] == [
        ("0000.jpg", 0),
        ("0001.jpg", None),
    ]


def test_a_folder_with_one_file_more_is_read_for_that_file_only(
    tmp_path: Path, where: TableLocation, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = write_archive(tmp_path / "aerial", dict(images(0, 4)))
    (shard,) = discover([str(root)])
    rows = [table_row(row) for _, unit in read(shard, table=where) for row in unit]
    for row in rows:
        row["shard"] = "./"
    version = make_table(where, rows).version
    (root / "new.jpg").write_bytes(jpeg(7))
    asked: list[str] = []
    original = local.LocalStore.read_range

    def read_range(self: Any, location: Any, *more: Any) -> bytes:
        asked.append(location.name)
        return original(self, location, *more)

    monkeypatch.setattr(local.LocalStore, "read_range", read_range)
    (shard,) = discover([str(root)])
    ((head, found),) = read(shard, table=where, version=version)
    assert asked == ["new.jpg"]
    assert [row["member"] for row in found] == ["new.jpg"]
    assert (head.num_listed, head.num_skipped) == (5, 4)
    manifest = read_manifest(where, "aerial", "./")
    assert manifest is not None
    assert manifest.members.column("content_sha256").null_count == 0
    assert manifest.etag == shard.etag
