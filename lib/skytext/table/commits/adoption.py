"""Take over what a run that died had staged, before a new run decides what there is to do.

A record says, for each of its images, which row it found (none, or one that it replaces). It is

* *committed* if the rows are its own already: the run died between the commit and the clean-up;
* *adopted* if every image still has just that row: it is committed now, not computed again;
* *discarded* otherwise: another run was faster, the settings have changed, or files are missing.

Whatever a worker of a dead run stages after that, late, waits for the next run to judge it.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from skytext.table.commits.claim import Claim
from skytext.table.commits.commit_rows import Committer
from skytext.table.commits.stage_rows import (
    StagedUnit,
    data_files,
    delete_files,
    forget_records,
    has_all_files,
    read_records,
    staged_unit_ids,
)
from skytext.table.images_dataset import ImagesTable, TableIdentity
from skytext.table.location import TableLocation

_ROWS_A_COMMIT = 1000
_NEVER = dt.timedelta(days=36500)


@dataclass(frozen=True, slots=True)
class Adoption:
    """What became of the records that were left over.

    Attributes:
        version: the table's version afterwards; None where there is no data set.
        num_adopted: rows committed now.
        num_discarded: rows thrown away.
        num_records: records that were left over, those of committed units included.
    """

    version: int | None
    num_adopted: int = 0
    num_discarded: int = 0
    num_records: int = 0


def settle(claim: Claim, identity: TableIdentity, caption_fingerprint: str) -> Adoption:
    """Fence off a run that died, and adopt or remove what it had staged: how every writer begins.

    Raises: as `adopt`, and TableError where the table is of another model.
    """
    location = claim.location
    table = ImagesTable.find(location)
    version = None if table is None else table.version
    claim.check()
    # A run that let go of its claim may have left a commit on its way, too.
    if claim.took_over or staged_unit_ids(location):
        version = Committer(location, identity, version).raise_fence()
    adoption = adopt(location, identity, version, caption_fingerprint, claim.check)
    if claim.took_over or adoption.num_records:
        claim.check()
        collect_orphans(location)
    return adoption


def adopt(
    location: TableLocation,
    identity: TableIdentity,
    version: int | None,
    caption_fingerprint: str,
    check_claim: Callable[[], None],
) -> Adoption:
    """Commit what can be adopted, and remove the rest.

    Args:
        location: the table.
        identity: of this run.
        version: the latest version; None where there is no data set.
        caption_fingerprint: of this run; what was staged with another is discarded.
        check_claim: called before anything is changed; raises where the claim is lost.

    Raises:
        CommitConflictError: somebody commits without holding the claim.
        TableHeldError: the claim is lost.
        JobError: the store refuses.
    """
    units = read_records(location, staged_unit_ids(location))
    if not units:
        return Adoption(version)
    committer = Committer(location, identity, version)
    present = _present_units(location, version, units)
    wanted: list[StagedUnit] = []
    unwanted: list[StagedUnit] = []
    for unit in units:
        if _is_committed(unit, present):
            continue
        if _fits(unit, identity, caption_fingerprint, present) and has_all_files(location, unit):
            wanted.append(unit)
            present.update(dict.fromkeys(unit.image_ids, unit.unit_id))
        else:
            unwanted.append(unit)
    for group in _groups(wanted):
        check_claim()
        committer.commit(group)
    check_claim()
    for unit in unwanted:
        delete_files(location, data_files(unit))
    forget_records(location, units)
    return Adoption(
        committer.version,
        sum(unit.num_rows for unit in wanted),
        sum(unit.num_rows for unit in unwanted),
        len(units),
    )


def collect_orphans(location: TableLocation) -> int:
    """Remove old files that no version refers to; return their bytes. No version is touched.

    They are what a writer left that died before its record. Lance spares those younger than seven
    days: a merge or an index build, which need no claim, may be about to commit them.
    """
    table = ImagesTable.find(location)
    if table is None:
        return 0
    removed = table.dataset.cleanup_old_versions(older_than=_NEVER, delete_unverified=False)
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
    unit: StagedUnit, identity: TableIdentity, caption_fingerprint: str, present: dict[str, str]
) -> bool:
    return (
        unit.embedding_fingerprint == identity.embedding_fingerprint
        and unit.caption_fingerprint == caption_fingerprint
        # Rows that only go are judged anew by the next run.
        and bool(unit.image_ids)
        and all(present.get(i) == unit.replaces.get(i) for i in unit.image_ids)
    )


def _groups(units: Sequence[StagedUnit]) -> list[list[StagedUnit]]:
    groups: list[list[StagedUnit]] = []
    num_rows = _ROWS_A_COMMIT
    for unit in units:
        if num_rows >= _ROWS_A_COMMIT:
            groups.append([])
            num_rows = 0
        groups[-1].append(unit)
        num_rows += unit.num_rows
    return groups
