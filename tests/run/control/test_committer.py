"""Test commits of groups of units. Tasks run in this process instead of Ray."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from skytext.errors import CommitConflictError, JobError, TableHeldError
from skytext.run.control import committer as commits
from skytext.run.control.committer import RemoteCommitter, commit_units
from skytext.table.commits.claim import Claim, Holder, hold
from skytext.table.commits.stage_rows import (
    data_files,
    delete_files,
    forget_records,
    staged_unit_ids,
)
from skytext.table.images_dataset import ImagesTable
from skytext.table.location import TableLocation
from skytext.table.store.state_files import StateStore
from tests.table.rows import (
    committer,
    failed_row,
    good_row,
    good_rows,
    location,
    make_table,
    stage,
    text_column,
)


@pytest.fixture
def where(tmp_path: Path) -> TableLocation:
    return location(tmp_path / "table")


@pytest.fixture
def claim(where: TableLocation) -> Iterator[Claim]:
    with hold(where, "run", "caption") as claim:
        yield claim


@pytest.fixture
def no_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    """Run tasks immediately in this process."""
    monkeypatch.setattr(commits, "run_on_driver_node", lambda function, *args: function(*args))


def lose(where: TableLocation) -> None:
    """Let another run take over the table."""
    holder = json.dumps(asdict(Holder.this_process("other", "caption"))).encode()
    StateStore(where).put("claim/00000099.json", holder)


def test_a_group_is_committed_and_its_records_are_deleted(
    where: TableLocation, claim: Claim
) -> None:
    units = [stage(where, good_rows(0, 2)), stage(where, good_rows(2, 1))]
    other = stage(where, good_rows(9, 1))
    names = tuple(unit.unit_id for unit in units)
    version = commit_units(where, claim.number, text_column(), None, names)
    assert version == 1
    assert ImagesTable.open(where).num_rows() == 3
    assert staged_unit_ids(where) == [other.unit_id]
    # A committed group is not committed again, because its records are gone.
    assert commit_units(where, claim.number, text_column(), version, names) == version
    with pytest.raises(JobError, match="has no record"):
        commit_units(where, claim.number, text_column(), version, ("never-staged",))
    assert ImagesTable.open(where).num_rows() == 3


def test_nothing_is_committed_without_the_claim(where: TableLocation, claim: Claim) -> None:
    version = make_table(where, good_rows(0, 1)).version
    unit = stage(where, good_rows(1, 1))
    lose(where)
    with pytest.raises(TableHeldError, match="commits nothing more"):
        commit_units(where, claim.number, text_column(), version, (unit.unit_id,))
    assert ImagesTable.open(where).version == version
    # The record is kept for the run that holds the table now.
    assert unit.unit_id in staged_unit_ids(where)


def test_missing_records_after_a_lost_claim_raise_table_held(
    where: TableLocation, claim: Claim
) -> None:
    """The holder was paused, and the next holder has adopted its staged units."""
    version = make_table(where, good_rows(0, 1)).version
    unit = stage(where, good_rows(1, 1))
    lose(where)
    forget_records(where, [unit])
    with pytest.raises(TableHeldError, match=r"the lease of this run on .* expired"):
        commit_units(where, claim.number, text_column(), version, (unit.unit_id,))


def test_a_group_that_conflicts_keeps_its_records(where: TableLocation, claim: Claim) -> None:
    version = make_table(where, good_rows(0, 1)).version
    committer(where).commit([stage(where, good_rows(1, 1))])
    unit = stage(where, good_rows(1, 1))
    with pytest.raises(CommitConflictError):
        commit_units(where, claim.number, text_column(), version, (unit.unit_id,))
    assert unit.unit_id in staged_unit_ids(where)
    assert ImagesTable.open(where).num_rows() == 2


def test_a_unit_without_its_files_is_never_committed(where: TableLocation, claim: Claim) -> None:
    """Rows whose files are gone would break every reader of the table."""
    unit = stage(where, good_rows(0, 1))
    delete_files(where, data_files(unit))
    with pytest.raises(JobError, match="are missing: run the same command again"):
        commit_units(where, claim.number, text_column(), None, (unit.unit_id,))
    assert ImagesTable.find(where) is None


@pytest.mark.usefixtures("no_ray")
def test_small_fragments_are_merged_during_a_run(
    where: TableLocation, claim: Claim, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(commits, "_COMMITS_A_MERGE", 3)
    remote = RemoteCommitter(claim, text_column(), None)
    sizes = []
    for i in range(7):
        remote.commit([stage(where, good_rows(2 * i, 2)).unit_id])
        table = ImagesTable.open(where)
        assert remote.version == table.version
        sizes.append(len(table.dataset.get_fragments()))
    assert sizes == [1, 2, 1, 2, 3, 1, 2]
    assert (table.num_rows(), len(table.double_rows())) == (14, 0)
    # Merged rows are replaced like all other rows.
    row = good_row("00003.jpg")
    replaces = table.units_of([row["image_id"]])
    remote.commit([stage(where, [failed_row("00003.jpg")], replaces=replaces).unit_id])
    assert ImagesTable.open(where).status_counts() == {"ok": 13, "failed": 1, "withdrawn": 0}


@pytest.mark.usefixtures("no_ray")
def test_a_run_without_its_claim_merges_nothing(
    where: TableLocation, claim: Claim, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(commits, "_COMMITS_A_MERGE", 2)
    remote = RemoteCommitter(claim, text_column(), None)
    remote.commit([stage(where, good_rows(0, 2)).unit_id])
    real = commits.commit_units

    def commit_and_lose(*arguments: Any) -> int:
        version = real(*arguments)
        lose(where)
        return version

    monkeypatch.setattr(commits, "commit_units", commit_and_lose)
    with pytest.raises(TableHeldError):
        remote.commit([stage(where, good_rows(2, 2)).unit_id])
    assert ImagesTable.open(where).version == remote.version == 2


@pytest.mark.usefixtures("no_ray")
def test_a_merge_that_fails_is_left_to_the_next_one(
    where: TableLocation, claim: Claim, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(commits, "_COMMITS_A_MERGE", 1)

    def fail(*_: Any) -> int:
        raise JobError("the store refuses")

    monkeypatch.setattr(commits, "merge", fail)
    remote = RemoteCommitter(claim, text_column(), None)
    for i in range(2):
        remote.commit([stage(where, good_rows(i, 1)).unit_id])
    assert ImagesTable.open(where).num_rows() == 2


@pytest.mark.parametrize("num_forgotten", [0, 1, 2])
def test_a_commit_that_is_tried_again_after_it_landed_commits_nothing_more(
    where: TableLocation, claim: Claim, num_forgotten: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The worker died after the commit.

    None, some or all of the records were already deleted.
    """
    version = make_table(where, good_rows(0, 1)).version
    before = staged_unit_ids(where)
    units = [stage(where, good_rows(i, 1)) for i in (1, 2)]
    group = (where, claim.number, text_column(), version, tuple(unit.unit_id for unit in units))
    with monkeypatch.context() as patch:
        patch.setattr(
            commits, "forget_records", lambda *_: forget_records(where, units[:num_forgotten])
        )
        landed = commit_units(*group)
    assert commit_units(*group) == landed
    assert ImagesTable.open(where).num_rows() == 3
    assert staged_unit_ids(where) == before
