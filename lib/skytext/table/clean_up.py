"""Remove old versions of a table, and remove the files that no remaining version uses.

A clean-up keeps the latest version, the versions for roll-backs, the versions that were live
recently, the versions that a service uses, and all versions that are younger than a given age.
Lance removes the other versions and the files that only these versions use. Lance also removes
orphaned files that are older than seven days. The clean-up also deletes old query logs of services.
The clean-up holds the claim, so no run writes files at the same time.
"""

from __future__ import annotations

import datetime as dt
import shlex
import uuid
from dataclasses import asdict, dataclass
from typing import Any

import lance

from skytext.errors import JobError
from skytext.table.commits.adoption import NEVER
from skytext.table.commits.claim import hold
from skytext.table.commits.stage_rows import staged_unit_ids
from skytext.table.images_dataset import ImagesTable, open_dataset
from skytext.table.location import RUNS, TableLocation
from skytext.table.logged_queries import forget_queries
from skytext.table.store.store_retry import again, while_tags_change
from skytext.table.versions.held_versions import held_versions
from skytext.table.versions.promote_rollback import MAX_KEPT, recent_versions

COMMAND = "clean"
# Versions that were live recently are kept, because the cursor of a search may still refer to them.
_RECENT = 2 * MAX_KEPT
_RUNS_FRAGMENTS = 64


@dataclass(frozen=True, slots=True)
class CleanUp:
    """The result of a clean-up, or of a dry run.

    Attributes:
        num_versions: number of versions of the images data set that were removed.
        num_kept: number of versions of the images data set that were kept.
        num_bytes: total size of all removed files, in bytes.
        num_files: number of removed files (data files, index files and deletion files).
        is_dry: true if this was a dry run. A dry run removes nothing.
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
    """Remove unneeded versions and files.

    Args:
        location: the table.
        keep_days: versions that are younger than this number of days are kept.
        is_dry: true to report the result without removing anything.

    Raises:
        TableError: the table does not exist.
        JobError: staged units are not committed yet, or a store request failed.
        TableHeldError: a run holds the table.
    """
    if is_dry:
        return _clean_images(ImagesTable.open(location), keep_days, is_dry)
    with hold(location, uuid.uuid4().hex, COMMAND):
        return clean_held_table(location, keep_days)


def bytes_of_old_versions(table: ImagesTable) -> tuple[int, int]:
    """Return the number of old versions, and the size of the files that only old versions use.

    All versions except the latest version are old. The size does not include files that a version
    with a tag uses.
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
    """Clean up for a caller that already holds the claim.

    Raises: the same errors as `clean_up`, except TableHeldError.
    """
    table = ImagesTable.open(location)
    waiting = staged_unit_ids(location)
    if waiting:
        raise JobError(
            f"{len(waiting):,} staged units are not committed yet. Start the last run again. When "
            f"it has ended, run: skytext clean {shlex.quote(location.uri)}"
        )
    done = _clean_images(table, keep_days, is_dry=False)
    _clean_runs(location)
    forget_queries(location)
    return done


@while_tags_change
def _clean_images(table: ImagesTable, keep_days: float, is_dry: bool) -> CleanUp:
    versions = again(table.dataset.versions)()
    held = held_versions(table.location, forget=not is_dry)
    needed = {table.version, *table.tags().values(), *held}
    needed |= set(recent_versions(table.location, _RECENT))
    youngest = dt.datetime.now(dt.UTC) - dt.timedelta(days=keep_days)
    unneeded = [
        int(one["version"])
        for one in versions
        if one["version"] not in needed and one["timestamp"].astimezone(dt.UTC) <= youngest
    ]
    dataset = table.dataset
    options: dict[str, Any] = {"error_if_tagged_old_versions": False}
    # If the list of versions is empty, Lance removes all versions that are older than a default
    # age. So pass an age of a century in this case. No version is older than a century.
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
    """Compact the runs data set. Each run adds two fragments and two versions to it."""
    runs: lance.LanceDataset | None = open_dataset(location, RUNS)
    if runs is None:
        return
    if len(runs.get_fragments()) >= _RUNS_FRAGMENTS:
        runs.optimize.compact_files()
    runs.cleanup_old_versions(older_than=dt.timedelta(days=1))
