"""Find one page of hits: the images after a cursor."""

from __future__ import annotations

import numpy as np

from skytext.config.search import SearchConfig
from skytext.errors import CallError
from skytext.search.absolute_scores import absolute_scores, variant_cosines
from skytext.search.query_vectors import Named, excluded_rows
from skytext.search.ranker import Ranker
from skytext.search.ranking_inputs import Question, Ranking, Searched
from skytext.search.request import SearchRequest
from skytext.search.results.cursor import Cursor
from skytext.search.results.near_duplicates import group_duplicates

MAX_DEPTH = 10_000
"""Maximum number of hits on all pages together.

There is a limit because each page also ranks the images of all earlier pages.
"""
_PATIENCE = 50
"""Minimum number of images to examine after the last image with a sufficient score.

A score is sufficient if it is at least `SearchRequest.min_score`.
"""


class Page:
    """Finds the images of one page. The page begins after the last hit that the cursor stores.

    Raises:
        CallError: the page would contain hits after hit number `MAX_DEPTH`.
        ConfigError: a client modified the cursor.
    """

    def __init__(
        self,
        served: Searched,
        question: Question,
        request: SearchRequest,
        cursor: Cursor | None,
        config: SearchConfig,
        named: Named,
    ) -> None:
        self.offset = 0 if cursor is None else cursor.offset
        if self.offset + request.k > MAX_DEPTH:
            raise CallError(
                f"all pages together have at most {MAX_DEPTH:,} hits (requested: "
                f"{self.offset + request.k:,}): use a filter to find fewer images"
            )
        self._served = served
        self._question = question
        self._ranker = Ranker(served, question)
        if cursor is not None:
            cursor.check_scale(*self._ranker.scale_shape)
        self._request = request
        self._cursor = cursor
        self._config = config
        self._excluded = excluded_rows(named)

    @property
    def why_last(self) -> str | None:
        """The reason why the next page is not allowed. None if the next page is allowed."""
        if self.offset + 2 * self._request.k <= MAX_DEPTH:
            return None
        return (
            f"all pages together have at most {MAX_DEPTH:,} hits: use a filter to find fewer images"
        )

    def find(self) -> tuple[Ranking, list[tuple[int, list[int]]]]:
        """Return a ranking, and the positions of this page's images in the ranking.

        Returns:
            The ranking, and a pair for each image of the page: the index of the image, and the
            indices of its near-duplicates. If there is a next page, the last pair is for the first
            image of the next page.
        """
        # Rank one more image than the page needs. If it exists, there is a next page.
        depth = self.offset + self._request.k + 1 + len(self._excluded)
        depth += 0 if self._request.min_score is None else _PATIENCE
        scale = None if self._cursor is None else self._cursor.scale
        while True:
            ranking, is_last = self._scoring(self._without_named(self._ranker.rank(depth, scale)))
            places = [group for group in self._groups(ranking) if self._is_behind(ranking, group)]
            if len(places) > self._request.k or ranking.complete or is_last:
                return ranking, places[: self._request.k + 1]
            depth *= 2

    def _scoring(self, ranking: Ranking) -> tuple[Ranking, bool]:
        """Return the images with a score of at least `SearchRequest.min_score`.

        The ranking is not sorted by this score. So images further down in the ranking can also have
        a sufficient score. The search stops if many images after the last returned image do not
        have a sufficient score.

        Returns:
            The ranking with only these images, and true if the search must stop.
        """
        least = self._request.min_score
        if least is None:
            return ranking, False
        cosines = variant_cosines(self._served, self._question, ranking)
        places = np.flatnonzero(absolute_scores(ranking, cosines) >= least)
        num_until_last = int(places[-1]) + 1 if len(places) else 0
        num_behind = len(ranking.ids) - num_until_last
        is_last = num_behind >= max(_PATIENCE, num_until_last) or len(ranking.ids) >= MAX_DEPTH
        return ranking.at(places), is_last

    def _groups(self, ranking: Ranking) -> list[tuple[int, list[int]]]:
        if not self._request.group_duplicates:
            return [(place, []) for place in range(len(ranking.ids))]
        cosine = self._config.duplicate_cosine
        return list(group_duplicates(self._served, ranking, cosine))

    def _is_behind(self, ranking: Ranking, group: tuple[int, list[int]]) -> bool:
        if self._cursor is None:
            return True
        score, row_id = float(ranking.scores[group[0]]), int(ranking.ids[group[0]])
        return (-score, row_id) > (-self._cursor.score, self._cursor.row_id)

    def _without_named(self, ranking: Ranking) -> Ranking:
        if not len(self._excluded):
            return ranking
        return ranking.at(np.flatnonzero(~np.isin(ranking.ids, self._excluded)))
