"""The next run adopts or discards the staged units of a killed run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from lance.optimize import Compaction

from skytext.errors import CommitConflictError, TableHeldError
from skytext.table.commits import adoption
from skytext.table.commits.adoption import Adoption, adopt, collect_orphans
from skytext.table.commits.commit_rows import Committer
from skytext.table.commits.stage_rows import (
    StagedUnit,
    data_files,
    forget_records,
    read_records,
    staged_unit_ids,
)
from skytext.table.images_dataset import ImagesTable
from skytext.table.location import TableLocation
from tests.table.rows import (
    committer,
    failed_row,
    good_row,
    good_rows,
    location,
    make_old,
    make_table,
    stage,
    text_column,
)

OURS = {"caption_fingerprint": "captions", "embedding_fingerprint": "f" * 32}


@pytest.fixture
def where(tmp_path: Path) -> TableLocation:
    return location(tmp_path / "table")


def left(where: TableLocation, rows: Sequence[dict[str, Any]], **more: Any) -> StagedUnit:
    """Stage a unit like a run that has the same settings and is killed before its commit."""
    return stage(where, rows, **{**OURS, **more})


def take_over(where: TableLocation, **more: Any) -> Adoption:
    """Settle the staged units, as a run does before it plans its work."""
    table = ImagesTable.find(where)
    version = None if table is None else table.version
    arguments: dict[str, Any] = {
        "column": text_column(),
        "caption_fingerprint": "captions",
        "check_claim": lambda: None,
    }
    return adopt(where, version=version, **{**arguments, **more})


def units_in(where: TableLocation) -> dict[str, str]:
    """Return the unit id of every row by member. Check that no image has two rows."""
    table = ImagesTable.open(where)
    rows = table.dataset.to_table(columns=["member", "unit_id"]).to_pylist()
    assert len(table.double_rows()) == 0
    assert len({row["member"] for row in rows}) == len(rows)
    return {row["member"]: row["unit_id"] for row in rows}


def files(where: TableLocation) -> list[str]:
    return sorted(path.name for path in Path(where.uri, "images.lance", "data").glob("*"))


def members(first: int, count: int) -> list[str]:
    return [f"{i:05d}.jpg" for i in range(first, first + count)]


def test_adoption_without_staged_units_does_nothing(where: TableLocation) -> None:
    assert take_over(where) == Adoption(None)
    assert not Path(where.uri).exists()
    version = make_table(where, good_rows(0, 1)).version
    forget_records(where, read_records(where, staged_unit_ids(where)))
    assert take_over(where) == Adoption(version)


def test_staged_units_are_committed_and_not_recomputed(where: TableLocation) -> None:
    version = make_table(where, good_rows(0, 2)).version
    forget_records(where, read_records(where, staged_unit_ids(where)))
    units = [left(where, good_rows(2, 3)), left(where, good_rows(5, 1))]
    found = take_over(where)
    assert found == Adoption(version + 1, num_adopted=4, num_records=2)
    assert units_in(where).keys() == set(members(0, 6))
    assert units_in(where)["00005.jpg"] == units[1].unit_id
    assert staged_unit_ids(where) == []
    assert take_over(where) == Adoption(version + 1)


def test_staged_units_can_create_the_table(where: TableLocation) -> None:
    """The first run was killed before its first commit."""
    left(where, good_rows(0, 3))
    assert take_over(where) == Adoption(1, num_adopted=3, num_records=1)
    assert units_in(where).keys() == set(members(0, 3))


def test_many_units_are_committed_in_few_groups(
    where: TableLocation, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(adoption, "_ROWS_A_COMMIT", 4)
    for i in range(5):
        left(where, good_rows(2 * i, 2))
    assert take_over(where) == Adoption(3, num_adopted=10, num_records=5)
    assert len(units_in(where)) == 10


def test_units_of_a_run_that_died_after_its_commit_count_as_committed(where: TableLocation) -> None:
    unit = left(where, good_rows(0, 3))
    version = committer(where).commit([unit])
    assert take_over(where) == Adoption(version, num_records=1)
    assert staged_unit_ids(where) == []
    assert files(where) == data_files(unit)


@pytest.mark.parametrize(
    "change",
    [
        {"caption_fingerprint": "other captions"},
        {"embedding_fingerprint": "0" * 32},
        {"replaces": {good_row("00003.jpg")["image_id"]: "a unit that is no more"}},
    ],
    ids=["captions", "embeddings", "row"],
)
def test_unsuitable_units_are_discarded_with_their_files(
    where: TableLocation, change: dict[str, Any]
) -> None:
    committed = left(where, good_rows(0, 2))
    version = committer(where).commit([committed])
    left(where, good_rows(3, 2), **change)
    assert take_over(where) == Adoption(version, num_discarded=2, num_records=2)
    assert units_in(where) == dict.fromkeys(members(0, 2), committed.unit_id)
    assert staged_unit_ids(where) == []
    assert files(where) == data_files(committed)


def test_an_image_with_a_row_gets_no_second_row(where: TableLocation) -> None:
    """A retried task stages a unit after another run has committed one of the images."""
    first = left(where, good_rows(0, 2))
    committer(where).commit([first])
    late = left(where, good_rows(1, 2))
    assert take_over(where).num_discarded == 2
    assert units_in(where) == dict.fromkeys(members(0, 2), first.unit_id)
    assert not set(data_files(late)) & set(files(where))


def test_only_one_of_two_units_of_an_image_is_committed(where: TableLocation) -> None:
    """Two runs were started one after the other. Both were killed before their first commit."""
    left(where, good_rows(0, 2), unit_id="run1/a-0")
    left(where, good_rows(1, 2), unit_id="run2/a-0")
    assert take_over(where) == Adoption(1, num_adopted=2, num_discarded=2, num_records=2)
    assert units_in(where) == dict.fromkeys(members(0, 2), "run1/a-0")


def test_a_row_is_replaced_only_if_it_is_the_one_that_was_there(where: TableLocation) -> None:
    old = stage(where, [failed_row("a.jpg"), failed_row("b.jpg")], **OURS)
    committer(where).commit([old])
    forget_records(where, [old])
    ids = {name: good_row(name)["image_id"] for name in ("a.jpg", "b.jpg")}
    again = left(where, [good_row("a.jpg")], replaces={ids["a.jpg"]: old.unit_id})
    other = left(where, [good_row("b.jpg")], replaces={ids["b.jpg"]: "another unit"})
    found = take_over(where)
    assert (found.num_adopted, found.num_discarded) == (1, 1)
    assert units_in(where) == {"a.jpg": again.unit_id, "b.jpg": old.unit_id}
    assert ImagesTable.open(where).status_counts() == {"ok": 1, "failed": 1, "withdrawn": 0}
    assert other.unit_id not in staged_unit_ids(where)


@pytest.mark.parametrize("num_missing", [1, 2])
def test_a_unit_with_missing_files_is_redone(where: TableLocation, num_missing: int) -> None:
    kept = left(where, good_rows(0, 2))
    units = [left(where, good_rows(2 + i, 1)) for i in range(num_missing)]
    for unit in units:
        for name in data_files(unit):
            Path(where.uri, "images.lance", "data", name).unlink()
    assert take_over(where) == Adoption(1, 2, num_missing, 1 + num_missing)
    assert units_in(where) == dict.fromkeys(members(0, 2), kept.unit_id)


def test_units_that_only_remove_rows_are_decided_again(where: TableLocation) -> None:
    committer(where).commit([stage(where, [failed_row("", image_id="0" * 32)])])
    left(where, [], removes=["0" * 32])
    assert take_over(where).num_discarded == 0
    assert ImagesTable.open(where).num_rows() == 1
    assert staged_unit_ids(where) == []


class Killed(BaseException):
    """An exception that no code catches."""


def killed(*_: object) -> None:
    raise Killed


@pytest.mark.parametrize("moment", ["forget_records", "delete_files"])
def test_an_adoption_killed_at_any_step_commits_exactly_once(
    where: TableLocation, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    units = [left(where, good_rows(0, 3)), left(where, good_rows(3, 2))]
    left(where, good_rows(9, 1), caption_fingerprint="other")
    with monkeypatch.context() as patch:
        patch.setattr(adoption, moment, killed)
        with pytest.raises(Killed):
            take_over(where)
    after = units_in(where)
    assert after.keys() == set(members(0, 5))
    version = ImagesTable.open(where).version
    again = take_over(where)
    assert (again.version, again.num_adopted, again.num_records) == (version, 0, 3)
    assert units_in(where) == after
    assert files(where) == sorted(name for unit in units for name in data_files(unit))


def test_after_a_kill_between_groups_the_next_run_adopts_the_rest(
    where: TableLocation, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(adoption, "_ROWS_A_COMMIT", 2)
    for i in range(3):
        left(where, good_rows(2 * i, 2), unit_id=f"run/{i}")
    real, calls = Committer.commit, []

    def commit(self: Committer, units: Sequence[StagedUnit]) -> int:
        calls.append(units)
        if len(calls) == 2:
            raise Killed
        return real(self, units)

    with monkeypatch.context() as patch:
        patch.setattr(Committer, "commit", commit)
        with pytest.raises(Killed):
            take_over(where)
    assert len(units_in(where)) == 2
    assert take_over(where) == Adoption(3, num_adopted=4, num_records=3)
    assert len(units_in(where)) == 6


def test_late_units_of_a_dead_run_wait_for_the_next_run(where: TableLocation) -> None:
    left(where, good_rows(0, 2))
    take_over(where)
    # Two units are staged after the check. The first unit contains a new image. The image of the
    # second unit already has a row in the table.
    late = left(where, good_rows(2, 1), unit_id="dead/late-0")
    left(where, good_rows(1, 1), unit_id="dead/late-1")
    # The late units do not affect the run that is already running.
    version = committer(where).commit([stage(where, good_rows(5, 1), unit_id="ours/0")])
    forget_records(where, read_records(where, ["ours/0"]))
    assert take_over(where) == Adoption(version + 1, num_adopted=1, num_discarded=1, num_records=2)
    found = units_in(where)
    assert found["00002.jpg"] == late.unit_id
    assert found.keys() == set(members(0, 3)) | {"00005.jpg"}


def test_a_run_without_its_claim_changes_nothing(where: TableLocation) -> None:
    left(where, good_rows(0, 2), unit_id="run/0")
    left(where, good_rows(5, 1), unit_id="run/1", caption_fingerprint="other")
    before = files(where)

    def lost() -> None:
        raise TableHeldError("lost")

    with pytest.raises(TableHeldError):
        take_over(where, check_claim=lost)
    assert ImagesTable.find(where) is None
    assert staged_unit_ids(where) == ["run/0", "run/1"]
    assert files(where) == before


def test_concurrent_adoptions_commit_once(where: TableLocation) -> None:
    version = make_table(where, good_rows(0, 2)).version
    forget_records(where, read_records(where, staged_unit_ids(where)))
    unit = left(where, good_rows(2, 2))

    def the_other_is_faster() -> None:
        take_over(where)

    take_over(where, check_claim=the_other_is_faster)
    assert ImagesTable.open(where).version == version + 1
    assert units_in(where).keys() == set(members(0, 4))
    assert set(data_files(unit)) < set(files(where))


def test_adoption_conflicts_with_rows_of_another_writer(where: TableLocation) -> None:
    version = make_table(where, good_rows(0, 2)).version
    left(where, good_rows(2, 2))

    def the_other_commits() -> None:
        committer(where).commit([stage(where, good_rows(2, 1), unit_id="others")])

    with pytest.raises(CommitConflictError):
        take_over(where, check_claim=the_other_commits)
    assert ImagesTable.open(where).version == version + 1
    assert units_in(where)["00002.jpg"] == "others"


def test_only_orphaned_files_are_removed(where: TableLocation) -> None:
    committed = [stage(where, good_rows(2 * i, 2)) for i in range(3)]
    writer = committer(where)
    for unit in committed:
        writer.commit([unit])
    replaced = good_row("00000.jpg")
    writer.commit([stage(where, [replaced], replaces={replaced["image_id"]: committed[0].unit_id})])
    before = files(where)
    versions = [entry["version"] for entry in ImagesTable.open(where).dataset.versions()]
    # The writer was killed after it had written the files and before it wrote the record.
    orphan = stage(where, good_rows(20, 2))
    forget_records(where, [orphan])
    assert set(files(where)) == {*before, *data_files(orphan)}
    # Young files are kept, because they may belong to a running merge or index build.
    assert collect_orphans(where) == 0
    make_old(where, orphan)
    assert collect_orphans(where) > 0
    assert files(where) == before
    assert collect_orphans(where) == 0
    table = ImagesTable.open(where)
    assert [entry["version"] for entry in table.dataset.versions()] == versions
    assert (table.num_rows(), len(table.double_rows())) == (6, 0)
    assert len(table.dataset.to_table()) == 6
    # Earlier versions can still be read.
    assert [ImagesTable.open(where, v).dataset.to_table().num_rows for v in versions] == [
        2,
        4,
        6,
        6,
    ]


def test_files_of_a_running_merge_are_not_orphaned(where: TableLocation) -> None:
    """``skytext index`` merges fragments while a new run removes the files of a killed run."""
    dataset = make_table(where, *(good_rows(3 * i, 3) for i in range(10))).dataset
    plan = Compaction.plan(dataset, {"target_rows_per_fragment": 100_000})
    merged = [task.execute(dataset) for task in plan.tasks]
    collect_orphans(where)
    Compaction.commit(dataset, merged)
    assert len(ImagesTable.open(where).dataset.to_table()) == 30


def test_without_a_table_there_are_no_orphaned_files(where: TableLocation) -> None:
    assert collect_orphans(where) == 0
    assert not Path(where.uri).exists()
