"""Commit or delete the staged units of a dead run. A new run does this before it plans its work.

A staged unit has a record. If an image already had a row when its new row was staged, the record
contains the unit id of the existing row. A record of rows is

* *committed* if its rows are in the table. The dead run then died after the commit and before it
  deleted the record;
* *adopted* if no other run has changed the rows of these images. The new run commits the rows and
  does not compute them again;
* *discarded* in all other cases. For example, another run has already changed the rows, the
  settings have changed, or files are missing.

A record of vectors is adopted if the model of these vectors is the model in the settings. The
commit adds a vector to a row if the row has no vector and the embedded image or description has not
changed.

To *settle* a record means to commit or discard its rows or vectors, and then to delete the record.
There are three kinds of records: for rows, for text vectors and for image vectors. A run settles
the records of the kind that it writes. Records of another kind are kept for a later run that writes
this kind. There is one exception. If the table already has the column of the staged vectors, every
run commits these vectors.

A worker of the dead run may stage more units after the new run has settled the records. The next
run then settles these units.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from skytext.table.commits.change_columns import drop_unlisted_columns
from skytext.table.commits.claim import Claim
from skytext.table.commits.commit_rows import Committer, check_writable
from skytext.table.commits.stage_rows import (
    StagedUnit,
    data_files,
    delete_files,
    forget_records,
    has_all_files,
    has_vectors_for,
    read_records,
    staged_unit_ids,
)
from skytext.table.images_dataset import ImagesTable
from skytext.table.location import TableLocation
from skytext.table.vector_columns import VectorColumn

_ROWS_A_COMMIT = 1000
# A commit of vectors rewrites the whole column of each fragment that it changes. So a few commits
# with many vectors are faster than many commits with few vectors.
_VECTORS_A_COMMIT = 50_000
NEVER = dt.timedelta(days=36500)


@dataclass(frozen=True, slots=True)
class Adoption:
    """The result of `settle` or `adopt`.

    Attributes:
        version: the latest version after the call; None if there is no data set.
        num_adopted: number of rows that the call committed.
        num_discarded: number of rows and vectors that the call discarded.
        num_records: number of settled records. This includes the records whose rows were already in
            the table.
        num_vectors_adopted: number of vectors that the call committed.
    """

    version: int | None
    num_adopted: int = 0
    num_discarded: int = 0
    num_records: int = 0
    num_vectors_adopted: int = 0


def settle(
    claim: Claim,
    column: VectorColumn,
    caption_fingerprint: str | None = None,
    vectors: VectorColumn | None = None,
) -> Adoption:
    """Make later commits of a dead run fail, and adopt or discard the staged units of the dead run.

    Every writer must call this function before it stages units.

    Args: the same as for `adopt`. The version and the claim check come from ``claim``.

    Raises: the same errors as `adopt`. The function also raises TableError if the table has another
    model or an old format.
    """
    location = claim.location
    table = ImagesTable.find(location)
    version = None if table is None else table.version
    if table is not None:
        check_writable(table, column)
    claim.check()
    if table is not None:
        version = drop_unlisted_columns(table).version
    # A commit of a run that released its claim may still be in progress.
    if claim.took_over or staged_unit_ids(location):
        version = Committer(location, column, version).raise_fence()
    adoption = adopt(
        location,
        column,
        version,
        claim.check,
        caption_fingerprint=caption_fingerprint,
        vectors=vectors,
    )
    # A file is not orphaned if a record still refers to it. So collect orphans only if no record
    # remains.
    if (claim.took_over or adoption.num_records) and not staged_unit_ids(location):
        claim.check()
        collect_orphans(location)
    return adoption


def adopt(
    location: TableLocation,
    column: VectorColumn,
    version: int | None,
    check_claim: Callable[[], None],
    *,
    caption_fingerprint: str | None = None,
    vectors: VectorColumn | None = None,
) -> Adoption:
    """Commit the records that can be adopted, and discard the other records.

    Args:
        location: the table.
        column: the column of the caption vectors that this run writes with its rows.
        version: the latest version; None if there is no data set.
        check_claim: function that is called before every change. It raises an error if the claim is
            lost.
        caption_fingerprint: caption fingerprint of this run. Rows that were staged with another
            fingerprint are discarded. None if this run writes no captions. Records of rows are then
            kept for a later run.
        vectors: the vector column that this run fills; None if this run fills no vector column.
            Staged vectors for another column of the same kind are discarded. Staged vectors of
            another kind are committed if the table has the column. If not, they are kept for a
            later run.

    Raises:
        CommitConflictError: another process committed to the table without holding the claim.
        TableHeldError: the claim is lost.
        JobError: a store request failed.
    """
    records = read_records(location, staged_unit_ids(location))
    if not records:
        return Adoption(version)
    rows = [unit for unit in records if not unit.column]
    of_columns = [unit for unit in records if unit.column]
    committer = Committer(location, column, version)
    judged = [
        _judge_rows(location, version, rows, column, caption_fingerprint),
        _judge_vectors(location, version, of_columns, vectors),
    ]
    for one in judged:
        for group in _groups(one.wanted):
            check_claim()
            committer.commit(group)
    check_claim()
    unwanted = [unit for one in judged for unit in one.unwanted]
    delete_files(location, [path for unit in unwanted for path in data_files(unit)])
    settled = [unit for one in judged for unit in one.settled]
    forget_records(location, settled)
    num_adopted, num_vectors = (sum(unit.num_rows for unit in one.wanted) for one in judged)
    num_discarded = sum(unit.num_rows for unit in unwanted)
    return Adoption(committer.version, num_adopted, num_discarded, len(settled), num_vectors)


@dataclass(slots=True)
class _Judged:
    """The records to commit, the records to discard, and the records that are already committed."""

    wanted: list[StagedUnit] = field(default_factory=list)
    unwanted: list[StagedUnit] = field(default_factory=list)
    committed: list[StagedUnit] = field(default_factory=list)

    @property
    def settled(self) -> list[StagedUnit]:
        return [*self.committed, *self.wanted, *self.unwanted]


def _judge_rows(
    location: TableLocation,
    version: int | None,
    units: Sequence[StagedUnit],
    column: VectorColumn,
    caption_fingerprint: str | None,
) -> _Judged:
    judged = _Judged()
    if caption_fingerprint is None:
        return judged
    present = _present_units(location, version, units)
    table = None if version is None else ImagesTable.open(location, version)
    for unit in units:
        if _is_committed(unit, present):
            judged.committed.append(unit)
        elif (
            _fits(unit, column, caption_fingerprint, present)
            and has_all_files(location, unit)
            and (table is None or has_vectors_for(unit, table))
        ):
            judged.wanted.append(unit)
            present.update(dict.fromkeys(unit.image_ids, unit.unit_id))
        else:
            judged.unwanted.append(unit)
    return judged


def _judge_vectors(
    location: TableLocation,
    version: int | None,
    units: Sequence[StagedUnit],
    wanted: VectorColumn | None,
) -> _Judged:
    judged = _Judged()
    if not units or version is None:
        return judged
    table = ImagesTable.open(location, version)
    for unit in units:
        column = VectorColumn.from_json(unit.column)
        is_ours = wanted is not None and wanted.kind == column.kind
        if is_ours and wanted is not None and not wanted.fits(column):
            judged.unwanted.append(unit)
        elif is_ours or table.find_column(column) is not None:
            fit = has_all_files(location, unit)
            (judged.wanted if fit else judged.unwanted).append(unit)
    return judged


def collect_orphans(location: TableLocation) -> int:
    """Delete orphaned files and return their total size in bytes. No version is changed.

    A file is orphaned if the process that wrote the file died before it created the record of the
    file. Lance keeps files that are younger than seven days, because a merge or an index build may
    still commit them. A merge or an index build does not hold the claim.
    """
    table = ImagesTable.find(location)
    if table is None:
        return 0
    removed = table.dataset.cleanup_old_versions(older_than=NEVER, delete_unverified=False)
    return int(removed.bytes_removed)


def _present_units(
    location: TableLocation, version: int | None, units: Sequence[StagedUnit]
) -> dict[str, str]:
    if version is None:
        return {}
    image_ids = {image_id for unit in units for image_id in unit.image_ids}
    return ImagesTable.open(location, version).units_of(image_ids)


def _is_committed(unit: StagedUnit, present: dict[str, str]) -> bool:
    return bool(unit.image_ids) and present.get(unit.image_ids[0]) == unit.unit_id


def _fits(
    unit: StagedUnit, column: VectorColumn, caption_fingerprint: str, present: dict[str, str]
) -> bool:
    return (
        # ``unit.columns`` contains the column that was active when the unit was staged. It may also
        # contain a second column, which was pending.
        (unit.embedding_fingerprint == column.fingerprint or column.name in unit.columns[1:])
        and unit.caption_fingerprint == caption_fingerprint
        # A unit that only removes rows is discarded, because the new run determines which rows to
        # remove.
        and bool(unit.image_ids)
        and all(present.get(i) == unit.replaces.get(i) for i in unit.image_ids)
    )


def _groups(units: Sequence[StagedUnit]) -> list[list[StagedUnit]]:
    groups: list[list[StagedUnit]] = []
    units = sorted(units, key=lambda unit: unit.column)
    most = _VECTORS_A_COMMIT if units and units[0].column else _ROWS_A_COMMIT
    num_rows = most
    for unit in units:
        if num_rows >= most or unit.column != groups[-1][-1].column:
            groups.append([])
            num_rows = 0
        groups[-1].append(unit)
        num_rows += unit.num_rows
    return groups
