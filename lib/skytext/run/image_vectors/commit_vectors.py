"""Commit staged image vectors, and what comes before: the table in order, and what there is to do.

INPUT    the claim; names of staged units and the version that the driver saw last.
OUTPUT   the new version.
FAN-OUT  one task a group, one after the other: the driver waits for each.
ON ERROR a conflict or a store that refuses ends the run; the group's vectors are not visible, and
         what is staged waits for the next run.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from skytext.run.control.driver_node import run_on_driver_node
from skytext.run.image_vectors.list_rows import group_fragments
from skytext.table.commits.adoption import collect_orphans
from skytext.table.commits.claim import Claim, check_claim, told_by_claim
from skytext.table.commits.commit_image_vectors import commit_vectors
from skytext.table.commits.commit_rows import Committer
from skytext.table.commits.stage_image_vectors import (
    forget_vectors,
    read_vectors,
    staged_vector_units,
)
from skytext.table.commits.stage_rows import staged_unit_ids
from skytext.table.image_vector_column import (
    ImageIdentity,
    check_same_model,
    find_image_identity,
    fragment_rows,
    num_with_vector,
)
from skytext.table.images_dataset import ImagesTable
from skytext.table.location import TableLocation

_ROWS_A_LISTING = 16_384
_UNITS_A_COMMIT = 64


@dataclass(frozen=True, slots=True)
class PreparedImages:
    """What a run starts from.

    Attributes:
        version: the version to start from.
        num_ok: images that are done.
        num_there: those of them that have a vector by this run's model.
        num_adopted: those of them that an earlier run had embedded and not committed.
        groups: fragments to look through, in groups.
    """

    version: int
    num_ok: int
    num_there: int
    num_adopted: int
    groups: tuple[tuple[int, ...], ...]


class RemoteVectorCommitter:
    """Commits for one run, on the cluster; the version is all that it keeps.

    Args:
        claim: of the run; without it nothing is committed.
        version: the version that the run started from.

    Attributes:
        version: the latest that this run made or saw.
        is_local: commit in this process from now on: a node that goes away takes no new task.
    """

    def __init__(self, claim: Claim, version: int) -> None:
        self._claim = claim
        self.version = version
        self.is_local = False

    def commit(self, unit_ids: Sequence[str]) -> None:
        """Make the units' vectors visible, all of them or none.

        Raises:
            CommitConflictError: somebody else committed since the last version seen.
            TableHeldError: another run took the table over.
            JobError: the work failed, or the cluster did.
        """
        location, number = self._claim.location, self._claim.number
        arguments = (location, number, self.version, tuple(unit_ids))
        if self.is_local:
            self.version = commit_units(*arguments)
            return
        self.version = run_on_driver_node(commit_units, *arguments)


def commit_units(
    location: TableLocation, claim_number: int, version: int, unit_ids: tuple[str, ...]
) -> int:
    """Commit staged units, then delete what was staged; return the new version."""
    with told_by_claim(location, claim_number):
        units = [read_vectors(location, unit_id) for unit_id in unit_ids]
    check_claim(location, claim_number)
    new_version = commit_vectors(location, version, units)
    forget_vectors(location, unit_ids)
    return new_version


def prepare_images(claim: Claim, ours: ImageIdentity, *, replace: bool) -> PreparedImages:
    """Fence off a run that died, commit what it had staged, and see what there is to do.

    Args:
        claim: of this run.
        ours: of this run's model; its ``dim`` is not known yet.
        replace: whether vectors by another model may go.

    Raises:
        TableError: the table's images were embedded with another model.
        JobError: the store refuses.
    """
    return run_on_driver_node(_prepare, claim, ours, replace)


def _prepare(claim: Claim, ours: ImageIdentity, replace: bool) -> PreparedImages:
    location = claim.location
    table = ImagesTable.open(location)
    there = find_image_identity(table)
    if there is not None and not replace:
        check_same_model(location, there, ours)
    staged = staged_vector_units(location)
    claim.check()
    version = table.version
    # A run that let go of its claim may have left a commit on its way, too.
    if claim.took_over or staged:
        version = Committer(location, table.identity, version).raise_fence() or version
    version, num_adopted = _adopt(claim, ours, version, staged)
    # Files of rows that a captioning run has staged are for the next one of its kind to judge.
    if claim.took_over and not staged_unit_ids(location):
        claim.check()
        collect_orphans(location)
    table = ImagesTable.open(location, version)
    there = find_image_identity(table)
    num_ok, num_there = num_with_vector(table)
    if there is None or there.fingerprint != ours.fingerprint:
        num_there = 0
    groups = group_fragments(fragment_rows(table), _ROWS_A_LISTING) if num_there < num_ok else []
    return PreparedImages(
        version, num_ok, num_there, num_adopted, tuple(tuple(group) for group in groups)
    )


def _adopt(
    claim: Claim, ours: ImageIdentity, version: int, staged: Sequence[str]
) -> tuple[int, int]:
    """Commit what is staged by this run's model, and delete the rest."""
    location, num_adopted = claim.location, 0
    for first in range(0, len(staged), _UNITS_A_COMMIT):
        some = staged[first : first + _UNITS_A_COMMIT]
        units = [read_vectors(location, unit_id) for unit_id in some]
        fitting = [unit for unit in units if unit.identity.fingerprint == ours.fingerprint]
        claim.check()
        if fitting:
            version = commit_vectors(location, version, fitting)
            num_adopted += sum(unit.rows.num_rows for unit in fitting)
        forget_vectors(location, some)
    return version, num_adopted


def count_vectors(location: TableLocation, version: int) -> tuple[int, int]:
    """Return, on the cluster, how many images are done and how many of them have a vector."""
    return run_on_driver_node(_count, location, version)


def _count(location: TableLocation, version: int) -> tuple[int, int]:
    return num_with_vector(ImagesTable.open(location, version))
