"""What makes a commit to the ``images`` data set fail where another writer was faster.

A plain Lance append cannot be fenced: two appends from the same stale version both land. An
``Update`` that names an existing fragment, unchanged, beside the new ones does conflict with
any other update that names the same one, leaves indexes valid and does not conflict with an index
build. So every commit but the one that creates the data set is an update that names the first
fragment, whatever else it changes.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import lance

from skytext.table.images_dataset import sql_text

_ROW_OPERATIONS = (
    lance.LanceOperation.Append,
    lance.LanceOperation.Delete,
    lance.LanceOperation.Merge,
    lance.LanceOperation.Overwrite,
    lance.LanceOperation.Project,
    lance.LanceOperation.Restore,
    lance.LanceOperation.Update,
)


def raise_fence(dataset: lance.LanceDataset) -> lance.LanceDataset:
    """Make every commit that was prepared before this one a conflict; return the new version."""
    present = dataset.get_fragments()
    if not present:
        # No fragment to name; an overwrite conflicts with whatever came between.
        return commit(dataset, lance.LanceOperation.Overwrite(dataset.schema, []))
    operation = lance.LanceOperation.Update(
        updated_fragments=with_anchor(present, [], []), new_fragments=[], fields_modified=[]
    )
    return commit(dataset, operation)


def commit(dataset: lance.LanceDataset, operation: Any) -> lance.LanceDataset:
    """Commit an operation to a version, once, and return the new version."""
    return lance.LanceDataset.commit(
        dataset, operation, read_version=dataset.version, max_retries=0
    )


def with_anchor(
    present: Sequence[lance.LanceFragment],
    updated: list[lance.FragmentMetadata],
    removed: Sequence[int],
) -> list[lance.FragmentMetadata]:
    """Return the updated fragments, the first one that is kept always among them.

    Two updates conflict only where they name the same fragment.
    """
    kept = [fragment for fragment in present if fragment.fragment_id not in set(removed)]
    anchor = min(kept, key=lambda fragment: fragment.fragment_id, default=None)
    if anchor is None or any(fragment.id == anchor.fragment_id for fragment in updated):
        return updated
    return [anchor.metadata, *updated]


def holds_units(dataset: lance.LanceDataset, unit_ids: Collection[str]) -> bool:
    """Return whether rows of all these units are in the data set; of no units, False."""
    if not unit_ids:
        return False
    condition = f"unit_id IN ({', '.join(sql_text(unit_id) for unit_id in sorted(unit_ids))})"
    found = dataset.to_table(columns=["unit_id"], filter=condition).column("unit_id")
    return set(found.unique().to_pylist()) == set(unit_ids)


def rows_changed(since: int, latest: lance.LanceDataset) -> bool:
    """Return whether any commit after version ``since`` did more than maintenance."""
    for version in range(since + 1, latest.version + 1):
        try:
            transaction = latest.read_transaction(version)
        except TypeError:
            # Lance 14 cannot show a merge of fragments that indexes were carried along with
            # (RewrittenIndex lacks arguments); no other transaction holds such a thing.
            continue
        # A transaction that clean-up removed may have changed rows.
        if transaction is None or isinstance(transaction.operation, _ROW_OPERATIONS):
            return True
    return False
