"""Remove versions that nobody needs any more, and files that no version refers to.

What stays: the latest version, the versions that a roll-back may lead to, those that were live a
short while ago, those that a service uses, and all that are younger than a given age. Lance removes
the others, their files, and files older than seven days that no version refers to. The claim is
held meanwhile, so no run has files that are not committed yet.
"""

from __future__ import annotations

import datetime as dt
import uuid
from dataclasses import asdict, dataclass
from typing import Any

import lance

from skytext.errors import JobError
from skytext.table.commits.adoption import NEVER
from skytext.table.commits.claim import hold
from skytext.table.commits.stage_rows import staged_unit_ids
from skytext.table.held_versions import held_versions
from skytext.table.images_dataset import ImagesTable, open_dataset
from skytext.table.location import RUNS, TableLocation
from skytext.table.promote_rollback import MAX_KEPT, recent_versions
from skytext.table.store_retry import again

COMMAND = "clean"
# Versions that were live last: cursors of searches may still name one.
_RECENT = 2 * MAX_KEPT
_RUNS_FRAGMENTS = 64


@dataclass(frozen=True, slots=True)
class CleanUp:
    """What a clean-up removed, or would remove.

    Attributes:
        num_versions: versions of the images.
        num_kept: versions that stay.
        num_bytes: of all files.
        num_files: data, index and deletion files.
        is_dry: whether nothing was removed.
    """

    num_versions: int
    num_kept: int
    num_bytes: int
    num_files: int
    is_dry: bool

    def to_json(self) -> dict[str, Any]:
        """Return the fields as a JSON object."""
        return asdict(self)


def clean_up(location: TableLocation, *, keep_days: float, is_dry: bool = False) -> CleanUp:
    """Remove what nobody needs any more.

    Args:
        location: the table.
        keep_days: versions younger than this stay.
        is_dry: remove nothing, and say what would be.

    Raises:
        TableError: there is no such table.
        JobError: units wait that a run has staged, or the store refuses.
        TableHeldError: a run holds it.
    """
    if is_dry:
        return _clean_images(ImagesTable.open(location), keep_days, is_dry)
    with hold(location, uuid.uuid4().hex, COMMAND):
        return clean_held_table(location, keep_days)


def bytes_of_old_versions(table: ImagesTable) -> tuple[int, int]:
    """Return how many versions there are besides the latest, and the bytes that only they need.

    Files of versions that have a tag are not counted.
    """
    latest = table.latest_version()
    old = [int(one["version"]) for one in again(table.dataset.versions)()]
    old.remove(latest)
    if not old:
        return 0, 0
    found = table.dataset.explain_cleanup_old_versions(
        versions=old, error_if_tagged_old_versions=False
    )
    return len(old), int(found.stats.bytes_removed)


def clean_held_table(location: TableLocation, keep_days: float) -> CleanUp:
    """Do the same for a run that holds the table.

    Raises: as `clean_up`.
    """
    table = ImagesTable.open(location)
    waiting = staged_unit_ids(location)
    if waiting:
        raise JobError(
            f"{len(waiting):,} units that a run has staged wait for the next run: run it, then "
            f"skytext clean {location.uri}"
        )
    done = _clean_images(table, keep_days, is_dry=False)
    _clean_runs(location)
    return done


def _clean_images(table: ImagesTable, keep_days: float, is_dry: bool) -> CleanUp:
    versions = again(table.dataset.versions)()
    needed = {table.version, *table.tags().values(), *held_versions(table.location)}
    needed |= set(recent_versions(table.location, _RECENT))
    youngest = dt.datetime.now(dt.UTC) - dt.timedelta(days=keep_days)
    unneeded = [
        int(one["version"])
        for one in versions
        if one["version"] not in needed and one["timestamp"].astimezone(dt.UTC) <= youngest
    ]
    dataset = table.dataset
    options: dict[str, Any] = {"error_if_tagged_old_versions": False}
    # Lance takes an empty list for "as you see fit". No version is older than a century.
    options |= {"versions": unneeded} if unneeded else {"older_than": NEVER}
    if is_dry:
        found = dataset.explain_cleanup_old_versions(**options).stats
    else:
        found = dataset.cleanup_old_versions(**options)
    return CleanUp(
        num_versions=int(found.old_versions),
        num_kept=len(versions) - int(found.old_versions),
        num_bytes=int(found.bytes_removed),
        num_files=int(
            found.data_files_removed + found.index_files_removed + found.deletion_files_removed
        ),
        is_dry=is_dry,
    )


def _clean_runs(location: TableLocation) -> None:
    """Merge the runs, each of which is two fragments and two versions."""
    runs: lance.LanceDataset | None = open_dataset(location, RUNS)
    if runs is None:
        return
    if len(runs.get_fragments()) >= _RUNS_FRAGMENTS:
        runs.optimize.compact_files()
    runs.cleanup_old_versions(older_than=dt.timedelta(days=1))
