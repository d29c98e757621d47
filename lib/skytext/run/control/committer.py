"""Commit groups of staged units.

INPUT    names of staged units, and the version that the driver saw last.
OUTPUT   the new version.
FAN-OUT  one task a group, one after the other: the driver waits for each.
ON ERROR a conflict or a store that refuses ends the run; the group's rows are not visible, and
         its records wait for the next run.

On a worker, not on the driver: Lance keeps the metadata of every file it opens, and a driver's
memory must not grow with the table.
"""

from __future__ import annotations

from collections.abc import Sequence

import ray

from skytext.errors import JobError
from skytext.run.control.cluster import result_of
from skytext.table.commits.claim import Claim, check_claim, told_by_claim
from skytext.table.commits.commit_rows import Committer
from skytext.table.commits.stage_rows import forget_records, has_all_files, read_records
from skytext.table.compaction import merge_small_fragments
from skytext.table.images_dataset import ImagesTable, TableIdentity
from skytext.table.location import TableLocation
from skytext.table.runs_dataset import RunRecord, record_run

_COMMITS_A_MERGE = 32


class RemoteCommitter:
    """Commits for one run, on the cluster; the version is all that it keeps.

    Args:
        claim: of the run; without it nothing is committed.
        identity: what the rows are made with.
        version: the version that the run started from; None where there was no table.

    Attributes:
        version: the latest that this run made or saw.
        is_local: commit in this process from now on: a node that goes away takes no new task.
    """

    def __init__(self, claim: Claim, identity: TableIdentity, version: int | None) -> None:
        self._claim = claim
        self._identity = identity
        self._num_commits = 0
        self.version = version
        # No retry: a second attempt after a commit that landed would conflict with the first.
        self._commit = ray.remote(num_cpus=0, max_retries=0)(commit_units)
        self._merge = ray.remote(num_cpus=0, max_retries=0)(_merge)
        self.is_local = False

    def commit(self, unit_ids: Sequence[str]) -> None:
        """Make the units' rows visible, all of them or none.

        Raises:
            CommitConflictError: somebody else committed since the last version seen.
            TableHeldError: another run took the table over.
            JobError: the work failed, or the cluster did.
        """
        location, number = self._claim.location, self._claim.number
        arguments = (location, number, self._identity, self.version, tuple(unit_ids))
        if self.is_local:
            self.version = commit_units(*arguments)
            return
        self.version = result_of(self._commit.remote(*arguments))
        self._num_commits += 1
        if self._num_commits % _COMMITS_A_MERGE == 0:
            self.version = result_of(self._merge.remote(location, number))


def commit_units(
    location: TableLocation,
    claim_number: int,
    identity: TableIdentity,
    version: int | None,
    unit_ids: tuple[str, ...],
) -> int:
    """Commit staged units by their records, then delete these; return the new version."""
    with told_by_claim(location, claim_number):
        units = read_records(location, unit_ids)
        for unit in units:
            if not has_all_files(location, unit):
                raise JobError(
                    f"unit {unit.unit_id}: its files are gone: run the same command again"
                )
    committer = Committer(location, identity, version)
    check_claim(location, claim_number)
    new_version = committer.commit(units)
    forget_records(location, units)
    return new_version


def _merge(location: TableLocation, claim_number: int) -> int:
    check_claim(location, claim_number)
    return merge_small_fragments(ImagesTable.open(location))


def record_run_remotely(location: TableLocation, run: RunRecord, *, is_local: bool = False) -> None:
    """Append a run's record, on the cluster or in this process."""
    if is_local:
        record_run(location, run)
        return
    result_of(ray.remote(num_cpus=0)(record_run).remote(location, run))
