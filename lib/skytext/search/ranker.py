"""Rank the images of one or more tables for one question, to any depth.

The search mode determines the retrievers. First, each retriever proposes candidates. Then each
retriever scores the candidates of all retrievers. Finally, `skytext.search.fusion` computes one
score per image from the scores of the retrievers. Mode hybrid fuses the values of the scores. Other
modes with several retrievers fuse the ranks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from skytext.search.fusion import fuse
from skytext.search.ranking_inputs import Question, Ranking, Scale, Searched
from skytext.search.retrievers.retriever import Candidates, in_places
from skytext.table.queries.caption_queries import Floats, RowIds

# Minimum and maximum number of candidates of each retriever on the first page, if ranks are fused.
# The maximum is needed because the cursor stores the number, and a client can modify the cursor.
_MIN_RANKED, _MAX_RANKED = 100, 100_000


class Ranker:
    """Ranks the images of one table, or of several tables together, for one question."""

    def __init__(self, served: Searched, question: Question) -> None:
        self._question = question
        self._by_kind = served.retrievers(question)
        self._retrievers = list(self._by_kind.values())

    @property
    def scale_shape(self) -> tuple[int, int]:
        """The number of lists in a `Scale` of this question, and the number of values in a list."""
        if self._question.mode == "hybrid":
            return len(self._retrievers), len(self._question.vectors)
        return (1, 1) if len(self._retrievers) > 1 else (0, 0)

    def rank(self, depth: int, scale: Scale | None = None) -> Ranking:
        """Return the best ``depth`` images. If fewer images match, return all matching images.

        Args:
            depth: maximum number of images, at least 1.
            scale: `Ranking.scale` from the first page. None if this is the first page.
        """
        if len(self._retrievers) == 1:
            return self._rank_alone(depth)
        if self._question.mode == "hybrid":
            return self._rank_by_scores(depth, scale)
        return self._rank_by_ranks(depth, scale)

    def _rank_alone(self, depth: int) -> Ranking:
        pooled = self._question.mode == "dense" and self._question.pooling != "max"
        found = self._retrievers[0].candidates(self._num_candidates(depth) if pooled else depth)
        ids, parts = self._scored(found.ids)
        return self._ranking(ids, parts, parts[0].max(axis=0), [found]).first(depth)

    def _rank_by_scores(self, depth: int, scale: Scale | None) -> Ranking:
        num = self._num_candidates(depth)
        while True:
            ranking, unseen = self._fuse_candidates(num, scale)
            first = ranking.first(depth)
            # An image that is in no list has a score of at most ``unseen``. If all ``depth`` images
            # reach this score, no other image can be better. If an index selected the candidates,
            # the result is approximate, so this check is not needed.
            enough = len(first.ids) == depth and first.scores[-1] >= unseen
            if not ranking.exact or ranking.complete or enough:
                return first
            num *= 4

    def _fuse_candidates(self, num: int, scale: Scale | None) -> tuple[Ranking, float]:
        """Fuse ``num`` candidates per retriever. Also return the highest score of other images.

        Other images are images that no retriever proposed. The returned score is an upper limit.
        """
        lists = [retriever.candidates(num) for retriever in self._retrievers]
        ids, parts = self._scored(_union(lists))
        if scale is None:
            scale = tuple(_row_maxima(scores) for scores in parts)
        with_end = [
            np.concatenate([scores, self._end(i, ids, scores, found, num)], axis=1)
            for i, (scores, found) in enumerate(zip(parts, lists, strict=True))
        ]
        fused = self._fuse(with_end, scale).max(axis=0)
        ranking = self._ranking(ids, parts, fused[:-1], lists)
        return replace(ranking, scale=scale), float(fused[-1])

    def _end(self, i: int, ids: RowIds, scores: Floats, found: Candidates, num: int) -> Floats:
        """Return the highest score that an image outside of a list can have, shape (queries, 1)."""
        if found.complete:
            return np.full((len(scores), 1), self._retrievers[i].lowest, np.float32)
        listed = scores[:, np.isin(ids, found.ids)]
        if listed.shape[1] < num:
            return np.full((len(scores), 1), np.inf, np.float32)
        place = listed.shape[1] - num
        ends: Floats = np.partition(listed, place, axis=1)[:, [place]]
        return ends

    def _fuse(self, parts: Sequence[Floats], scale: Scale) -> Floats:
        """Fuse scores relative to ``scale``, so that a score does not depend on other images."""
        with_best = [
            np.concatenate([np.minimum(scores, np.array(top)[:, None]), np.array(top)[:, None]], 1)
            for scores, top in zip(parts, scale, strict=True)
        ]
        weights = (1.0, self._question.text_weight)
        floors = [retriever.lowest for retriever in self._retrievers]
        return fuse(with_best, "floor", weights, floors)[:, :-1]

    def _rank_by_ranks(self, depth: int, scale: Scale | None) -> Ranking:
        """Fuse the ranks of the candidates. If ``depth`` needs more images, append them at the end.

        The rank of an image depends on the number of candidates. So if a later page needs more
        candidates, the images that are already ranked keep their order and scores. The new images
        are added after these images.
        """
        wanted = max(5 * depth, _MIN_RANKED) if scale is None else int(scale[0][0])
        first = num = min(max(wanted, _MIN_RANKED), _MAX_RANKED)
        ranking = self._look(num)
        while len(ranking.ids) < depth and not ranking.complete:
            num *= 4
            ranking = ranking.followed_by(self._look(num))
        return replace(ranking.first(depth), scale=((float(first),),))

    def _look(self, num: int) -> Ranking:
        """Rank the best ``num`` images of each retriever by the mean of their reciprocal ranks."""
        scanned = [retriever.num_scanned for retriever in self._retrievers]
        if None not in scanned:
            # The retrievers score every matching row, even for a small number of candidates. So use
            # all matching rows as candidates. This costs no extra time.
            num = max(num, 0, *filter(None, scanned))
        lists = [retriever.candidates(num) for retriever in self._retrievers]
        ids = _union(lists)
        if all(found.complete and found.scores is not None for found in lists):
            # Use the scores in the lists. There can be as many candidates as rows in the table, and
            # it would be slow to fetch all these rows again.
            parts = [in_places(ids, f.ids, f.scores) for f in lists if f.scores is not None]
        else:
            ids, parts = self._scored(ids)
        return self._ranking(ids, parts, fuse(parts, "rrf").max(axis=0), lists)

    def _num_candidates(self, depth: int) -> int:
        return max(self._question.num_candidates, 5 * depth)

    def _scored(self, ids: RowIds) -> tuple[RowIds, list[Floats]]:
        """Score images with each retriever.

        Omit images that have no score from the first retriever.
        """
        first = self._retrievers[0].scores(ids)
        there = ~np.isnan(first).any(axis=0)
        ids = ids[there]
        return ids, [first[:, there], *(other.scores(ids) for other in self._retrievers[1:])]

    def _ranking(
        self, ids: RowIds, parts: Sequence[Floats], scores: Floats, lists: Sequence[Candidates]
    ) -> Ranking:
        captions = self._by_kind.get("captions")
        best_of_each = (part.max(axis=0) for part in parts)
        return Ranking(
            ids=ids,
            scores=scores,
            parts=dict(zip(self._by_kind, best_of_each, strict=True)),
            exact=all(found.exact for found in lists),
            # The first retriever can score all matching images, so use its value.
            complete=lists[0].complete,
            variants=None if captions is None else captions.fetched,
        )


def _union(lists: Sequence[Candidates]) -> RowIds:
    ids: RowIds = np.unique(np.concatenate([found.ids for found in lists]))
    return ids


def _row_maxima(scores: Floats) -> tuple[float, ...]:
    return tuple(float(score) for score in scores.max(axis=1, initial=-1.0))
