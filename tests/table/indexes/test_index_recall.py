"""Test that the search depth of an index is chosen, stored and used."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from skytext.config.index import IndexConfig
from skytext.filters.cql2_text import parse_filter
from skytext.table.images_dataset import ImagesTable
from skytext.table.index_facts import (
    Probing,
    VectorIndexFacts,
    forget_facts,
    read_facts,
    store_facts,
)
from skytext.table.indexes.build_indexes import build_indexes
from skytext.table.indexes.index_recall import choose, measure_index, sample_queries
from skytext.table.queries.caption_queries import nearest
from tests.table.rows import (
    DIM,
    good_row,
    location,
    make_table,
    unit_vectors,
)

FACTS = VectorIndexFacts("IVF_RQ", 64, 3, 32, 3, 0.99, 128, 1000, 0.55)


def test_configured_settings_override_measured_ones() -> None:
    assert FACTS.probing(IndexConfig()) == Probing(32, 3, 0.55)
    assert FACTS.probing(IndexConfig(refine_factor=7)) == Probing(32, 7, 0.55)
    assert FACTS.probing(IndexConfig(search_effort=0)) == Probing(32, 3, 0.0)
    # If ``nprobes`` is configured, exactly this number of partitions is searched.
    assert FACTS.probing(IndexConfig(nprobes=7)) == Probing(7, 3, None)
    assert FACTS.probing(IndexConfig(nprobes=7, search_effort=0.9)) == Probing(7, 3, None)


@pytest.mark.parametrize(("part", "nprobes"), [(1.0, 32), (0.5, 46), (0.001, 64)])
def test_with_a_filter_the_number_of_partitions_is_set(part: float, nprobes: int) -> None:
    assert FACTS.probing(IndexConfig()).widened(part, 64) == Probing(nprobes, 3, None)


@pytest.mark.parametrize(("k", "candidates"), [(1, 30), (10, 30), (11, 33), (100, 300)])
def test_a_k_below_ten_is_searched_like_ten(k: int, candidates: int) -> None:
    assert Probing(8, 3).num_candidates(k) == candidates


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> ImagesTable:
    rng = np.random.default_rng(1)
    where = location(tmp_path_factory.mktemp("probing") / "table")
    rows = [
        good_row(f"{i}", vectors=unit_vectors(rng, (2, DIM)), gsd=float(i % 3)) for i in range(600)
    ]
    build_indexes(
        make_table(where, rows), IndexConfig(vector="always", recall_queries=32, num_partitions=12)
    )
    return ImagesTable.open(where)


def scores(table: ImagesTable, probing: Probing, where: Any = None) -> Any:
    (query,) = unit_vectors(np.random.default_rng(2), (1, DIM))
    return nearest(table, query, 10, probing, where).scores


def test_search_effort_overrides_nprobes(
    table: ImagesTable,
) -> None:
    one, every = scores(table, Probing(1, 5)), scores(table, Probing(12, 5))
    assert one.sum() < every.sum()
    np.testing.assert_array_equal(scores(table, Probing(12, 5, 0.0)), one)
    np.testing.assert_array_equal(scores(table, Probing(1, 5, 1.0)), every)


def test_a_configured_effort_also_applies_with_a_filter(table: ImagesTable) -> None:
    where = parse_filter("gsd < 1")
    every = scores(table, Probing(12, 5), where)
    np.testing.assert_array_equal(scores(table, Probing(1, 5, 1.0), where), every)


def test_the_build_stores_an_effort_or_the_partitions_that_were_given(table: ImagesTable) -> None:
    facts = read_facts(table.dataset)
    assert facts is not None
    assert facts.search_effort is not None
    assert facts.recall_at_10 >= 0.99
    assert 1 <= facts.nprobes <= 12
    given: list[tuple[dict[str, Any], float | None]] = [
        ({"nprobes": 12}, None),
        ({"search_effort": 1.0}, 1.0),
        ({"search_effort": 0.01}, 0.01),
        ({"nprobes": 5, "search_effort": 0.01}, None),
    ]
    for settings, effort in given:
        config = IndexConfig(
            vector="always", recall_queries=32, num_partitions=12, min_recall=0, **settings
        )
        report = build_indexes(table, config)
        assert report.search_effort == effort
        assert report.nprobes == settings.get("nprobes", report.nprobes)


def test_facts_of_another_release_are_readable(table: ImagesTable) -> None:
    dataset = ImagesTable.open(table.location).dataset
    before = read_facts(dataset)
    assert before is not None
    stored = before.to_json() | {"from_the_future": 1}
    del stored["search_effort"]

    class Stored:
        def to_json(self) -> dict[str, Any]:
            return stored

    forget_facts(dataset)
    store_facts(dataset, Stored())  # type: ignore[arg-type]
    facts = read_facts(dataset)
    assert facts is not None
    assert facts.search_effort is None
    assert facts.nprobes == before.nprobes


def made(recalls: dict[tuple[int, int], float], seconds: dict[tuple[int, int], float]) -> Any:
    """Return a function that returns given recalls and seconds instead of measured values.

    The keys are tuples of ``nprobes`` and the refine factor.
    """

    def measure(probing: Probing) -> tuple[float, float]:
        key = probing.nprobes, probing.refine_factor
        return recalls.get(key, 0.0), seconds.get(key, 1.0)

    return measure


def ladders(*refinements: int) -> list[list[Probing]]:
    return [[Probing(width, factor) for width in (1, 2, 3, 4)] for factor in refinements]


@pytest.mark.parametrize("enough", [1, 2, 3, 4])
def test_the_narrowest_sufficient_settings_are_chosen(enough: int) -> None:
    recalls = {(width, 2): 1.0 for width in range(enough, 5)}
    assert choose(made(recalls, {}), ladders(2), 0.99) == Probing(enough, 2)


def test_a_larger_refine_factor_is_chosen_if_it_is_faster() -> None:
    recalls = {(4, 2): 1.0, (2, 3): 1.0, (3, 3): 1.0, (4, 3): 1.0}
    faster = made(recalls, {(2, 3): 0.5})
    assert choose(faster, ladders(2, 3), 0.99) == Probing(2, 3)
    slower = made(recalls, {(4, 2): 0.4, (2, 3): 0.5})
    assert choose(slower, ladders(2, 3), 0.99) == Probing(4, 2)


def test_no_settings_are_chosen_if_none_are_sufficient() -> None:
    assert choose(made({}, {}), ladders(2, 3), 0.99) is None
    assert choose(made({}, {}), [[]], 0.99) is None


class Made:
    """A column. A refine factor of 2 is sufficient only for the first half of the queries."""

    query_cosines = (0.9,)

    def __init__(self, num_queries: int) -> None:
        self.vectors = unit_vectors(np.random.default_rng(3), (3 * num_queries, DIM))
        self.hard = sample_queries(self, num_queries)[num_queries // 2 :]

    def sample(self, num_vectors: int, rng: np.random.Generator) -> Any:
        return self.vectors[:num_vectors]

    def scores(self, queries: Any) -> Iterator[Any]:
        yield queries @ self.vectors.T

    def ask(self, query: Any, probing: Probing) -> Any:
        is_hard = (np.abs(self.hard - query).max(axis=1) < 1e-6).any()
        found = 9 if is_hard and probing.refine_factor < 3 else 10
        return np.sort(self.vectors @ query)[::-1][:found]


def test_the_refine_factor_grows_if_more_partitions_do_not_help() -> None:
    measured = measure_index(Made(8), IndexConfig(recall_queries=8), 64)
    assert measured.recall == 1.0
    assert measured.probing == Probing(1, 3, 0.3)


class Uneven(Made):
    """A column where a fixed number of partitions needs a larger refine factor than an effort.

    An effort of 0.7 needs the refine factor 2. Smaller efforts need the refine factor 3.
    """

    def ask(self, query: Any, probing: Probing) -> Any:
        is_enough = probing.refine_factor >= 3 or (probing.effort or 0) >= 0.7
        if probing.refine_factor >= 3:
            time.sleep(0.002)  # So the refine factor 2 is faster, and is chosen first.
        return np.sort(self.vectors @ query)[::-1][: 10 if is_enough else 9]


def test_a_smaller_effort_is_chosen_if_a_filtered_search_needs_a_larger_refine_factor() -> None:
    measured = measure_index(Uneven(8), IndexConfig(recall_queries=8), 64)
    assert measured.recall == 1.0
    assert measured.probing == Probing(1, 3, 0.3)
