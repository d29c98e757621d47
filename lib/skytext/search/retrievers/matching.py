"""The images that match a question's filter."""

from __future__ import annotations

from functools import cached_property

from skytext.filters.conditions import Condition
from skytext.table.images_dataset import ImagesTable
from skytext.table.queries.caption_queries import RowIds, count_matching, matching_ids

# An exact search of a thousand images (five vectors of 384 numbers each) takes about 20 ms, as long
# as a search by index. Up to this number an exact answer is worth its extra cost.
_SCORED_WITHOUT_INDEX = 3_000
_FILTERS_KNOWN = 1_000


class Matching:
    """The images that match a question's filter; without a filter, all captioned images.

    Args:
        table: the version.
        where: the filter.
        counts: cache of the number of matches by filter key. A version never changes, and counting
            costs as much as a search.
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
        """All rows that match the filter if they are few; else None."""
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
        """The part of the table's rows that matches, 0 to 1."""
        return self.num / self._table.num_rows()
