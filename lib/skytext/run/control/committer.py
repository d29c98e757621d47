"""Commit groups of staged units.

INPUT    names of staged units, and the version that the driver saw last.
OUTPUT   the new version.
FAN-OUT  one task a group, one after the other: the driver waits for each.
ON ERROR a conflict or a store that refuses ends the run; the group's rows are not visible, and
         its records wait for the next run. A merge that fails is left to the next one.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

from skytext.errors import JobError, TableHeldError
from skytext.run.control.driver_node import run_on_driver_node
from skytext.table.commits.claim import Claim, check_claim, told_by_claim
from skytext.table.commits.commit_rows import Committer
from skytext.table.commits.fence import holds_units
from skytext.table.commits.stage_rows import (
    StagedUnit,
    find_records,
    forget_records,
    has_all_files,
)
from skytext.table.commits.stage_vectors import read_vectors
from skytext.table.commits.write_columns import holds_vectors
from skytext.table.compaction import merge_small_fragments
from skytext.table.images_dataset import ImagesTable
from skytext.table.location import TableLocation
from skytext.table.runs_dataset import RunRecord, record_run
from skytext.table.vector_columns import VectorColumn

logger = logging.getLogger(__name__)

_COMMITS_A_MERGE = 32


class RemoteCommitter:
    """Commits for one run, on the cluster; the version is all that it keeps.

    Args:
        claim: of the run; without it nothing is committed.
        column: of the vectors of rows.
        fills: the column that the run fills; None for a run that writes rows.
        version: the version that the run started from; None where there was no table.

    Attributes:
        version: the latest that this run made or saw.
        is_local: commit in this process from now on: a node that goes away takes no new task.
    """

    def __init__(
        self,
        claim: Claim,
        column: VectorColumn,
        version: int | None,
        fills: VectorColumn | None = None,
    ) -> None:
        self._claim = claim
        self._column = column
        self._fills = fills
        self._num_commits = 0
        self.version = version
        self.is_local = False

    def commit(self, unit_ids: Sequence[str]) -> None:
        """Make the units visible, all of them or none.

        Raises:
            CommitConflictError: somebody else committed since the last version seen.
            TableHeldError: another run took the table over.
            JobError: the work failed, or the cluster did.
        """
        location, number = self._claim.location, self._claim.number
        arguments = (location, number, self._column, self.version, tuple(unit_ids), self._fills)
        if self.is_local:
            self.version = commit_units(*arguments)
            return
        self.version = run_on_driver_node(commit_units, *arguments)
        self._num_commits += 1
        if self._num_commits % _COMMITS_A_MERGE == 0:
            self._merge()

    def _merge(self) -> None:
        """Merge small fragments, where that works: searches are faster for it, nothing more."""
        location, number = self._claim.location, self._claim.number
        try:
            self.version = run_on_driver_node(merge, location, number)
        except TableHeldError:
            raise
        except JobError as error:
            logger.warning("small fragments were not merged: %s", error)


def commit_units(
    location: TableLocation,
    claim_number: int,
    column: VectorColumn,
    version: int | None,
    unit_ids: tuple[str, ...],
    fills: VectorColumn | None = None,
) -> int:
    """Commit staged units by their records, then delete these; return the new version.

    Idempotent: where the same call was cut off after its commit, this one returns the version that
    holds the rows.
    """
    with told_by_claim(location, claim_number):
        units, missing = find_records(location, unit_ids)
        if missing:
            return _finish(location, claim_number, units, missing, fills)
        for unit in units:
            if not has_all_files(location, unit):
                raise JobError(
                    f"unit {unit.unit_id}: its files are gone: run the same command again"
                )
    committer = Committer(location, column, version)
    check_claim(location, claim_number)
    new_version = committer.commit(units)
    forget_records(location, units)
    return new_version


def _finish(
    location: TableLocation,
    claim_number: int,
    units: list[StagedUnit],
    committed: list[str],
    fills: VectorColumn | None,
) -> int:
    """Delete the records that are left of a group whose commit has landed; return the version.

    Raises:
        JobError: the rows of the units without a record are not in the table.
    """
    check_claim(location, claim_number)
    table = ImagesTable.find(location)
    if table is None or not _holds(table, units, committed, fills):
        raise JobError(f"unit {committed[0]} has no record in {location.uri}/state")
    forget_records(location, units)
    return table.version


def _holds(
    table: ImagesTable, units: list[StagedUnit], committed: list[str], fills: VectorColumn | None
) -> bool:
    """Return whether a commit of which some records are gone has landed."""
    if fills is None:
        return holds_units(table.dataset, committed)
    # Where all are gone, the claim says who deleted them: this run, after its commit.
    return not units or holds_vectors(table, fills, read_vectors(table.location, units[:1]))


def merge(location: TableLocation, claim_number: int) -> int:
    """Merge small fragments; return the new version."""
    check_claim(location, claim_number)
    return merge_small_fragments(ImagesTable.open(location))


def record_run_remotely(location: TableLocation, run: RunRecord, *, is_local: bool = False) -> None:
    """Append a run's record, on the cluster or in this process."""
    if is_local:
        record_run(location, run)
        return
    run_on_driver_node(record_run, location, run)
