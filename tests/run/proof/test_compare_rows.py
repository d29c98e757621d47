from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from skytext.archive import Shard
from skytext.run.proof.compare_rows import Proof, Question, ShardMet, _prove, prove
from skytext.table.id_sums import hash_bytes, id_sum
from skytext.table.images_dataset import ImagesTable
from skytext.table.location import TableLocation
from skytext.table.shards.manifest import MANIFEST, Manifest, read_manifest, write_manifest
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


SHARD = Shard("aerial", "file:///x/a.tar", "a.tar", 900, "e")


def member(name: str) -> dict[str, Any]:
    return {"image_id": good_row(name)["image_id"], "member": name}


def keep(where: TableLocation, names: Sequence[str], **more: Any) -> None:
    members = pa.Table.from_pylist([member(name) for name in names], schema=MANIFEST)
    fields = {"etag": "e", "num_bytes": 900, "num_units": 2, "members": members} | more
    write_manifest(where, "aerial", "a.tar", Manifest(**fields))


def check(where: TableLocation, version: int, met: ShardMet, **more: Any) -> Proof:
    return _prove(Question(where, version, None, "c" * 32, **more), [met], [])


NAMES = ["00000.jpg", "00001.jpg", "00002.jpg"]
MET = ShardMet(SHARD, 3, 2)


def test_rows_that_are_all_there_are_counted(where: TableLocation) -> None:
    stale = good_row("x.jpg", shard="b.tar", caption_fingerprint="s" * 32)
    version = make_table(where, [*good_rows(0, 2), failed_row("00002.jpg"), stale]).version
    keep(where, NAMES)
    assert check(where, version, MET) == Proof(Counter(ok=2, failed=1), num_stale=1)


def test_rows_of_images_that_are_gone_are_counted_apart(where: TableLocation) -> None:
    version = make_table(where, [*good_rows(0, 4), failed_row("lost.jpg")]).version
    keep(where, NAMES)
    assert check(where, version, MET) == Proof(Counter(ok=3), num_gone=2)


def test_an_image_without_a_row_is_named_by_its_shard(where: TableLocation) -> None:
    """The error is found even if the number of rows is correct."""
    version = make_table(where, [*good_rows(0, 2), good_row("gone.jpg")]).version
    keep(where, NAMES)
    assert check(where, version, MET).wrong == ["a.tar: 1 of 3 images have no row"]


def test_an_image_with_two_rows_is_counted(where: TableLocation) -> None:
    version = make_table(where, good_rows(0, 3), good_rows(1, 1)).version
    keep(where, NAMES)
    assert check(where, version, MET).num_double == 1


def test_rows_of_another_archive_are_ignored(where: TableLocation) -> None:
    version = make_table(where, [good_row(name, archive="orbital") for name in NAMES]).version
    keep(where, NAMES)
    assert check(where, version, MET).wrong == ["a.tar: 3 of 3 images have no row"]


@pytest.mark.parametrize(
    ("met", "manifest", "words"),
    [
        (ShardMet(SHARD, 2, 2), {}, "it has 3 images, but 2 were received"),
        (ShardMet(SHARD, 3, 1), {}, "2 units were made, but 1 were received"),
        (MET, {"num_bytes": 512}, "512 of 900 bytes were read"),
    ],
)
def test_a_manifest_that_disagrees_is_not_accepted_as_proof(
    where: TableLocation, met: ShardMet, manifest: dict[str, Any], words: str
) -> None:
    version = make_table(where, good_rows(0, 3)).version
    keep(where, NAMES, **manifest)
    assert check(where, version, met).wrong == [f"a.tar: {words}"]
    # The manifest was deleted, so the next run reads the shard again.
    assert read_manifest(where, "aerial", "a.tar") is None


def test_a_damaged_shard_or_a_changed_folder_need_not_be_read_whole(where: TableLocation) -> None:
    version = make_table(where, [*good_rows(0, 2), failed_row("", image_id="0" * 32)]).version
    marker = {"image_id": "0" * 32, "member": ""}
    members = pa.Table.from_pylist([*map(member, NAMES[:2]), marker], schema=MANIFEST)
    keep(where, [], num_bytes=512, members=members)
    assert check(where, version, MET).wrong == []
    version = make_table(location(Path(f"{where.uri}2")), good_rows(0, 3)).version
    keep(location(Path(f"{where.uri}2")), NAMES, num_bytes=512, etag="another")
    assert check(location(Path(f"{where.uri}2")), version, MET).wrong == []


