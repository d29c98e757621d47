"""Find images by the words in their descriptions. The full-text index computes BM25 scores."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from skytext.filters.conditions import Condition
from skytext.search.fusion import best
from skytext.search.retrievers.retriever import Candidates, in_places
from skytext.table.images_dataset import ImagesTable
from skytext.table.queries.caption_queries import (
    Floats,
    Found,
    RowIds,
    matching_ids,
    word_scores,
)


class WordRetriever:
    """Finds images by words.

    The index finds the best rows among the rows that it covers. A small number of rows are not
    covered by the index. Every uncovered row that contains a query word is scored once per query.

    Args:
        table: a version of the table with a full-text index.
        uncovered: ids of the fragments that the index does not cover.
        words: the words of each query.
        where: the filter, or None.
    """

    lowest = 0.0
    num_scanned = None
    fetched = None

    def __init__(
        self,
        table: ImagesTable,
        *,
        uncovered: Sequence[int],
        words: Sequence[str],
        where: Condition | None,
    ) -> None:
        self._table = table
        self._uncovered = uncovered
        self._words = words
        self._where = where
        self._new_by_words: dict[str, Found] = {}
        self._lists: list[Found] = []
        self._num = 0

    def candidates(self, num: int) -> Candidates:
        """Return, for each query, at least the best ``num`` images that contain a query word."""
        self._num = num
        self._lists = [self._list(words, num) for words in self._words]
        new = [self._new(words) for words in self._words]
        complete = all(len(found.ids) < num for found in self._lists)
        ids = np.unique(np.concatenate([found.ids for found in (*self._lists, *new)]))
        return Candidates(ids, exact=True, complete=complete)

    def scores(self, ids: RowIds) -> Floats:
        """Return BM25, shape (queries, images). The score of an image without query words is 0."""
        scores = np.zeros((len(self._lists), len(ids)), np.float32)
        for row, words, found in zip(scores, self._words, self._lists, strict=True):
            new = self._new(words)
            row[:] = in_places(ids, found.ids, found.scores, 0.0)
            row[:] = np.maximum(row, in_places(ids, new.ids, new.scores, 0.0))
            missing = np.setdiff1d(ids, np.concatenate([found.ids, new.ids]))
            if len(found.ids) >= self._num and len(missing):
                more = word_scores(self._table, words, len(missing), ids=missing)
                row[:] = np.maximum(row, in_places(ids, more.ids, more.scores, 0.0))
        return scores

    def _list(self, words: str, num: int) -> Found:
        """Return the ``num`` images with the highest BM25 among the images in the index."""
        limit = num + 1
        while True:
            found = word_scores(self._table, words, limit, where=self._where)
            if len(found.ids) < limit or found.scores[-1] < found.scores[num - 1]:
                break
            # The last images have equal scores, and further images can have the same score. Fetch
            # all images with this score, because images with equal scores are sorted by row id.
            limit *= 4
        kept = best(found.scores, found.ids, num)
        return Found(found.ids[kept], found.scores[kept])

    def _new(self, words: str) -> Found:
        """Return the matching images that contain a query word and are not covered by the index.

        The BM25 of an uncovered image depends on the other rows in the same search. So each search
        includes all uncovered rows, and the filter is applied afterwards.
        """
        if not self._uncovered:
            return Found(np.empty(0, np.uint64), np.empty(0, np.float32))
        if words not in self._new_by_words:
            num_rows = self._table.num_rows()
            found = word_scores(self._table, words, num_rows, uncovered=self._uncovered)
            if self._where is not None:
                every = matching_ids(self._table, self._where, num_rows, self._uncovered)
                kept = np.isin(found.ids, every)
                found = Found(found.ids[kept], found.scores[kept])
            self._new_by_words[words] = found
        return self._new_by_words[words]
