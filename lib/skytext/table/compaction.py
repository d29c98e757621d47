"""Keep a table fast while it grows: a commit leaves one small fragment a unit."""

from __future__ import annotations

import lance
from lance.commit import CommitConflictError as LanceConflict

from skytext.errors import CommitConflictError
from skytext.table.commit_conflicts import is_conflict
from skytext.table.images_dataset import ImagesTable

_MERGE_FROM_FRAGMENTS = 8
# A search fetches rows from few large fragments in half of the time that ten small ones take
# (docs/benchmarks.md). An index reads every vector, so that writing a million rows anew is cheap.
ROWS_PER_FRAGMENT = 1_000_000
# While a run goes on: fragments from here on are left alone, so each row is rewritten about twice.
_SMALL_ROWS = 16_384


def merge_fragments(dataset: lance.LanceDataset) -> None:
    """Merge fragments into large ones; makes a version, unless there is little to merge.

    Raises:
        CommitConflictError: a run committed meanwhile.
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
    """Merge what the last commits left; return the version afterwards."""
    try:
        table.dataset.optimize.compact_files(target_rows_per_fragment=_SMALL_ROWS)
    except (LanceConflict, OSError) as error:
        # Somebody else's index or merge came first: the next merge takes what this one left.
        if not is_conflict(error):
            raise
    return ImagesTable.open(table.location).version