def test_a_shard_without_a_manifest_is_not_proven(where: TableLocation) -> None:
    version = make_table(where, good_rows(0, 3)).version
    assert check(where, version, MET).wrong == [
        "a.tar: it has no manifest, because it was not read to its end"
    ]


def test_a_retry_needs_rows_only_where_there_were_some(where: TableLocation) -> None:
    table = make_table(where, good_rows(0, 2))
    keep(where, NAMES)
    question = Question(where, table.version, table.version, "c" * 32, only_rows=True)
    assert _prove(question, [ShardMet(SHARD, 2, 2)], []).wrong == []
    table.dataset.delete("member = '00001.jpg'")
    question = replace(question, version=ImagesTable.open(where).version)
    (wrong,) = _prove(question, [ShardMet(SHARD, 2, 2)], []).wrong
    assert wrong == "a.tar: 1 of 2 images have no row"


def test_shards_in_which_there_was_nothing_to_do_keep_their_rows(where: TableLocation) -> None:
    table = make_table(where, good_rows(0, 3))
    ids = table.rows_by_shard()["aerial", "a.tar"].ids
    question = Question(where, table.version, table.version, "c" * 32)
    assert _prove(question, [], [(SHARD, ids)]).wrong == []
    table.dataset.delete("member = '00001.jpg'")
    question = replace(question, version=ImagesTable.open(where).version)
    assert _prove(question, [], [(SHARD, ids)]).wrong == [
        "a.tar: it had 3 rows at the start of the run, it has 2 rows now"
    ]


def test_a_table_that_is_not_there_proves_only_empty_shards(where: TableLocation) -> None:
    question = Question(where, None, None, "c" * 32)
    assert prove(question, [ShardMet(SHARD, 0, 1)], []) == Proof()
    assert prove(question, [MET], []).wrong == ["a.tar: there is no table"]


def test_two_rows_of_an_image_are_found_in_a_large_table(
    where: TableLocation, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = make_table(where, good_rows(0, 40), good_rows(7, 3))
    assert len(table.double_rows()) == 3
    # The rows are now read in sixteen parts.
    monkeypatch.setattr("skytext.table.images_dataset._ROWS_AT_ONCE", 10)
    assert len(table.double_rows()) == 3
    assert make_table(location(Path(f"{where.uri}2")), good_rows(0, 40)).double_rows() == {}


def test_ids_that_begin_alike_are_two_images(where: TableLocation) -> None:
    rows = [good_row(f"{i}.jpg", image_id="a" * 31 + str(i)) for i in range(2)]
    table = make_table(where, rows, [rows[0]])
    assert list(table.double_rows()) == ["a" * 31 + "0"]
    assert len(table.double_rows()) == 1


def test_two_rows_in_a_shard_in_which_there_was_nothing_to_do_are_counted(
    where: TableLocation,
) -> None:
    table = make_table(where, good_rows(0, 3), good_rows(1, 1))
    ids = id_sum(hash_bytes(pa.array([row["image_id"] for row in good_rows(0, 3)])))
    question = Question(where, table.version, table.version, "c" * 32)
    assert _prove(question, [], [(SHARD, ids)]) == Proof(num_double=1)


def test_the_table_is_scanned_again_only_where_sums_of_ids_differ(
    where: TableLocation, monkeypatch: pytest.MonkeyPatch
) -> None:
    version = make_table(where, good_rows(0, 3), [good_row("x.jpg", shard="b.tar")]).version
    keep(where, NAMES)
    scans: list[list[str]] = []
    scan = ImagesTable._scan

    def count(table: ImagesTable, columns: list[str], **more: Any) -> Iterator[pa.RecordBatch]:
        scans.append(columns)
        return scan(table, columns, **more)

    monkeypatch.setattr(ImagesTable, "_scan", count)
    check(where, version, MET)
    assert len(scans) == 1
    # One additional scan is enough for all shards whose sums differ.
    other = replace(SHARD, path="b.tar")
    members = pa.Table.from_pylist([member(name) for name in NAMES], schema=MANIFEST)
    write_manifest(where, "aerial", "b.tar", Manifest("e", 900, 2, members))
    keep(where, NAMES[:2])
    question = Question(where, version, None, "c" * 32)
    proof = _prove(question, [replace(MET, num_listed=2), ShardMet(other, 3, 2)], [])
    assert (proof.num_gone, proof.wrong) == (2, ["b.tar: 3 of 3 images have no row"])
    assert len(scans) == 3
