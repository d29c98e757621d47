"""Rank the images of a table for one question, as deep as is wanted.

Candidates come from the indexes; every candidate is then scored from its own vectors and words, so
that a score does not depend on how the image was found. Where an index returns less than there is,
its answer is thrown away and every matching row is scored.
"""

from __future__ import annotations

from functools import cached_property

import numpy as np

from skytext.search.fusion import best, fuse, mean_lengths, pool
from skytext.search.ranking_inputs import Question, Ranking, Served, Tops
from skytext.table.queries.caption_queries import (
    Floats,
    Found,
    RowIds,
    Variants,
    count_matching,
    matching_ids,
    nearest,
    scan_variants,
    word_scores,
)

# Fetching and scoring a thousand images of five vectors of 384 numbers takes about 20 ms, which is
# what the index takes; up to here an exact answer is worth what it costs more.
_SCORED_WITHOUT_INDEX = 3_000
_FILTERS_KNOWN = 1_000
# A matrix product's last digits depend on its shape.
_ROUNDING = 1e-5
# Cosine and BM25 start here: hybrid scores are measured from the lower end of each scale.
_FLOORS = (-1.0, 0.0)


class Ranker:
    """Ranks the images of a table for one question."""

    def __init__(self, served: Served, question: Question) -> None:
        self._served = served
        self._table = served.table
        self._question = question
        self._by_words: dict[str, Found] = {}

    def rank(self, depth: int, tops: Tops | None = None) -> Ranking:
        """Return the first ``depth`` images, or all that match.

        Args:
            depth: at least 1.
            tops: of the ranking whose continuation this is: its scores keep their scale.
        """
        if self._question.mode == "dense":
            return self._rank_dense(depth)
        if self._question.mode == "text":
            return self._rank_text(depth)
        return self._rank_hybrid(depth, tops)

    def _rank_dense(self, depth: int) -> Ranking:
        wanted = depth if self._question.pooling == "max" else self._num_candidates(depth)
        ids, exact, complete = self._dense_ids(wanted)
        variants = self._served.rows.variants(ids)
        scores = self._pooled(variants).max(axis=0)
        ranking = Ranking(variants.ids, scores, None, exact, complete, variants=variants)
        return ranking.first(depth)

    def _rank_text(self, depth: int) -> Ranking:
        lists = [self._text_list(words, depth) for words in self._question.words]
        complete = not self._served.text_covered or all(len(f.ids) < depth for f in lists)
        ids = np.unique(np.concatenate([found.ids for found in lists]))
        scores = self._bm25(ids, lists, depth).max(axis=0)
        return Ranking(ids, scores, scores, True, complete).first(depth)

    def _rank_hybrid(self, depth: int, tops: Tops | None) -> Ranking:
        num = self._num_candidates(depth)
        while True:
            ranking, unseen = self._rank_candidates(num, tops)
            first = ranking.first(depth)
            # An image on neither list has at most what the ends of both lists would have. Where an
            # index chose the one of them, the answer is no exact one in any case.
            enough = len(first.ids) == depth and first.scores[-1] >= unseen
            if not ranking.exact or ranking.complete or enough:
                return first
            num *= 4

    def _rank_candidates(self, num: int, tops: Tops | None) -> tuple[Ranking, float]:
        """Fuse ``num`` images of each list; return also the most that any other image may have."""
        lists = [self._text_list(words, num) for words in self._question.words]
        dense, exact, complete = self._dense_ids(num)
        ids = np.unique(np.concatenate([dense, *(found.ids for found in lists)]))
        variants = self._served.rows.variants(ids)
        cosines = self._pooled(variants)
        bm25 = self._bm25(variants.ids, lists, num)
        if tops is None:
            tops = _row_maxima(cosines), _row_maxima(bm25)
        last = np.array([[found.scores[-1] if len(found.ids) >= num else 0.0] for found in lists])
        end = _ends(cosines[:, np.isin(variants.ids, dense)], num)
        fused = self._fuse(
            np.concatenate([cosines, end], axis=1), np.concatenate([bm25, last], axis=1), tops
        ).max(axis=0)
        ranking = Ranking(
            variants.ids, fused[:-1], bm25.max(axis=0), exact, complete, tops, variants
        )
        return ranking, float(fused[-1])

    def _fuse(self, cosines: Floats, bm25: Floats, tops: Tops) -> Floats:
        """Fuse scores on the scale of ``tops``, whichever images are among them."""
        with_tops = [
            np.concatenate([np.minimum(scores, np.array(top)[:, None]), np.array(top)[:, None]], 1)
            for scores, top in zip((cosines, bm25), tops, strict=True)
        ]
        weights = (1.0, self._question.text_weight)
        return fuse(with_tops, "floor", weights, _FLOORS)[:, :-1]

    def _num_candidates(self, depth: int) -> int:
        return max(self._question.num_candidates, 5 * depth)

    def _pooled(self, variants: Variants) -> Floats:
        """Return the scores of images for each query, shape (queries, images)."""
        if not len(variants.ids):
            return np.empty((len(self._question.vectors), 0), np.float32)
        lengths = None
        if self._question.pooling != "max":
            lengths = mean_lengths(variants.vectors, variants.offsets)
        scores = cosines_of(self._question.vectors, variants.vectors)
        return pool(scores, variants.offsets, self._question.pooling, lengths)

    def _dense_ids(self, num: int) -> tuple[RowIds, bool, bool]:
        """Return the best ``num`` images of each query, whether all were scored, and are here."""
        if self._few is not None:
            return self._few, True, True
        facts = self._served.facts
        probing = self._served.probing
        if facts is None or probing is None or self._question.exact:
            return self._scan(num)
        if self._question.where is not None:
            probing = probing.widened(self._part, facts.num_partitions)
        found = [
            nearest(
                self._table,
                vector,
                num,
                probing,
                self._question.where,
                covered=self._served.covered,
            ).ids
            for vector in self._question.vectors
        ]
        shortest = min(map(len, found))
        if shortest < num and shortest < self._num_matching:
            return self._scan(num)
        ids = np.unique(np.concatenate(found))
        return ids, False, len(ids) >= self._num_matching

    def _scan(self, num: int) -> tuple[RowIds, bool, bool]:
        """Score every row; return the best ``num`` images of each query, and equal ones."""
        ids = np.empty(0, np.uint64)
        scores = np.empty((len(self._question.vectors), 0), np.float32)
        num_rows = 0
        for batch in scan_variants(self._table, self._question.where):
            num_rows += len(batch.ids)
            if len(batch.ids):
                ids = np.concatenate([ids, batch.ids])
                scores = np.concatenate([scores, self._batch_scores(batch)], axis=1)
            if len(ids) > num:
                # What equals the last one stays: which comes first, the exact scores say.
                last = np.partition(scores, len(ids) - num, axis=1)[:, [len(ids) - num]]
                kept = (scores >= last - _ROUNDING).any(axis=0)
                ids, scores = ids[kept], scores[:, kept]
        return ids, True, num_rows <= num

    def _batch_scores(self, batch: Variants) -> Floats:
        """Return scores of shape (queries, images), as `_pooled` but for their last digits."""
        lengths = None
        if self._question.pooling != "max":
            lengths = mean_lengths(batch.vectors, batch.offsets)
        scores = self._question.vectors @ batch.vectors.T
        return pool(scores, batch.offsets, self._question.pooling, lengths)

    def _text_list(self, words: str, num: int) -> Found:
        """Return the ``num`` images of the best BM25, or more."""
        if not self._served.text_covered:
            return self._every_word(words)
        limit = num + 1
        while True:
            found = word_scores(self._table, words, limit, where=self._question.where)
            if len(found.ids) < limit or found.scores[-1] < found.scores[num - 1]:
                break
            # Which of the equal ones come first is for us to say, so that it is always the same.
            limit *= 4
        kept = best(found.scores, found.ids, num)
        return Found(found.ids[kept], found.scores[kept])

    def _every_word(self, words: str) -> Found:
        """Return all images that match and have one of the words.

        Rows that the full-text index does not cover get their BM25 from statistics of the rows
        that are asked for, so that only one question gives scores that compare: all rows.
        """
        if words not in self._by_words:
            found = word_scores(self._table, words, self._table.num_rows())
            where = self._question.where
            if where is not None:
                every = matching_ids(self._table, where, self._table.num_rows())
                kept = np.isin(found.ids, every)
                found = Found(found.ids[kept], found.scores[kept])
            order = best(found.scores, found.ids, len(found.ids))
            self._by_words[words] = Found(found.ids[order], found.scores[order])
        return self._by_words[words]

    def _bm25(self, ids: RowIds, lists: list[Found], num: int) -> Floats:
        """Return the BM25 of images for each query, shape (queries, images); 0 without a word."""
        scores = np.zeros((len(lists), len(ids)), np.float32)
        for row, words, found in zip(scores, self._question.words, lists, strict=True):
            _put(row, ids, found)
            missing = np.setdiff1d(ids, found.ids)
            if self._served.text_covered and len(found.ids) >= num and len(missing):
                _put(row, ids, word_scores(self._table, words, len(missing), ids=missing))
        return scores

    @cached_property
    def _few(self) -> RowIds | None:
        """All rows that match the filter, where they are few; None where they are not."""
        where = self._question.where
        if where is None or self._served.num_matching.get(where.key(), 0) > _SCORED_WITHOUT_INDEX:
            return None
        ids = matching_ids(self._table, where, _SCORED_WITHOUT_INDEX + 1)
        return ids if len(ids) <= _SCORED_WITHOUT_INDEX else None

    @cached_property
    def _num_matching(self) -> int:
        where, known = self._question.where, self._served.num_matching
        if where is None:
            return self._served.num_done
        key = where.key()
        if key not in known:
            if len(known) >= _FILTERS_KNOWN:
                known.clear()
            known[key] = count_matching(self._table, where)
        return known[key]

    @property
    def _part(self) -> float:
        return self._num_matching / self._table.num_rows()


def cosines_of(queries: Floats, vectors: Floats) -> Floats:
    """Return cosines, shape (queries, vectors).

    Not by a matrix product: there the last digits of one pair's cosine depend on how many others
    are computed beside it, and so would the order of pages.
    """
    found: Floats = np.stack([np.einsum("vd,d->v", vectors, query) for query in queries])
    return found


def _put(row: Floats, ids: RowIds, found: Found) -> None:
    if not len(ids):
        return
    order = np.argsort(ids)
    places = np.searchsorted(ids, found.ids, sorter=order)
    places = order[np.minimum(places, len(ids) - 1)]
    here = ids[places] == found.ids
    row[places[here]] = found.scores[here]


def _ends(scores: Floats, num: int) -> Floats:
    """Return the ``num``-th best score of each row, shape (rows, 1); 1 where there are fewer."""
    if scores.shape[1] < num:
        return np.ones((len(scores), 1), np.float32)
    place = scores.shape[1] - num
    ends: Floats = np.partition(scores, place, axis=1)[:, [place]]
    return ends


def _row_maxima(scores: Floats) -> tuple[float, ...]:
    return tuple(float(score) for score in scores.max(axis=1, initial=-1.0))
