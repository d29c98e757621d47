"""Merge small fragments into larger fragments.

A table has many small fragments because every commit adds one fragment per unit.
"""

from __future__ import annotations

import lance
from lance.commit import CommitConflictError as LanceConflict

from skytext.errors import CommitConflictError
from skytext.table.commit_conflicts import is_conflict
from skytext.table.images_dataset import ImagesTable

_MERGE_FROM_FRAGMENTS = 8
# A search fetches rows from a few large fragments twice as fast as from ten small fragments
# (docs/benchmarks.md). A merge rewrites the vectors. This additional cost is small compared with
# the index build after the merge, which reads all vectors.
ROWS_PER_FRAGMENT = 1_000_000
# During a run, only fragments with fewer rows than this number are merged. So each row is rewritten
# about twice.
_SMALL_ROWS = 16_384


def merge_fragments(dataset: lance.LanceDataset) -> None:
    """Merge fragments into large fragments. This creates a new version.

    If the data set has fewer than eight fragments, nothing is changed.

    Raises:
        CommitConflictError: a run committed at the same time.
    """
    if len(dataset.get_fragments()) < _MERGE_FROM_FRAGMENTS:
        return
    try:
        dataset.optimize.compact_files(target_rows_per_fragment=ROWS_PER_FRAGMENT)
    except (LanceConflict, OSError) as error:
        if not is_conflict(error):
            raise
        raise CommitConflictError(
            "a run committed to the table while its fragments were merged: run skytext index again"
        ) from error


def merge_small_fragments(table: ImagesTable) -> int:
    """Merge the small fragments of recent commits, and return the number of the latest version."""
    try:
        table.dataset.optimize.compact_files(target_rows_per_fragment=_SMALL_ROWS)
    except (LanceConflict, OSError) as error:
        # An index build or another merge committed first, so this merge failed. The next merge will
        # merge these fragments.
        if not is_conflict(error):
            raise
    return ImagesTable.open(table.location).version
