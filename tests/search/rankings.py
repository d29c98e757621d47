"""Search a table like `Searcher`, but with a query vector instead of an embedder."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from skytext.config.index import IndexConfig
from skytext.filters.conditions import Condition
from skytext.search import Hit, Searcher, SearchRequest
from skytext.search.ranker import Ranker
from skytext.search.ranking_inputs import Question, Ranking, Served
from skytext.table.images_dataset import ImagesTable
from skytext.table.queries.caption_queries import take
from skytext.table.queries.shape_rows import bind, shape_rows


def dense_question(
    *vectors: Any, where: Condition | None = None, exact: bool = False, **more: Any
) -> Question:
    """Return a question that ranks images by their best variant, as in the paper."""
    settings: dict[str, Any] = {"pooling": "max", "text_weight": 0.2, "num_candidates": 50}
    return Question(
        mode="dense",
        vectors=np.asarray(vectors, np.float32),
        words=(),
        where=where,
        exact=exact,
        **settings | more,
    )


def rank(table: ImagesTable, question: Question, k: int, **index: Any) -> Ranking:
    if question.where is not None:
        question = replace(question, where=bind(question.where, partial(shape_rows, table)))
    served = Served.of_table(table, IndexConfig(**index), with_images=True)
    return Ranker(served, question).rank(k)


def nearest_images(
    table: ImagesTable, vector: Any, k: int, *, where: Condition | None = None, exact: bool = False
) -> Ranking:
    """Rank images by their image vectors."""
    nothing = np.zeros(table.text_column.dim)
    question = dense_question(nothing, where=where, exact=exact)
    own = np.asarray([vector], np.float32)
    return rank(table, replace(question, mode="image", image_vectors=own), k)


def column(table: ImagesTable, ranking: Ranking, name: str = "member") -> list[Any]:
    return list(take(table, ranking.ids, [name]).column(name).to_pylist())


def pages(searcher: Searcher, request: SearchRequest) -> list[Hit]:
    found: list[Hit] = []
    while True:
        result = searcher.search(request)
        found += result.hits
        if result.next_cursor is None:
            return found
        assert len(result.hits) == request.k
        request = request.model_copy(update={"cursor": result.next_cursor})
