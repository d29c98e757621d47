"""Remove duplicate rows, so that each image has only one row.

The commits of skytext do not create duplicate rows. Another program may create duplicate rows, for
example if it merges a copy of the table.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass

from skytext.table.commits.claim import hold
from skytext.table.commits.commit_rows import Committer
from skytext.table.images_dataset import DoubleRow, ImagesTable
from skytext.table.location import TableLocation
from skytext.table.schema import STATUS_OK

COMMAND = "repair"
_ROWS_A_COMMIT = 10_000


@dataclass(frozen=True, slots=True)
class Repair:
    """The result of a repair.

    Attributes:
        num_images: number of images with more than one row.
        num_removed: number of removed rows.
        table_version: the latest version of the table after the repair.
    """

    num_images: int
    num_removed: int
    table_version: int


def remove_double_rows(location: TableLocation) -> Repair:
    """Keep one row per image, and remove the other rows.

    If an image has rows with status ``ok``, the newest of these rows is kept. If an image has no
    such row, the newest row is kept.

    Raises:
        TableError: the table does not exist.
        TableHeldError: a run holds the table.
        CommitConflictError: another writer committed at the same time.
    """
    with hold(location, uuid.uuid4().hex, COMMAND):
        table = ImagesTable.open(location)
        doubles = table.double_rows()
        surplus = sorted(
            row.address for rows in doubles.values() for row in sorted(rows, key=_worth)[:-1]
        )
        committer = Committer(location, table.text_column, table.version)
        for start in range(0, len(surplus), _ROWS_A_COMMIT):
            addresses = ", ".join(map(str, surplus[start : start + _ROWS_A_COMMIT]))
            committer.remove_rows(f"_rowaddr IN ({addresses})")
    return Repair(len(doubles), len(surplus), committer.version or table.version)


def _worth(row: DoubleRow) -> tuple[bool, float]:
    return row.status == STATUS_OK, row.created_at.timestamp()
