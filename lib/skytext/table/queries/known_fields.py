"""Whether any image of a version has what a filter asks about."""

from __future__ import annotations

import json
from functools import lru_cache

from skytext.filters.columns import Need
from skytext.table.field_catalogue import Coverage, read_catalogue
from skytext.table.images_dataset import ImagesTable
from skytext.table.schema import DONE

_NEEDS_KEPT = 10_000


class KnownFields:
    """What the images of one version have: by its catalogue, else by a scan that is remembered.

    Args:
        table: the version.
    """

    def __init__(self, table: ImagesTable) -> None:
        self._table = table
        catalogue = read_catalogue(table.dataset)
        self._coverage = Coverage.NONE
        if catalogue is not None:
            self._coverage = catalogue.coverage(table.dataset)
        self._catalogue = catalogue
        self.has = lru_cache(_NEEDS_KEPT)(self._has)

    def _has(self, need: Need) -> bool:
        """Return whether any image that is done has what a condition asks about."""
        if self._catalogue is not None and self._coverage is not Coverage.NONE:
            known = self._catalogue.has(need)
            if known or (known is False and self._coverage is Coverage.ALL):
                return known
        condition = f"{DONE} AND {need.sql}"
        scanner = self._table.dataset.scanner(
            columns=[], with_row_id=True, filter=condition, limit=1
        )
        return int(scanner.to_table().num_rows) > 0

    def filter_columns(self) -> list[str]:
        """Return which of the columns that a source may leave empty hold something."""
        there = {
            "datetime": "datetime IS NOT NULL",
            "bbox": "bbox.west IS NOT NULL",
            "gsd": "gsd IS NOT NULL",
            "collection": "collection IS NOT NULL",
        }
        return [name for name, sql in there.items() if self.has(Need(name, None, sql))]

    def metadata_names(self, num_rows: int = 100) -> list[str]:
        """Return the top-level names in the metadata of the first images that have any."""
        scanner = self._table.dataset.scanner(
            columns=["metadata"], filter=f"{DONE} AND metadata IS NOT NULL", limit=num_rows
        )
        names: set[str] = set()
        for text in scanner.to_table().column("metadata").to_pylist():
            found = json.loads(text)
            names.update(found if isinstance(found, dict) else ())
        return sorted(names)
