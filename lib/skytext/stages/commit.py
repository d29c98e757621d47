"""Commit groups of staged units.

INPUT    staged units, and the version that the driver saw last.
OUTPUT   the new version.
FAN-OUT  one task a group, one after the other: the driver waits for each.
ON ERROR a conflict or a store that refuses ends the run; the group's rows are not visible.

On a worker, not on the driver: Lance keeps the metadata of every file it opens, and a driver's
memory must not grow with the table.
"""

from __future__ import annotations

from collections.abc import Sequence

import ray

from skytext.stages.cluster import result_of
from skytext.table.commit import Committer
from skytext.table.images import TableIdentity
from skytext.table.location import TableLocation
from skytext.table.runs import RunRecord, record_run
from skytext.table.staging import StagedUnit


class RemoteCommitter:
    """A `Committer` whose work is done on the cluster; the version is all that it keeps.

    Args:
        location: the table.
        identity: what the rows are made with.
        version: the version that the run started from; None where there was no table.
    """

    def __init__(
        self, location: TableLocation, identity: TableIdentity, version: int | None
    ) -> None:
        self._location = location
        self._identity = identity
        self.version = version
        # No retry: a second attempt after a commit that landed would conflict with the first.
        self._task = ray.remote(num_cpus=0, max_retries=0)(_commit)

    def commit(self, units: Sequence[StagedUnit]) -> None:
        """Make the units' rows visible, all of them or none.

        Raises:
            CommitConflictError: somebody else committed since the last version seen.
            JobError: the work failed, or the cluster did.
        """
        reference = self._task.remote(self._location, self._identity, self.version, tuple(units))
        self.version = result_of(reference)


def _commit(
    location: TableLocation,
    identity: TableIdentity,
    version: int | None,
    units: tuple[StagedUnit, ...],
) -> int:
    return Committer(location, identity, version).commit(units)


def record_run_remotely(location: TableLocation, run: RunRecord) -> None:
    """Append a run's record, on the cluster."""
    result_of(ray.remote(num_cpus=0)(record_run).remote(location, run))
