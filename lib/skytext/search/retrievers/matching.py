"""The images that match the filter in a search request."""

from __future__ import annotations

from functools import cached_property

from skytext.filters.conditions import Condition
from skytext.table.images_dataset import ImagesTable
from skytext.table.queries.caption_queries import RowIds, count_matching, matching_ids

# If each image has 5 vectors with 384 dimensions, an exact search of 1,000 images takes about 20
# ms. A search with an index also takes about 20 ms. An exact search of 3,000 images takes about
# three times as long. This is accepted because exact results are better.
_SCORED_WITHOUT_INDEX = 3_000
_FILTERS_KNOWN = 1_000


class Matching:
    """The images that match a filter. If there is no filter, all captioned images match.

    Args:
        table: the version of the table.
        where: the filter, or None.
        counts: a cache of the number of matching images. Its keys are the keys of the filters. The
            cache stays valid, because a version never changes. It is needed because counting takes
            as much time as a search.
    """

    def __init__(
        self, table: ImagesTable, where: Condition | None, counts: dict[str | None, int]
    ) -> None:
        self.where = where
        self._table = table
        self._counts = counts
        self._key = None if where is None else where.key()

    @cached_property
    def few(self) -> RowIds | None:
        """The row ids of all matching images.

        None if there is no filter, or if too many images match.
        """
        if self.where is None or self._counts.get(self._key, 0) > _SCORED_WITHOUT_INDEX:
            return None
        ids = matching_ids(self._table, self.where, _SCORED_WITHOUT_INDEX + 1)
        return ids if len(ids) <= _SCORED_WITHOUT_INDEX else None

    @cached_property
    def num(self) -> int:
        """The number of images that match."""
        if self._key not in self._counts:
            if len(self._counts) >= _FILTERS_KNOWN:
                self._counts.clear()
            self._counts[self._key] = count_matching(self._table, self.where)
        return self._counts[self._key]

    @property
    def part(self) -> float:
        """The number of matching images divided by the number of rows in the table, 0 to 1."""
        return self.num / self._table.num_rows()
