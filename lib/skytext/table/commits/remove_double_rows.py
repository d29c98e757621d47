"""Leave one row for each image that has several.

skytext's own commits make no second row. Another writer, or a copy of a table that was merged into
it, may.
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
    """What was repaired.

    Attributes:
        num_images: images that had more than one row.
        num_removed: rows removed.
        table_version: the version now.
    """

    num_images: int
    num_removed: int
    table_version: int


def remove_double_rows(location: TableLocation) -> Repair:
    """Remove all rows but one of each image: an ``ok`` row is kept, of several the newest.

    Raises:
        TableError: there is no such table.
        TableHeldError: a run holds it.
        CommitConflictError: somebody else committed meanwhile.
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
