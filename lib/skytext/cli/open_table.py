"""Open the table that a command names."""

from __future__ import annotations

from skytext.table.images_dataset import ImagesTable
from skytext.table.location import TableLocation


def open_table(uri: str, version: int | None) -> ImagesTable:
    """Open a table at a version, or (None) at the one that is served.

    Raises:
        TableError: there is no such table or version, or it is not one of ours.
    """
    return ImagesTable.open_served(TableLocation.parse(uri), version)
