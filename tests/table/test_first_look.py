"""A search by the index ends early where what it found first is near."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from skytext.config import IndexConfig
from skytext.filters import parse_filter
from skytext.table.images import ImagesTable
from skytext.table.index import build_indexes
from skytext.table.index_recall import first_looks
from skytext.table.query import Found, is_settled, nearest
from skytext.table.vector_index import FirstLook, Probing, VectorIndexFacts
from tests.table.rows import DIM, good_row, location, make_table, unit_vectors

FACTS = VectorIndexFacts("IVF_RQ", 64, 3, 32, 3, 0.99, 128, 1000, 4, 0.75)


def hits(scores: Any) -> Found:
    found = np.asarray(scores, np.float32)
    return Found(np.arange(len(found), dtype=np.uint64), found)


@pytest.mark.parametrize(
    ("scores", "k", "settled"),
    [
        ([0.9] * 10, 10, True),
        ([0.9] * 9, 10, False),
        ([0.9] * 9 + [0.74], 10, False),
        ([0.9] * 10 + [0.1], 10, True),
        # Fewer than ten are looked for as ten are.
        ([0.9] * 9 + [0.74], 1, False),
        ([0.9] * 10, 1, True),
        ([0.9] * 19 + [0.74], 20, False),
        ([0.9] * 20, 20, True),
        ([], 1, False),
    ],
)
def test_the_last_hit_that_counts_decides(scores: list[float], k: int, settled: bool) -> None:
    assert is_settled(hits(scores), k, FirstLook(4, 0.75)) is settled


def test_what_was_measured_is_taken_and_what_is_given_instead_goes_all_the_way() -> None:
    assert FACTS.probing(IndexConfig()) == Probing(32, 3, FirstLook(4, 0.75))
    assert FACTS.probing(IndexConfig(nprobes=7)) == Probing(7, 3)
    assert FACTS.probing(IndexConfig(refine_factor=7)) == Probing(32, 7)
    older = VectorIndexFacts("IVF_RQ", 64, 3, 32, 3, 0.99, 128, 1000)
    assert older.probing(IndexConfig()) == Probing(32, 3)


@pytest.mark.parametrize("part", [1.0, 0.5, 0.001])
def test_a_filter_has_no_first_look(part: float) -> None:
    assert FACTS.probing(IndexConfig()).widened(part, 64).first is None


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> ImagesTable:
    rng = np.random.default_rng(1)
    where = location(tmp_path_factory.mktemp("first") / "table")
    rows = [
        good_row(f"{i}", vectors=unit_vectors(rng, (2, DIM)), gsd=float(i % 3)) for i in range(600)
    ]
    config = IndexConfig(vector="always", num_partitions=12, min_recall=0)
    build_indexes(make_table(where, rows), config)
    return ImagesTable.open(where)


def test_a_search_looks_further_only_where_it_must(table: ImagesTable) -> None:
    (query,) = unit_vectors(np.random.default_rng(2), (1, DIM))
    near, far = (nearest(table, query, 10, Probing(n, 5)).scores for n in (1, 12))
    assert near.sum() < far.sum()
    ended = nearest(table, query, 10, Probing(12, 5, FirstLook(1, -1.0)))
    np.testing.assert_array_equal(ended.scores, near)
    went_on = nearest(table, query, 10, Probing(12, 5, FirstLook(1, 1.1)))
    np.testing.assert_array_equal(went_on.scores, far)
    where = parse_filter("gsd < 1")
    filtered = nearest(table, query, 10, Probing(12, 5, FirstLook(1, -1.0)), where)
    np.testing.assert_array_equal(
        filtered.scores, nearest(table, query, 10, Probing(12, 5), where).scores
    )


def chosen(recalls: list[float], tenths: list[float], nprobes: int = 32) -> list[FirstLook]:
    """Choose first looks where queries find these parts of ten, and their tenth hit scores so."""
    queries = np.arange(len(recalls), dtype=np.float32)[:, None]
    truth = np.ones((len(recalls), 10), np.float32)

    def ask(query: Any, probing: Probing) -> Any:
        right = round(10 * recalls[int(query[0])])
        return np.array([1.0] * right + [0.5] * (10 - right), np.float32)

    def look(vector: Any, probing: Probing) -> Found:
        tenth = tenths[int(vector[0])]
        return hits([1.0] * 9 + [tenth]) if tenth > 0 else hits([1.0] * 3)

    return first_looks(ask, look, queries, truth, Probing(nprobes, 3), 0.95)


TENTHS = [1 - i / 100 for i in range(40)]


def test_the_score_to_end_at_is_the_lowest_above_which_enough_is_found() -> None:
    # 20 of 21 is enough for 0.95, and for half of what is missing only all of 20 are.
    some = chosen([1.0] * 20 + [0.0] * 20, TENTHS)
    assert [(first.nprobes, round(first.score, 6)) for first in some] == [
        (4, 0.80),
        (4, 0.81),
        (8, 0.80),
        (8, 0.81),
    ]


def test_where_nothing_is_lost_every_search_ends_after_the_narrowest_look() -> None:
    assert [first.nprobes for first in chosen([1.0] * 40, TENTHS)] == [4, 8]
    assert {round(first.score, 6) for first in chosen([1.0] * 40, TENTHS)} == {0.61}


def test_there_is_no_first_look_where_it_saves_nothing() -> None:
    assert chosen([0.5] * 40, TENTHS) == []
    assert chosen([1.0] * 10 + [0.0] * 30, TENTHS) == []
    assert chosen([1.0] * 40, TENTHS, nprobes=1) == []
    assert chosen([1.0] * 40, [0.0] * 40) == []
    # It costs an eighth, and spares fewer than an eighth of the searches the rest.
    assert chosen([1.0] * 16 + [0.0] * 200, [1 - i / 1000 for i in range(216)]) == []
