"""Merge small fragments: every commit adds one fragment per unit."""

from __future__ import annotations

import lance
from lance.commit import CommitConflictError as LanceConflict

from skytext.errors import CommitConflictError
from skytext.table.commit_conflicts import is_conflict
from skytext.table.images_dataset import ImagesTable

_MERGE_FROM_FRAGMENTS = 8
# A search fetches rows from a few large fragments twice as fast as from ten small ones
# (docs/benchmarks.md). An index build reads every vector anyway, so rewriting them is cheap.
ROWS_PER_FRAGMENT = 1_000_000
# During a run, larger fragments are left alone, so each row is rewritten about twice.
_SMALL_ROWS = 16_384


def merge_fragments(dataset: lance.LanceDataset) -> None:
    """Merge fragments into large ones. Creates a version unless there is little to merge.

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
    """Merge small fragments of the last commits; return the latest version."""
    try:
        table.dataset.optimize.compact_files(target_rows_per_fragment=_SMALL_ROWS)
    except (LanceConflict, OSError) as error:
        # Another index build or merge came first. The next merge includes these fragments.
        if not is_conflict(error):
            raise
    return ImagesTable.open(table.location).version
