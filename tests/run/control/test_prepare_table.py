"""Test the first step of a run. The tests call this step directly, without a Ray worker."""

from __future__ import annotations

import datetime as dt
import hashlib
import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from skytext.archive import ReadLimits, Shard, discover
from skytext.errors import CommitConflictError, TableError, TableHeldError
from skytext.run.control.prepare_table import Prepared, _prepare
from skytext.run.stages.read_shards import ShardReader
from skytext.run.worklist import PlanOptions
from skytext.table.commits.claim import Claim, Holder, hold
from skytext.table.commits.stage_rows import (
    data_files,
    forget_records,
    read_records,
    staged_unit_ids,
)
from skytext.table.images_dataset import ImagesTable
from skytext.table.location import TableLocation
from skytext.table.runs_dataset import RunRecord, last_runs
from skytext.table.store.state_files import StateStore
from tests.archives import images, write_archive
from tests.table.rows import (
    committer,
    good_row,
    good_rows,
    location,
    make_old,
    make_table,
    stage,
    text_column,
)

RUN = RunRecord("run", "caption", "started", dt.datetime(2026, 1, 1, tzinfo=dt.UTC))
OPTIONS = PlanOptions(caption_fingerprint="c" * 32)
OURS = {"caption_fingerprint": "c" * 32, "embedding_fingerprint": "f" * 32}


@pytest.fixture
def where(tmp_path: Path) -> TableLocation:
    return location(tmp_path / "table")


@pytest.fixture
def shards(tmp_path: Path) -> list[Shard]:
    return discover([str(write_archive(tmp_path / "aerial", {"a.tar": images(0, 3)}))])


@pytest.fixture
def claim(where: TableLocation) -> Iterator[Claim]:
    with hold(where, "run", "caption") as claim:
        yield claim


def prepared(claim: Claim, shards: list[Shard], **more: Any) -> Prepared:
    arguments: dict[str, Any] = {"column": text_column(), "options": OPTIONS, "run": RUN}
    found, described = _prepare(claim, shards=tuple(shards), **{**arguments, **more})
    assert described.dtype == "S16"
    return found


def described_rows() -> list[dict[str, Any]]:
    """Return a row for every image of the shard."""
    return [
        good_row(name, content_sha256=hashlib.sha256(data).hexdigest())
        for name, data in images(0, 3)
        if isinstance(data, bytes)
    ]


def read(where: TableLocation, shards: list[Shard]) -> None:
    for shard in shards:
        list(ShardReader(9, 10**9, ReadLimits(), where, None).units(shard))


def forget_all(where: TableLocation) -> None:
    forget_records(where, read_records(where, staged_unit_ids(where)))


def test_a_first_run_starts_from_nothing(
    claim: Claim, shards: list[Shard], where: TableLocation
) -> None:
    found = prepared(claim, shards)
    assert found.version is None
    assert [plan.must_read for plan in found.shards] == [True]
    # The run is recorded before its work starts.
    assert last_runs(where, 9) == [RUN]


def test_a_run_with_nothing_to_do_is_not_recorded(
    claim: Claim, shards: list[Shard], where: TableLocation
) -> None:
    version = make_table(where, described_rows()).version
    forget_all(where)
    read(where, shards)
    found = prepared(claim, shards)
    assert (found.version, [plan.must_read for plan in found.shards]) == (version, [False])
    assert last_runs(where, 9) == []
    assert ImagesTable.open(where).version == version


def test_staged_units_count_as_done(
    claim: Claim, shards: list[Shard], where: TableLocation
) -> None:
    """Staged units are adopted before the rows are compared."""
    read(where, shards)
    stage(where, described_rows(), **OURS)
    found = prepared(claim, shards)
    assert (found.version, found.adoption.num_adopted) == (1, 3)
    assert [plan.must_read for plan in found.shards] == [False]


def test_after_a_dead_run_the_fence_is_raised_and_its_files_are_removed(
    shards: list[Shard], where: TableLocation
) -> None:
    make_table(where, good_rows(0, 2))
    forget_all(where)
    dead, late = committer(where), stage(where, good_rows(5, 1))
    orphan = stage(where, good_rows(7, 1))
    forget_records(where, [late, orphan])
    make_old(where, late, orphan)
    taken = Claim(where, 1, took_over=True)
    StateStore(where).put("claim/00000001.json", b"{}")
    version = ImagesTable.open(where).version
    found = prepared(taken, shards)
    assert found.version == version + 1
    left = {path.name for path in Path(where.uri, "images.lance", "data").glob("*")}
    assert not left & {*data_files(orphan), *data_files(late)}
    with pytest.raises(CommitConflictError):
        dead.commit([late])
    assert ImagesTable.open(where).num_rows() == 2


def test_after_a_released_claim_nothing_is_rewritten(
    claim: Claim, shards: list[Shard], where: TableLocation
) -> None:
    version = make_table(where, good_rows(0, 2)).version
    forget_all(where)
    # The files are from another writer. Nothing shows that they are left over from a dead run.
    orphan = stage(where, good_rows(7, 1))
    forget_records(where, [orphan])
    assert prepared(claim, shards).version == version
    assert Path(where.uri, "images.lance", "data", data_files(orphan)[0]).exists()


def test_a_run_without_its_claim_changes_nothing(shards: list[Shard], where: TableLocation) -> None:
    """The holder was paused. Meanwhile another run took over the table and ended."""
    make_table(where, good_rows(0, 2))
    forget_all(where)
    unit = stage(where, good_rows(5, 1), **OURS)
    version = ImagesTable.open(where).version
    holder = json.dumps(asdict(Holder.this_process("other", "caption"))).encode()
    for number in (1, 2):
        StateStore(where).put(f"claim/{number:08d}.json", holder)
    for took_over in (True, False):
        with pytest.raises(TableHeldError):
            prepared(Claim(where, 1, took_over), shards)
    assert ImagesTable.open(where).version == version
    assert staged_unit_ids(where) == [unit.unit_id]
    assert last_runs(where, 9) == []
    # The other run adopts the unit.
    assert prepared(Claim(where, 2, took_over=False), shards).adoption.num_adopted == 1


@pytest.mark.parametrize("took_over", [True, False])
def test_another_embedder_changes_nothing(
    shards: list[Shard], where: TableLocation, took_over: bool
) -> None:
    """After the plan was made, the table was created with another embedding model."""
    version = make_table(where, good_rows(0, 2)).version
    forget_all(where)
    unit = stage(where, good_rows(5, 1), **OURS)
    StateStore(where).put("claim/00000001.json", b"{}")
    other = text_column("other", "0" * 32)
    with pytest.raises(TableError, match="would use 'other'"):
        prepared(Claim(where, 1, took_over), shards, column=other)
    assert ImagesTable.open(where).version == version
    assert staged_unit_ids(where) == [unit.unit_id]
