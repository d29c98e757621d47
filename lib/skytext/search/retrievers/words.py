"""Images by the words of their descriptions: BM25 of the full-text index."""

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
    """Looks for images by words.

    Args:
        table: a version with a full-text index.
        covered: the index covers every row.
        words: of each query.
        where: only rows that it lets through are found.
    """

    lowest = 0.0
    num_scanned = None
    fetched = None

    def __init__(
        self,
        table: ImagesTable,
        *,
        covered: bool,
        words: Sequence[str],
        where: Condition | None,
    ) -> None:
        self._table = table
        self._covered = covered
        self._words = words
        self._where = where
        self._by_words: dict[str, Found] = {}
        self._lists: list[Found] = []
        self._num = 0

    def candidates(self, num: int) -> Candidates:
        """Return the best ``num`` images of each query, or more; only those with a word of it."""
        self._num = num
        self._lists = [self._list(words, num) for words in self._words]
        complete = not self._covered or all(len(found.ids) < num for found in self._lists)
        ids = np.unique(np.concatenate([found.ids for found in self._lists]))
        return Candidates(ids, exact=True, complete=complete)

    def scores(self, ids: RowIds) -> Floats:
        """Return the BM25 of images for each query, shape (queries, images); 0 without a word."""
        scores = np.zeros((len(self._lists), len(ids)), np.float32)
        for row, words, found in zip(scores, self._words, self._lists, strict=True):
            row[:] = in_places(ids, found.ids, found.scores, 0.0)
            missing = np.setdiff1d(ids, found.ids)
            if self._covered and len(found.ids) >= self._num and len(missing):
                more = word_scores(self._table, words, len(missing), ids=missing)
                row[:] = np.maximum(row, in_places(ids, more.ids, more.scores, 0.0))
        return scores

    def _list(self, words: str, num: int) -> Found:
        """Return the ``num`` images of the best BM25, or more."""
        if not self._covered:
            return self._every(words)
        limit = num + 1
        while True:
            found = word_scores(self._table, words, limit, where=self._where)
            if len(found.ids) < limit or found.scores[-1] < found.scores[num - 1]:
                break
            # Which of the equal ones come first is for us to say, so that it is always the same.
            limit *= 4
        kept = best(found.scores, found.ids, num)
        return Found(found.ids[kept], found.scores[kept])

    def _every(self, words: str) -> Found:
        """Return all images that match and have one of the words.

        Rows that the full-text index does not cover get their BM25 from statistics of the rows
        that are asked for, so that only one question gives scores that compare: all rows.
        """
        if words not in self._by_words:
            found = word_scores(self._table, words, self._table.num_rows())
            if self._where is not None:
                every = matching_ids(self._table, self._where, self._table.num_rows())
                kept = np.isin(found.ids, every)
                found = Found(found.ids[kept], found.scores[kept])
            order = best(found.scores, found.ids, len(found.ids))
            self._by_words[words] = Found(found.ids[order], found.scores[order])
        return self._by_words[words]
