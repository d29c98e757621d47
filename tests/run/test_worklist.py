"""Test the planned work for every image of a shard, and the reason for this work."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from numpy.typing import NDArray

from skytext.archive import ReadLimits, Shard, discover, survey
from skytext.errors import StoreFaultError
from skytext.run.stages.read_shards import ShardReader
from skytext.run.units import unpack
from skytext.run.worklist import (
    PlanOptions,
    RowIndex,
    ShardPlan,
    Verdict,
    open_index,
    plan_shards,
)
from skytext.table.id_sums import id_texts
from skytext.table.images_dataset import ImagesTable
from skytext.table.location import TableLocation
from skytext.table.schema import SAMPLE
from tests.archive.formats.tars import Entry, make_tar
from tests.archives import cut_tar, images, jpeg, write_archive
from tests.table.rows import failed_row, good_row, make_table

STALE = "s" * 32
_SAME = ("image_id", "content_sha256", "shard_etag", "byte_offset", "byte_length")
OPTIONS = PlanOptions(caption_fingerprint="c" * 32)
WALKING = PlanOptions(caption_fingerprint="c" * 32, walk_headers=True)


@pytest.fixture
def where(tmp_path: Path) -> TableLocation:
    return TableLocation.parse(str(tmp_path / "table"))


class Archive:
    """An archive of one shard that changes, with its table and its plan."""

    def __init__(self, folder: Path, where: TableLocation) -> None:
        self.root = folder / "aerial"
        self.where = where

    def write(self, content: Sequence[Entry] | bytes) -> Shard:
        write_archive(self.root, {"a.tar": content})
        (shard,) = discover([str(self.root)])
        return shard

    def read(self) -> list[dict[str, Any]]:
        """Read the shard to its end, as a run does. This writes the manifest of the shard."""
        (shard,) = discover([str(self.root)])
        reader = ShardReader(100, 10**9, ReadLimits(), self.where, None)
        rows = []
        for unit in reader.units(shard):
            _, samples = unpack(unit)
            assert samples.schema.equals(SAMPLE)
            rows += samples.to_pylist()
        return rows

    def describe(self, **changes: dict[str, Any]) -> None:
        """Make a table of the shard's images. ``changes`` has other values for some members."""
        rows = []
        for sample in self.read():
            more = changes.pop(sample["member"].removesuffix(".jpg") or "marker", {})
            same = {n: sample[n] for n in _SAME}
            is_bad = sample["failure"] is not None or "failure" in more
            make = failed_row if is_bad else good_row
            rows.append(make(sample["member"], **same) | more)
        assert not changes
        make_table(self.where, rows)

    def plan(self, options: PlanOptions = OPTIONS) -> ShardPlan:
        shards = discover([str(self.root)])
        table = ImagesTable.find(self.where)
        version = None if table is None else table.version
        index = open_index(self.where, version, shards, options)
        (plan,) = plan_shards(self.where, index, shards, options)
        return plan


@pytest.fixture
def archive(tmp_path: Path, where: TableLocation) -> Archive:
    return Archive(tmp_path, where)


def counts(plan: ShardPlan) -> dict[str, int]:
    assert plan.num_listed == sum(plan.counts)
    return {v.name.lower(): n for v, n in zip(Verdict, plan.counts, strict=True) if n}


def failed(attempts: int) -> dict[str, Any]:
    why = {"stage": "caption", "reason": "no_good_variant", "detail": "", "attempts": attempts}
    return {"failure": why, "status": "failed"}


def forget_manifest(where: TableLocation) -> None:
    for path in Path(where.uri, "state", "manifest").rglob("*.parquet"):
        path.unlink()


def test_an_unread_shard_is_read(archive: Archive, where: TableLocation) -> None:
    archive.write(images(0, 3))
    plan = archive.plan()
    assert (plan.is_known, plan.fragments, plan.must_read) == (False, (), True)
    assert plan.num_listed == 0
    # The headers of the shard show the number of its images.
    plan = archive.plan(WALKING)
    assert (plan.is_known, plan.must_read, counts(plan)) == (True, True, {"new": 3})
    # Nothing was written.
    assert not Path(where.uri).exists()


