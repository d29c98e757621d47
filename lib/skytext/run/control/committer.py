"""Commit groups of staged units.

INPUT    ids of staged units, and the last table version that the driver has seen.
OUTPUT   the new version.
FAN-OUT  one task per group. The driver waits for each task.
ON ERROR a conflict or a failed store request ends the run. The rows of the group are then not
         visible, and the next run uses the records of the group. If a merge fails, the next merge
         includes its fragments.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

from skytext.errors import JobError, TableHeldError
from skytext.run.cluster.driver_node import run_on_driver_node
from skytext.table.commits.claim import Claim, check_claim, check_claim_on_error
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
    """An object that commits the units of one run, in a task on the driver's node.

    Args:
        claim: claim of the run. If the claim is lost, nothing more is committed.
        column: vector column of the rows.
        fills: the column that the run fills; None for a run that writes rows.
        version: the version that the run started from; None if there is no table.

    Attributes:
        version: the latest version that this run made or saw.
        is_local: whether to commit in this process. This is set when the driver's node is removed
            from the cluster, because such a node accepts no new task.
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
        """Commit either all units or no unit.

        Raises:
            CommitConflictError: another writer has committed after the last version that this run
                made or saw.
            TableHeldError: another run now holds the table.
            JobError: the commit or the cluster failed.
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
        """Merge small fragments, so that searches are faster. If this fails, log a warning."""
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
    """Commit staged units by their records, then delete the records; return the new version.

    The function is idempotent. If the process of an earlier identical call exited after the commit,
    this call returns a version that contains the rows.
    """
    with check_claim_on_error(location, claim_number):
        units, missing = find_records(location, unit_ids)
        if missing:
            return _finish(location, claim_number, units, missing, fills)
        for unit in units:
            if not has_all_files(location, unit):
                raise JobError(
                    f"the files of unit {unit.unit_id} are missing: run the same command again"
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
    """Delete the remaining records of a group that an earlier call committed; return the version.

    Raises:
        JobError: the group was not committed, although some of its records are missing.
    """
    check_claim(location, claim_number)
    table = ImagesTable.find(location)
    if table is None or not _holds(table, units, committed, fills):
        raise JobError(
            f"unit {committed[0]} has no record in {location.uri}/state and is not in the table: "
            "run the same command again"
        )
    forget_records(location, units)
    return table.version


def _holds(
    table: ImagesTable, units: list[StagedUnit], committed: list[str], fills: VectorColumn | None
) -> bool:
    """Return whether the table contains a group of units whose records are partly missing."""
    if fills is None:
        return holds_units(table.dataset, committed)
    # If all records are missing, this run deleted them after its commit. No other run can have
    # deleted them, because this run holds the claim.
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
