"""If two writers start from the same version and one writer commits, the other commit fails."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from skytext.errors import CommitConflictError
from skytext.table.commits.commit_rows import Committer
from skytext.table.commits.stage_rows import StagedUnit
from skytext.table.images_dataset import ImagesTable
from skytext.table.location import TableLocation
from tests.table.rows import (
    committer,
    good_row,
    good_rows,
    location,
    make_table,
    stage,
)

Commit = Callable[[TableLocation, Committer], object]


@pytest.fixture
def where(tmp_path: Path) -> TableLocation:
    """Make a table with three fragments. They contain the rows 0 and 1, 2 and 3, and 4 and 5."""
    where = location(tmp_path / "table")
    make_table(where, good_rows(0, 2), good_rows(2, 2), good_rows(4, 2))
    return where


def replacing(where: TableLocation, *numbers: int) -> StagedUnit:
    rows = [good_row(f"{i:05d}.jpg") for i in numbers]
    return stage(where, rows, replaces={row["image_id"]: "unit" for row in rows})


def removing(where: TableLocation, *numbers: int) -> StagedUnit:
    ids = [good_row(f"{i:05d}.jpg")["image_id"] for i in numbers]
    return stage(where, [], removes=ids)


COMMITS: dict[str, Commit] = {
    "new rows": lambda where, writer: writer.commit([stage(where, good_rows(60, 1))]),
    "part of the first": lambda where, writer: writer.commit([replacing(where, 0)]),
    "part of the second": lambda where, writer: writer.commit([replacing(where, 3)]),
    "all of the first": lambda where, writer: writer.commit([replacing(where, 0, 1)]),
    "all of the second": lambda where, writer: writer.commit([replacing(where, 2, 3)]),
    "all": lambda where, writer: writer.commit([replacing(where, *range(6))]),
    "removal of all": lambda where, writer: writer.commit([removing(where, *range(6))]),
    "fence": lambda where, writer: writer.raise_fence(),
}


@pytest.mark.parametrize("second", COMMITS)
@pytest.mark.parametrize("first", COMMITS)
def test_the_second_writer_from_the_same_version_commits_nothing(
    where: TableLocation, first: str, second: str
) -> None:
    one, two = committer(where), committer(where)
    COMMITS[first](where, one)
    with pytest.raises(CommitConflictError, match="another run committed"):
        COMMITS[second](where, two)
    assert ImagesTable.open(where).version == one.version


@pytest.mark.parametrize("second", ["new rows", "fence"])
@pytest.mark.parametrize("first", ["new rows", "fence"])
def test_a_table_without_rows_is_fenced_too(where: TableLocation, first: str, second: str) -> None:
    committer(where).commit([removing(where, *range(6))])
    assert ImagesTable.open(where).num_rows() == 0
    one, two = committer(where), committer(where)
    COMMITS[first](where, one)
    with pytest.raises(CommitConflictError, match="another run committed"):
        COMMITS[second](where, two)
    assert ImagesTable.open(where).version == one.version


def test_a_late_commit_of_a_dead_run_never_duplicates_a_row(where: TableLocation) -> None:
    """One group contains a changed image and a new image.

    The row of the changed image is in the second fragment. The fence names the first fragment.
    """
    dead, units = committer(where), [replacing(where, 3), stage(where, good_rows(50, 1))]
    successor = committer(where)
    successor.raise_fence()
    with pytest.raises(CommitConflictError):
        dead.commit(units)
    successor.commit([stage(where, good_rows(50, 1))])
    table = ImagesTable.open(where)
    assert (table.num_rows(), len(table.double_rows())) == (7, 0)
