"""Open the table that is named on the command line."""

from __future__ import annotations

from skytext.table.images_dataset import ImagesTable
from skytext.table.location import TableLocation


def open_table(uri: str, version: int | None) -> ImagesTable:
    """Open a version of a table.

    Args:
        uri: the address of the table.
        version: the version number. None means the live version, or the latest version if no
            version is live.

    Raises:
        TableError: the table or the version does not exist, or skytext did not create the table.
    """
    return ImagesTable.open_served(TableLocation.parse(uri), version)
