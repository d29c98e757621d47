"""Commit staged units. Several units are committed together.

INPUT    ids of staged units, and the last table version that the driver has seen.
OUTPUT   the new table version.
FAN-OUT  one task per commit. The driver waits for each task.
ON ERROR a conflict or a failed store request ends the run. No row of these units is then visible.
         The records of the units are still stored, and the next run commits the units. If a merge
         of fragments fails, the next merge includes the same fragments.
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
        claim: the claim that the run holds on the table. If the claim is lost, no more units are
            committed.
        column: vector column of the rows.
        fills: the vector column that the run fills; None if the run writes rows.
        version: the table version that the run started from; None if there is no table.

    Attributes:
        version: the latest table version that this run made or saw.
        is_local: whether to commit in this process. The run sets this when the cluster will remove
            the driver's node, because the node then accepts no new tasks.
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
        """Commit the units together. After an error, no unit is committed.

        Raises:
            CommitConflictError: another process has committed a version after the last version that
                this run made or saw.
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
            logger.warning("the small fragments of the table could not be merged: %s", error)


def commit_units(
    location: TableLocation,
    claim_number: int,
    column: VectorColumn,
    version: int | None,
    unit_ids: tuple[str, ...],
    fills: VectorColumn | None = None,
) -> int:
    """Commit staged units, then delete the records of the units; return the new table version.

    The function is idempotent. A worker process may exit after it has committed the units. A second
    call then returns a version that contains the units.
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
    """Delete the remaining records of units that an earlier call committed.

    Returns:
        The latest table version.

    Raises:
        JobError: the units were not committed, although some of their records are missing.
    """
    check_claim(location, claim_number)
    table = ImagesTable.find(location)
    if table is None or not _holds(table, units, committed, fills):
        raise JobError(
            f"unit {committed[0]} is not in the table and has no record in {location.uri}/state: "
            "run the same command again"
        )
    forget_records(location, units)
    return table.version


def _holds(
    table: ImagesTable, units: list[StagedUnit], committed: list[str], fills: VectorColumn | None
) -> bool:
    """Return whether the table contains the units that were to be committed together.

    Args:
        table: the latest version of the table.
        units: the units that still have a record.
        committed: ids of the units that have no record.
        fills: see `RemoteCommitter`.
    """
    if fills is None:
        return holds_units(table.dataset, committed)
    # If all records are missing, this run has deleted them after its commit. No other run can have
    # deleted them, because this run holds the claim on the table.
    return not units or holds_vectors(table, fills, read_vectors(table.location, units[:1]))


def merge(location: TableLocation, claim_number: int) -> int:
    """Merge small fragments; return the new table version."""
    check_claim(location, claim_number)
    return merge_small_fragments(ImagesTable.open(location))


def record_run_remotely(location: TableLocation, run: RunRecord, *, is_local: bool = False) -> None:
    """Append the record of a run to the table.

    The function runs in a task on the driver's node, or in this process if ``is_local`` is true.
    """
    if is_local:
        record_run(location, run)
        return
    run_on_driver_node(record_run, location, run)
