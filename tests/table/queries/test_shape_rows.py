"""In every mode, a search that is limited to a geometry finds exactly the matching images."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
import pytest
import shapely

from skytext.config.search import SearchConfig
from skytext.errors import CallError
from skytext.filters.conditions import Not
from skytext.filters.cql2_text import parse_filter
from skytext.filters.spatial import Spatial
from skytext.search import Searcher, SearchRequest
from skytext.table.images_dataset import ImagesTable
from skytext.table.indexes.build_indexes import build_indexes
from skytext.table.queries import shape_rows as module
from skytext.table.queries.caption_queries import count_matching
from skytext.table.queries.shape_rows import bind, shape_rows
from tests.search.test_searcher import GivenEmbedder
from tests.table.rows import ALWAYS, DIM, good_row, location, make_table, unit_vectors

NUM = 400
TRIANGLE = "POLYGON((0 0, 40 0, 0 40, 0 0))"
ALMOST_ALL = "POLYGON((-1 -1, 42 -1, 42 42, 10 42, -1 30, -1 -1))"
TEXTS = {
    f"S_INTERSECTS(geometry, {TRIANGLE})": (TRIANGLE, True),
    f"NOT S_INTERSECTS(geometry, {TRIANGLE})": (TRIANGLE, False),
    f"S_INTERSECTS(geometry, {ALMOST_ALL})": (ALMOST_ALL, True),
    f"NOT S_INTERSECTS(geometry, {ALMOST_ALL})": (ALMOST_ALL, False),
}


class AnyWords(GivenEmbedder):
    """An embedder that returns the same query vector for every text."""

    def embed_queries(self, texts: Sequence[str]) -> Any:
        return self.queries[[0] * len(texts)]


@pytest.fixture(scope="module")
def boxes() -> list[tuple[float, float, float, float]]:
    corners = np.random.default_rng(3).uniform(0, 40, (NUM, 2)).round(3)
    return [(float(x), float(y), float(x) + 1, float(y) + 1) for x, y in corners]


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory, boxes: list[Any]) -> ImagesTable:
    where = location(tmp_path_factory.mktemp("places") / "table")
    vectors = unit_vectors(np.random.default_rng(4), (NUM, 2, DIM))
    sides = ("west", "south", "east", "north")
    rows = [
        good_row(
            f"{i:03d}.jpg",
            vectors=vectors[i],
            bbox=None if i % 10 == 9 else dict(zip(sides, box, strict=True)),
        )
        for i, box in enumerate(boxes)
    ]
    build_indexes(make_table(where, rows), ALWAYS)
    return ImagesTable.open(where)


def expected(boxes: list[Any], text: str) -> set[str]:
    wkt, meets = TEXTS[text]
    geometry = shapely.from_wkt(wkt)
    return {
        f"{i:03d}.jpg"
        for i, box in enumerate(boxes)
        if i % 10 != 9 and shapely.box(*box).intersects(geometry) is meets
    }


def names(hits: Any) -> list[str]:
    return [hit.uri.rpartition("#")[2] for hit in hits]


@pytest.mark.parametrize("few", [1, 3_000])
@pytest.mark.parametrize("mode", ["dense", "text", "hybrid"])
@pytest.mark.parametrize("text", TEXTS)
def test_a_search_in_a_polygon_finds_all_that_match_page_by_page(
    table: ImagesTable,
    boxes: list[Any],
    text: str,
    mode: Any,
    few: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("skytext.search.retrievers.matching._SCORED_WITHOUT_INDEX", few)
    searcher = Searcher(table, AnyWords(), search=SearchConfig(mode="dense"))
    matching = expected(boxes, text)
    assert 0 < len(matching) < NUM * 0.9
    first = searcher.search(SearchRequest(text="river", where=text, mode=mode, k=150))
    assert len(first.hits) == min(150, len(matching))
    assert set(names(first.hits)) <= matching
    # An index uses estimates on deep pages. An exact search returns every match. So search exactly
    # if the index would be used.
    request = SearchRequest(text="river", where=text, mode=mode, k=150, exact=few == 1)
    found: list[str] = []
    while True:
        result = searcher.search(request)
        found += names(result.hits)
        if result.next_cursor is None:
            break
        assert len(result.hits) == 150
        request = request.model_copy(update={"cursor": result.next_cursor})
    assert len(found) == len(set(found))
    assert set(found) == matching


@pytest.mark.parametrize("text", TEXTS)
def test_the_number_of_matches_is_exact(table: ImagesTable, boxes: list[Any], text: str) -> None:
    bound = bind(parse_filter(text), partial(shape_rows, table))
    assert count_matching(table, bound) == len(expected(boxes, text))


def test_the_shorter_list_of_rows_is_written(table: ImagesTable) -> None:
    lengths = {}
    for wkt in (TRIANGLE, ALMOST_ALL):
        where = parse_filter(f"S_INTERSECTS(geometry, {wkt})")
        assert isinstance(where, Spatial)
        rows = shape_rows(table, where)
        lengths[wkt] = rows.matching.count(",")
        assert count_matching(table, rows) + count_matching(table, Not(condition=rows)) == 360
    assert lengths[ALMOST_ALL] < 40 < lengths[TRIANGLE]


def test_a_geometry_is_tested_once_and_remembered(table: ImagesTable) -> None:
    searcher = Searcher(table, GivenEmbedder(), search=SearchConfig(mode="dense"))
    for _ in range(3):
        searcher.search("0", where=f"S_INTERSECTS(geometry, {TRIANGLE})")
    assert searcher._parts[0].shape_rows.cache_info().misses == 1


def test_a_test_that_takes_too_long_ends(
    table: ImagesTable, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_MAX_TEST_S", -1.0)
    searcher = Searcher(table, GivenEmbedder(), search=SearchConfig(mode="dense"))
    with pytest.raises(CallError, match="simplify the geometry"):
        searcher.search("0", where=f"S_WITHIN(geometry, {TRIANGLE})")


def test_an_empty_area_has_no_matches(table: ImagesTable) -> None:
    searcher = Searcher(table, GivenEmbedder(), search=SearchConfig(mode="dense"))
    far = "POLYGON((100 0, 140 0, 100 40, 100 0))"
    result = searcher.search("0", where=f"S_INTERSECTS(geometry, {far})")
    assert (result.hits, result.note) == ((), "no image matches the filter")
    rest = searcher.search("0", 1000, where=f"NOT S_INTERSECTS(geometry, {far})")
    assert len(rest.hits) == 360