@pytest.mark.parametrize("options", [OPTIONS, WALKING], ids=["run", "plan"])
def test_finished_images_are_known_without_opening_the_shard(
    archive: Archive, options: PlanOptions, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive.write(images(0, 3))
    archive.describe()

    def opened(*_: object) -> None:
        pytest.fail("the shard was opened")

    monkeypatch.setattr("skytext.run.worklist.list_members", opened)
    plan = archive.plan(options)
    assert (plan.is_known, plan.fragments, plan.must_read) == (True, (), False)
    assert counts(plan) == {"done": 3}
    assert (plan.num_listed_ok, plan.num_gone_ok, plan.num_gone_failed) == (3, 0, 0)


def test_stale_rows_are_redone_only_on_request(
    archive: Archive,
) -> None:
    archive.write(images(0, 2))
    archive.describe(**{"0001": {"caption_fingerprint": STALE}})
    assert not archive.plan().must_read
    plan = archive.plan(replace(OPTIONS, redo_stale=True))
    assert (plan.must_read, counts(plan)) == (True, {"stale": 1, "done": 1})


WITHDRAWN = {"status": "withdrawn", "vectors": None, "text": None}


def test_an_image_that_is_back_is_new_and_one_that_is_gone_is_counted_once(
    archive: Archive,
) -> None:
    archive.write(images(0, 4))
    archive.describe(**{"0000": WITHDRAWN})
    plan = archive.plan()
    assert (plan.must_read, counts(plan)) == (True, {"new": 1, "done": 3})
    # The plan has the fragment of the row that is replaced.
    assert plan.fragments == (0,)
    assert len(plan.gone) == 0
    archive.write(images(2, 2))
    archive.read()
    plan = archive.plan()
    assert (plan.must_read, counts(plan), plan.num_gone_ok) == (False, {"done": 2}, 1)
    gone = {row["member"] for row in rows_of_ids(archive.where, plan.gone)}
    assert gone == {"0001.jpg"}


def test_rows_of_shards_that_are_gone_are_known_by_their_ids(archive: Archive) -> None:
    shard = archive.write(images(0, 4))
    archive.describe(**{"0000": WITHDRAWN})
    table = ImagesTable.open(archive.where)
    index = RowIndex(table, [], OPTIONS.caption_fingerprint, frozenset({shard.archive}))
    assert index.gone_shards == {(shard.archive, shard.path): 3}
    found = rows_of_ids(archive.where, np.concatenate(index.gone_ids))
    assert {row["member"] for row in found} == {"0001.jpg", "0002.jpg", "0003.jpg"}


def rows_of_ids(where: TableLocation, ids: NDArray[np.bytes_]) -> list[dict[str, Any]]:
    return ImagesTable.open(where).rows(id_texts(ids), ["member"])


STALE_ROW = {"caption_fingerprint": STALE}
REDO = replace(OPTIONS, redo_stale=True)
RETRY = replace(OPTIONS, retry_failed=True)


@pytest.mark.parametrize(
    ("options", "first", "second", "by_rows"),
    [
        (REDO, STALE_ROW, {}, True),
        (REDO, STALE_ROW, {"failure": failed(1)["failure"]}, True),
        (RETRY, failed(1), STALE_ROW, True),
        # The row has no position, is of an earlier version of the shard, or has no hash.
        (REDO, STALE_ROW | {"byte_offset": None}, {}, False),
        (REDO, STALE_ROW | {"shard_etag": "another"}, {}, False),
        (RETRY, failed(1) | {"content_sha256": None}, {}, False),
        # The positions of other rows do not matter.
        (REDO, STALE_ROW, {"byte_offset": None, "shard_etag": "another"}, True),
        (REDO, {}, {}, False),
    ],
)
def test_images_that_have_a_row_are_fetched_one_by_one(
    archive: Archive,
    options: PlanOptions,
    first: dict[str, Any],
    second: dict[str, Any],
    by_rows: bool,
) -> None:
    archive.write(images(0, 3))
    archive.describe(**{"0000": first, "0001": second})
    plan = archive.plan(options)
    assert (plan.by_rows, plan.num_known) == (by_rows, 3)
    # The new image has no row, so the shard must be read.
    archive.write(images(0, 4))
    archive.read()
    assert not archive.plan(options).by_rows


def test_a_shard_that_the_store_does_not_give_is_to_be_read(
    archive: Archive, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise StoreFaultError("no answer")

    archive.write(images(0, 3))
    monkeypatch.setattr("skytext.run.worklist.list_members", refuse)
    plan = archive.plan(WALKING)
    assert (plan.is_known, plan.must_read, plan.fault) == (False, True, "no answer")


def test_a_failed_row_without_bytes_is_described(archive: Archive) -> None:
    """Skytext 0.1 wrote such failed rows after a store fault."""
    archive.write(images(0, 3))
    archive.describe(**{"0001": failed(3) | {"content_sha256": None}})
    plan = archive.plan()
    assert (plan.must_read, counts(plan)) == (True, {"changed": 1, "done": 2})


def test_uncommitted_images_are_new(archive: Archive) -> None:
    archive.write(images(0, 3))
    archive.read()
    plan = archive.plan()
    assert (plan.is_known, plan.fragments, plan.must_read) == (True, (), True)
    assert counts(plan) == {"new": 3}


def test_every_row_has_its_verdict(archive: Archive) -> None:
    archive.write(images(0, 7))
    archive.describe(
        **{
            "0001": {"caption_fingerprint": STALE},
            "0002": failed(1),
            "0003": {"content_sha256": hashlib.sha256(b"before").hexdigest()},
            # A row without a content hash cannot be compared.
            "0004": {"content_sha256": None},
            "0005": {"content_sha256": hashlib.sha256(b"before").hexdigest(), **failed(3)},
            "0006": {"caption_fingerprint": None},
        }
    )
    plan = archive.plan()
    assert counts(plan) == {"changed": 2, "stale": 1, "failed": 1, "done": 3}
    assert plan.must_read
    assert plan.num_listed_ok == 5


@pytest.mark.parametrize(
    "row", [{"caption_fingerprint": STALE}, failed(1)], ids=["stale", "failed"]
)
def test_reported_images_cause_no_reading(archive: Archive, row: dict[str, Any]) -> None:
    archive.write(images(0, 3))
    archive.describe(**{"0001": row})
    assert not archive.plan().must_read


def test_missing_images_are_counted_and_kept(archive: Archive, where: TableLocation) -> None:
    archive.write(images(0, 5))
    archive.describe(**{"0004": failed(1)})
    archive.write(images(0, 2))
    assert not archive.plan().is_known
    archive.read()
    plan = archive.plan()
    assert counts(plan) == {"done": 2}
    assert (plan.num_gone_ok, plan.num_gone_failed, plan.must_read) == (2, 1, False)


def test_a_shard_that_changed_is_read_again(archive: Archive) -> None:
    archive.write(images(0, 4))
    archive.describe(**{"0002": failed(1)})
    entries = images(0, 5)
    entries[1] = (entries[1][0], jpeg(77))
    del entries[3]
    archive.write(entries)
    plan = archive.plan()
    assert (plan.is_known, plan.fragments, plan.must_read) == (False, (0,), True)
    # Headers list the images, but do not show whether the bytes are the same.
    walked = archive.plan(WALKING)
    assert counts(walked) == {"new": 1, "unsure": 3}
    assert (walked.num_gone_ok, walked.must_read) == (1, True)
    # After the shard was read, the changed image is known.
    archive.read()
    plan = archive.plan()
    assert counts(plan) == {"new": 1, "changed": 1, "failed": 1, "done": 1}
    assert (plan.num_gone_ok, plan.num_listed_ok) == (1, 2)


def test_without_a_manifest_an_unchanged_shard_is_known_by_its_headers(
    archive: Archive, where: TableLocation
) -> None:
    archive.write(images(0, 4))
    archive.describe(**{"0002": failed(1), "0003": {"caption_fingerprint": STALE}})
    forget_manifest(where)
    assert not archive.plan().is_known
    walked = archive.plan(WALKING)
    assert counts(walked) == {"stale": 1, "failed": 1, "done": 2}
    assert not walked.must_read


def test_rewritten_identical_bytes_need_no_work(archive: Archive) -> None:
    """A copy of an archive has other dates, and therefore other etags."""
    before = archive.write(images(0, 3))
    archive.describe()
    os.utime(archive.root / "a.tar", (1, 1))
    (after,) = discover([str(archive.root)])
    assert before.etag != after.etag
    assert not archive.plan().is_known
    archive.read()
    assert counts(archive.plan()) == {"done": 3}


def test_a_shard_cut_off_keeps_its_marker_until_it_can_be_read(archive: Archive) -> None:
    archive.write(cut_tar(images(0, 4)))
    archive.describe()
    plan = archive.plan()
    assert counts(plan) == {"failed": 1, "done": 3}
    assert not plan.must_read
    archive.write(images(0, 4))
    # This is the state if another run has read the shard and was killed before its commit. The
    # marker still exists.
    archive.read()
    plan = archive.plan()
    assert counts(plan) == {"new": 1, "done": 3}
    assert (plan.must_read, plan.num_gone_failed) == (True, 1)


def test_a_row_for_a_damaged_shard_causes_a_read(archive: Archive, where: TableLocation) -> None:
    archive.write(images(0, 2))
    rows = [
        good_row(s["member"], image_id=s["image_id"], content_sha256=s["content_sha256"])
        for s in archive.read()
    ]
    make_table(where, [*rows, failed_row("", image_id="0" * 32, reason="shard_truncated")])
    plan = archive.plan()
    assert (counts(plan), plan.num_gone_failed, plan.must_read) == ({"done": 2}, 1, True)


@pytest.mark.parametrize(
    ("attempts", "max_attempts", "must_read"), [(1, 3, True), (3, 3, False), (3, 4, True)]
)
@pytest.mark.parametrize("is_known", [True, False])
def test_a_retry_reads_what_may_be_tried_again(
    archive: Archive,
    where: TableLocation,
    attempts: int,
    max_attempts: int,
    must_read: bool,
    is_known: bool,
) -> None:
    archive.write(images(0, 3))
    archive.describe(**{"0001": failed(attempts)})
    if not is_known:
        forget_manifest(where)
    plan = archive.plan(PlanOptions("c" * 32, retry_failed=True, max_attempts=max_attempts))
    assert (plan.is_known, plan.must_read) == (is_known, must_read)


def test_a_retry_reads_nothing_for_an_image_that_is_gone(
    archive: Archive, where: TableLocation
) -> None:
    archive.write(images(0, 2))
    archive.describe(**{"0001": failed(1)})
    assert archive.plan(PlanOptions("c" * 32, retry_failed=True)).must_read
    archive.write(images(0, 1))
    archive.read()
    assert not archive.plan(PlanOptions("c" * 32, retry_failed=True)).must_read


@pytest.mark.parametrize("is_known", [True, False])
def test_a_retry_reads_nothing_new(archive: Archive, where: TableLocation, is_known: bool) -> None:
    archive.write(images(0, 3))
    if is_known:
        archive.read()
    assert not archive.plan(PlanOptions("c" * 32, retry_failed=True)).must_read
    archive.describe()
    assert not archive.plan(PlanOptions("c" * 32, retry_failed=True)).must_read


def test_every_member_is_reported_with_its_verdict(tmp_path: Path, where: TableLocation) -> None:
    write_archive(tmp_path / "aerial", {"a.tar": images(0, 2), "b.tar": images(2, 1)})
    shards = discover([str(tmp_path / "aerial")])
    reported: list[tuple[str, str, str]] = []

    def on_members(shard: Shard, members: pa.Table, verdicts: Any) -> None:
        for member, verdict in zip(members.column("member").to_pylist(), verdicts, strict=True):
            reported.append((shard.path, member, Verdict(verdict).name))

    reader = ShardReader(9, 10**9, ReadLimits(), where, None)
    list(reader.units(shards[0]))
    make_table(where, [good_row("0001.jpg", content_sha256="1" * 64)])
    for options in (OPTIONS, WALKING):
        reported.clear()
        index = open_index(where, 1, shards, options)
        plans = list(plan_shards(where, index, shards, options, on_members))
        assert [plan.shard.path for plan in plans] == ["a.tar", "b.tar"]
        known = [("a.tar", "0000.jpg", "NEW"), ("a.tar", "0001.jpg", "CHANGED")]
        assert reported == known + ([("b.tar", "0002.jpg", "NEW")] if options.walk_headers else [])


def test_shards_of_one_name_in_two_archives_are_two(tmp_path: Path, where: TableLocation) -> None:
    for name in ("aerial", "orbital"):
        write_archive(tmp_path / name, {"a.tar": images(0, 2)})
    shards = discover([str(tmp_path / "aerial"), str(tmp_path / "orbital")])
    reader = ShardReader(9, 10**9, ReadLimits(), where, None)
    for shard in shards:
        list(reader.units(shard))
    rows = [
        good_row(name, archive="orbital", content_sha256=hashlib.sha256(data).hexdigest())
        for name, data in images(0, 2)
        if isinstance(data, bytes)
    ]
    version = make_table(where, rows).version
    plans = list(plan_shards(where, open_index(where, version, shards, OPTIONS), shards, OPTIONS))
    assert [(plan.shard.archive, counts(plan)) for plan in plans] == [
        ("aerial", {"new": 2}),
        ("orbital", {"done": 2}),
    ]


def test_an_index_counts_the_rows_of_shards_that_are_gone(
    tmp_path: Path, where: TableLocation
) -> None:
    write_archive(tmp_path / "aerial", {"a.tar": images(0, 1)})
    found = survey([str(tmp_path / "aerial")])
    assert found.whole_archives == {"aerial"}
    gone = [good_row(f"{i}.jpg", shard="gone.tar") for i in range(3)] + [failed_row("x", shard="b")]
    rows = [*gone, good_row("0000.jpg"), good_row("y", archive="orbital", shard="gone.tar")]
    version = make_table(where, rows).version
    whole = replace(OPTIONS, whole_archives=found.whole_archives)
    index = open_index(where, version, found.shards, whole)
    assert index.gone_shards == {("aerial", "gone.tar"): 3, ("aerial", "b"): 1}
    assert not open_index(where, version, found.shards, OPTIONS).gone_shards
    assert not survey([str(tmp_path / "aerial" / "a.tar")]).whole_archives
    assert not survey([str(tmp_path / "aerial" / "*.tar")]).whole_archives


def test_an_index_knows_all_contents_that_are_described(
    tmp_path: Path, where: TableLocation
) -> None:
    hashes = [hashlib.sha256(bytes([i])).hexdigest() for i in range(5)]
    rows = [
        good_row("a", shard="gone.tar", content_sha256=hashes[0]),
        good_row("b", content_sha256=hashes[1]),
        good_row("c", content_sha256=hashes[1]),
        good_row("d", content_sha256=hashes[2], caption_fingerprint=STALE),
        failed_row("e", content_sha256=hashes[3]),
    ]
    version = make_table(where, rows).version
    index = open_index(where, version, [], OPTIONS)
    expected = sorted(bytes.fromhex(hashes[i])[:16] for i in (0, 1))
    assert [bytes(key) for key in index.described.tolist()] == expected
    assert open_index(where, None, [], OPTIONS).described.tolist() == []


def test_a_shard_in_pieces_is_read_in_one(tmp_path: Path, where: TableLocation) -> None:
    """The plan looks up several groups of shards, one after the other.

    The rows come from two commits.
    """
    contents = {f"{i:03d}.tar": make_tar([(f"{i}.jpg", b"x%d" % i)]) for i in range(70)}
    write_archive(tmp_path / "aerial", contents)
    shards = discover([str(tmp_path / "aerial")])
    reader = ShardReader(9, 10**9, ReadLimits(), where, None)
    rows = []
    for shard in shards:
        for unit in reader.units(shard):
            for sample in unpack(unit)[1].to_pylist():
                same = {n: sample[n] for n in ("image_id", "content_sha256", "shard")}
                rows.append(good_row(sample["member"], **same))
    version = make_table(where, rows[:40], rows[40:69]).version
    plans = list(plan_shards(where, open_index(where, version, shards, OPTIONS), shards, OPTIONS))
    assert [plan.must_read for plan in plans] == [False] * 69 + [True]
    assert [plan.shard for plan in plans] == shards
