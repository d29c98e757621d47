"""Check whether any image of a version has the fields that a filter uses."""

from __future__ import annotations

import json
from functools import lru_cache

from skytext.filters.columns import Need, metadata_path
from skytext.table.field_catalogue import Coverage, read_catalogue
from skytext.table.images_dataset import ImagesTable
from skytext.table.schema import DONE

_NEEDS_KEPT = 10_000


class KnownFields:
    """The fields that have a value in at least one image of a version.

    The fields are read from the field catalogue of the version. If the catalogue does not contain
    the required information, the version is scanned, and the result is cached.

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
        """Return whether any described image has a value that a condition can test."""
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
        """Return the names of the optional source columns that have a value in any image."""
        there = {
            "datetime": "datetime IS NOT NULL",
            "bbox": "bbox.west IS NOT NULL",
            "gsd": "gsd IS NOT NULL",
            "collection": "collection IS NOT NULL",
        }
        return [name for name, sql in there.items() if self.has(Need(name, None, sql))]

    def metadata_names(self, num_rows: int = 100) -> list[str]:
        """Return the top-level names in the metadata of the images, sorted.

        Args:
            num_rows: maximum number of images whose metadata are read. This limit is used only if
                the version has no up-to-date catalogue.
        """
        if self._catalogue is not None and self._coverage is Coverage.ALL:
            found = (f.name for f in self._catalogue.fields if f.name.startswith("metadata."))
            return sorted({metadata_path(name)[0] for name in found})
        scanner = self._table.dataset.scanner(
            columns=["metadata"], filter=f"{DONE} AND metadata IS NOT NULL", limit=num_rows
        )
        names: set[str] = set()
        for text in scanner.to_table().column("metadata").to_pylist():
            found = json.loads(text)
            names.update(found if isinstance(found, dict) else ())
        return sorted(names)
