"""The fence of the ``images`` data set. A commit fails if another writer has committed first.

An append of Lance has no fence. If two appends are based on the same version, both appends succeed.
An ``Update`` may name an existing fragment without changing it. Two updates that name the same
fragment conflict. An update that names an unchanged fragment keeps indexes valid and does not
conflict with an index build. Therefore every commit after the first commit is an update that names
the first fragment.
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
    """Make every commit fail that was prepared before this call, and return the new version."""
    present = dataset.get_fragments()
    if not present:
        # An empty data set has no fragment that an update can name. An overwrite conflicts with
        # every other commit.
        return commit(dataset, lance.LanceOperation.Overwrite(dataset.schema, []))
    operation = lance.LanceOperation.Update(
        updated_fragments=with_anchor(present, [], []), new_fragments=[], fields_modified=[]
    )
    return commit(dataset, operation)


def commit(dataset: lance.LanceDataset, operation: Any) -> lance.LanceDataset:
    """Commit an operation on top of a version, and return the version that the commit creates.

    A failed commit is not retried.
    """
    return lance.LanceDataset.commit(
        dataset, operation, read_version=dataset.version, max_retries=0
    )


def with_anchor(
    present: Sequence[lance.LanceFragment],
    updated: list[lance.FragmentMetadata],
    removed: Sequence[int],
) -> list[lance.FragmentMetadata]:
    """Return the updated fragments, and always include the first fragment that stays in the table.

    Two updates conflict only if they name the same fragment. Therefore every update names this
    first fragment, even if the update does not change the fragment.
    """
    kept = [fragment for fragment in present if fragment.fragment_id not in set(removed)]
    anchor = min(kept, key=lambda fragment: fragment.fragment_id, default=None)
    if anchor is None or any(fragment.id == anchor.fragment_id for fragment in updated):
        return updated
    return [anchor.metadata, *updated]


def holds_units(dataset: lance.LanceDataset, unit_ids: Collection[str]) -> bool:
    """Return whether the data set has at least one row of each unit.

    The result is False if there are no units.
    """
    if not unit_ids:
        return False
    condition = f"unit_id IN ({', '.join(sql_text(unit_id) for unit_id in sorted(unit_ids))})"
    found = dataset.to_table(columns=["unit_id"], filter=condition).column("unit_id")
    return set(found.unique().to_pylist()) == set(unit_ids)


def rows_changed(since: int, latest: lance.LanceDataset) -> bool:
    """Return whether a commit after version ``since`` may have changed rows or columns."""
    for version in range(since + 1, latest.version + 1):
        try:
            transaction = latest.read_transaction(version)
        except TypeError:
            # Lance 14 cannot load the transaction of a merge of indexed fragments. A bug in
            # RewrittenIndex raises this TypeError. No other transaction raises this error.
            continue
        # None means that the clean-up has deleted the transaction. The transaction may have changed
        # rows.
        if transaction is None or isinstance(transaction.operation, _ROW_OPERATIONS):
            return True
    return False
