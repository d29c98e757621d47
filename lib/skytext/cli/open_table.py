"""Open the table of a command."""

from __future__ import annotations

from skytext.table.images_dataset import ImagesTable
from skytext.table.location import TableLocation


def open_table(uri: str, version: int | None) -> ImagesTable:
    """Open a version of a table. None means the live version, or the latest if none is live.

    Raises:
        TableError: the table or version does not exist, or skytext did not make it.
    """
    return ImagesTable.open_served(TableLocation.parse(uri), version)
