"""Take over what a run that died had staged, before a new run decides what there is to do.

A record of rows says, for each of its images, which row it found (none, or one that it replaces).
It is

* *committed* if the rows are its own already: the run died between the commit and the clean-up;
* *adopted* if every image still has just that row: it is committed now, not computed again;
* *discarded* otherwise: another run was faster, the settings have changed, or files are missing.

A record of vectors is adopted if the model is the one that is wanted. The commit gives a vector to
each row that has none and still has the image or description that was embedded.

A run judges records of the kind that it makes itself. Others wait for a run of their kind, but for
vectors of a column that the table has: they need no judgement.

Whatever a worker of a dead run stages after that, late, waits for the next run to judge it.
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
# A commit writes the whole column of each fragment that it touches.
_VECTORS_A_COMMIT = 50_000
NEVER = dt.timedelta(days=36500)


@dataclass(frozen=True, slots=True)
class Adoption:
    """What became of the records that were left over.

    Attributes:
        version: the table's version afterwards; None where there is no data set.
        num_adopted: rows committed now.
        num_discarded: rows and vectors thrown away.
        num_records: records that were settled, those of committed units included.
        num_vectors_adopted: vectors in the records that were committed now.
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
    """Fence off a run that died, and adopt or remove what it had staged: how every writer begins.

    Args: as those of `adopt`.

    Raises: as `adopt`, and TableError where the table is of another model.
    """
    location = claim.location
    table = ImagesTable.find(location)
    version = None if table is None else table.version
    if table is not None:
        check_writable(table, column)
    claim.check()
    if table is not None:
        version = drop_unlisted_columns(table).version
    # A run that let go of its claim may have left a commit on its way, too.
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
    # Files of records that wait are no orphans.
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
    """Commit what can be adopted, and remove the rest.

    Args:
        location: the table.
        column: of the vectors of this run's rows.
        version: the latest version; None where there is no data set.
        check_claim: called before anything is changed; raises where the claim is lost.
        caption_fingerprint: of this run; rows that were staged with another are discarded. None
            for a run that describes nothing: rows wait.
        vectors: the column that this run fills; vectors of its kind that were staged for another
            are discarded. Vectors that the table has no column for wait.

    Raises:
        CommitConflictError: somebody commits without holding the claim.
        TableHeldError: the claim is lost.
        JobError: the store refuses.
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
    """Records that are to be committed now, to be thrown away, and committed already."""

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
    """Remove old files that no version refers to; return their bytes. No version is touched.

    They are what a writer left that died before its record. Lance spares those younger than seven
    days: a merge or an index build, which need no claim, may be about to commit them.
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
        # Behind its own column stands the one that was pending then.
        (unit.embedding_fingerprint == column.fingerprint or column.name in unit.columns[1:])
        and unit.caption_fingerprint == caption_fingerprint
        # Rows that only go are judged anew by the next run.
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
