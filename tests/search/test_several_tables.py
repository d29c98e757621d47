"""A search of several tables gives the same results as a search of one table with all rows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from skytext.config.embedding import EmbedConfig
from skytext.config.index import IndexConfig
from skytext.errors import CallError, TableError
from skytext.filters.cql2_text import parse_filter
from skytext.models.checkpoints import embed_model
from skytext.models.fakes.embedders import FakeEmbedder, FakeImageEmbedder
from skytext.models.fingerprints import embedding_fingerprint
from skytext.search import Example, Searcher, SearchRequest
from skytext.search.results.cursor import Cursor, cursor_version
from skytext.table.images_dataset import ImagesTable
from skytext.table.indexes.build_indexes import build_indexes
from tests.search.rankings import pages
from tests.search.test_image_modes import SHOWN, embed
from tests.search.test_search_modes import Rows, bm25, make_rows, pooled
from tests.table.rows import committer, good_row, location, make_table, stage, text_column

FIRST = 50


@pytest.fixture(scope="module")
def rows() -> Rows:
    return make_rows()


def build(folder: Path, rows: list[dict[str, Any]], vector: Any = "never") -> ImagesTable:
    where = location(folder)
    half = len(rows) // 2
    build_indexes(make_table(where, rows[:half], rows[half:]), IndexConfig(vector=vector))
    return ImagesTable.open(where)


@pytest.fixture(scope="module")
def tables(rows: Rows, tmp_path_factory: pytest.TempPathFactory) -> list[ImagesTable]:
    folder = tmp_path_factory.mktemp("several")
    parts = {"one": rows[:FIRST], "two": rows[FIRST:80], "three": rows[80:]}
    return [build(folder / name, part) for name, part in parts.items()]


@pytest.fixture(scope="module")
def several(tables: list[ImagesTable]) -> Searcher:
    return Searcher(tables[0], FakeEmbedder(), more=tables[1:])


@pytest.fixture(scope="module")
def whole(rows: Rows, tmp_path_factory: pytest.TempPathFactory) -> Searcher:
    return Searcher(build(tmp_path_factory.mktemp("whole") / "table", rows), FakeEmbedder())


def plain(hits: Any) -> list[dict[str, Any]]:
    return [hit.to_json() | {"table": None} for hit in hits]


REQUESTS: list[dict[str, Any]] = [
    {"text": "harbour bridge"},
    {"texts": ("forest", "desert quarry")},
    {"texts": ("forest", "desert quarry"), "combine": "mean"},
    {"text": "tank", "where": "gsd < 4"},
    {"text": "tank", "where": "gsd = 3 AND NOT gsd = 5"},
    {"text": "stadium", "min_score": 0.3},
    {"text": "stadium", "exact": True, "negative": (Example(text="forest"),)},
    {"text": "glacier", "group_duplicates": True},
]


@pytest.mark.parametrize("asked", REQUESTS, ids=str)
def test_dense_hits_are_those_of_one_table_that_holds_all_rows(
    several: Searcher, whole: Searcher, asked: dict[str, Any]
) -> None:
    request = SearchRequest(mode="dense", k=1000, **asked)
    found, expected = several.search(request), whole.search(request)
    assert plain(found.hits) == plain(expected.hits)
    assert (found.exact, found.note) == (expected.exact, expected.note)
    assert len(found.hits) > 3
    paged = request.model_copy(update={"k": 7})
    assert plain(pages(several, paged)) == plain(pages(whole, paged))


def test_a_hit_says_which_table_it_is_of(
    several: Searcher, tables: list[ImagesTable], rows: Rows
) -> None:
    result = several.search("harbour", 1000, mode="dense")
    place = {row["image_id"]: i for i, row in enumerate(rows)}
    for hit in result.hits:
        i = place[hit.image_id]
        table = tables[0 if i < FIRST else 1 if i < 80 else 2]
        assert hit.table == table.location.uri
    answer = result.to_json()
    assert {hit["table"] for hit in answer["hits"]} == {table.location.uri for table in tables}
    assert answer["table_versions"] == {table.location.uri: table.version for table in tables}
    assert answer["table_version"] is None


def test_one_table_is_not_named_in_its_hits(whole: Searcher) -> None:
    answer = whole.search("harbour").to_json()
    assert "table" not in answer["hits"][0]
    assert "table_versions" not in answer


@pytest.mark.parametrize("k", [5, 1000])
def test_hybrid_scores_are_fused_once_over_all_tables(
    several: Searcher, rows: Rows, k: int
) -> None:
    text = "harbour quarry"
    dense = pooled(rows, text)
    words: dict[str, float] = {}
    for part in (rows[:FIRST], rows[FIRST:80], rows[80:]):
        words |= bm25(part, text)
    top = max(dense.values()) + 1, max(words.values())
    fused = {i: ((d + 1) / top[0] + 0.2 * words.get(i, 0) / top[1]) / 1.2 for i, d in dense.items()}
    hits = pages(several, SearchRequest(text=text, mode="hybrid", k=k))
    assert len(hits) == len(fused)
    for hit in hits:
        assert hit.rank_score == pytest.approx(fused[hit.image_id], abs=2e-5)
    scores = [hit.rank_score for hit in hits]
    assert scores == sorted(scores, reverse=True)


def test_text_scores_are_by_each_tables_own_statistics(several: Searcher, rows: Rows) -> None:
    words: dict[str, float] = {}
    for part in (rows[:FIRST], rows[FIRST:80], rows[80:]):
        words |= bm25(part, "tank runway")
    hits = pages(several, SearchRequest(text="tank runway", mode="text", k=9))
    assert {hit.image_id: hit.rank_score for hit in hits} == pytest.approx(words, rel=1e-4)
    scores = [hit.rank_score for hit in hits]
    assert scores == sorted(scores, reverse=True)


@pytest.mark.parametrize("mode", ["dense", "hybrid"])
def test_tables_with_and_without_a_vector_index_are_searched_together(
    rows: Rows, tables: list[ImagesTable], whole: Searcher, tmp_path: Path, mode: Any
) -> None:
    indexed = build(tmp_path / "indexed", rows[FIRST:80], "always")
    mixed = Searcher(tables[0], FakeEmbedder(), more=[indexed, tables[2]])
    result = mixed.search("harbour", 10, mode=mode)
    assert not result.exact
    hits = pages(mixed, SearchRequest(text="harbour", mode=mode, k=10))
    assert len({hit.image_id for hit in hits}) == len(hits)
    exact = mixed.search("harbour", 1000, mode="dense", exact=True)
    assert plain(exact.hits) == plain(whole.search("harbour", 1000, mode="dense").hits)


@pytest.mark.parametrize("place", [0, 60, 119])
def test_an_image_is_looked_up_in_the_table_that_has_it(
    several: Searcher, whole: Searcher, rows: Rows, place: int
) -> None:
    image_id = rows[place]["image_id"]
    for request in (
        SearchRequest(like=(image_id,), k=1000),
        SearchRequest(text="tank", positive=(Example(image_id=image_id),), k=1000, mode="dense"),
    ):
        found = several.search(request).hits
        assert image_id not in {hit.image_id for hit in found}
        assert plain(found) == plain(whole.search(request).hits)


def test_an_image_that_no_table_has_is_refused(several: Searcher) -> None:
    with pytest.raises(
        CallError, match=r"each of the tables .*one, .*two, .*three has no captioned image"
    ):
        several.search(SearchRequest(like=("0" * 32,)))


def test_an_image_in_two_tables_is_left_out_of_its_own_search(
    rows: Rows, tables: list[ImagesTable], tmp_path: Path
) -> None:
    copy = build(tmp_path / "copy", rows[:FIRST])
    both = Searcher(tables[0], FakeEmbedder(), more=[copy])
    found = both.search(SearchRequest(like=(rows[0]["image_id"],), k=1000)).hits
    assert len(found) == 2 * (sum(row["status"] == "ok" for row in rows[:FIRST]) - 1)
    request = SearchRequest(text="harbour", mode="dense", k=1000, group_duplicates=True)
    for hit in both.search(request).hits:
        assert hit.image_id in hit.duplicates
        assert hit.table == tables[0].location.uri


def test_a_filter_may_be_on_what_only_some_tables_have(rows: Rows, tmp_path: Path) -> None:
    placed = build(tmp_path / "placed", [row | {"collection": "naip"} for row in rows[:20]])
    bare = build(tmp_path / "bare", rows[20:40])
    both = Searcher(placed, FakeEmbedder(), more=[bare])
    hits = both.search("tank", 1000, where=parse_filter("collection = 'naip'"), mode="dense").hits
    assert {hit.table for hit in hits} == {placed.location.uri}
    with pytest.raises(
        CallError, match=r"no image of .*placed or .*bare has the field metadata\.cloud"
    ):
        both.search("tank", where=parse_filter("metadata.cloud < 4"))


def test_a_polygon_is_tested_in_each_table(rows: Rows, tmp_path: Path) -> None:
    box = {"west": 4.0, "south": 51.0, "east": 4.2, "north": 51.2}
    far = {"west": 90.0, "south": 10.0, "east": 91.0, "north": 11.0}
    placed = [row | {"bbox": box if i % 2 else far} for i, row in enumerate(rows[:40])]
    parts = [build(tmp_path / "one", placed[:20]), build(tmp_path / "two", placed[20:])]
    both = Searcher(parts[0], FakeEmbedder(), more=parts[1:])
    where = parse_filter("S_INTERSECTS(geometry, POLYGON((3 50, 6 50, 4 53, 3 50)))")
    hits = both.search("tank", 1000, where=where, mode="dense").hits
    inside = {r["image_id"] for r in placed if r["bbox"] is box and r["status"] == "ok"}
    assert {hit.image_id for hit in hits} == inside
    assert {hit.table for hit in hits} == {part.location.uri for part in parts}


def test_a_cursor_is_of_its_tables_and_versions(
    several: Searcher, whole: Searcher, tables: list[ImagesTable]
) -> None:
    request = SearchRequest(text="harbour", k=3, mode="dense")
    cursor = several.search(request).next_cursor
    assert cursor is not None
    assert Cursor.decode(cursor).versions == several.versions
    later = request.model_copy(update={"cursor": cursor})
    two = Searcher(tables[0], FakeEmbedder(), more=tables[1:2])
    with pytest.raises(CallError, match="to a search of 3 tables, but this search has 2 tables"):
        two.search(later)
    with pytest.raises(CallError, match="to a search of 3 tables, but this search has one table"):
        whole.search(later)
    with pytest.raises(CallError, match="to a search of 3 tables, but this search has one table"):
        cursor_version(cursor)
    turned = Searcher(tables[1], FakeEmbedder(), more=[tables[0], tables[2]])
    assert turned.versions == several.versions
    with pytest.raises(CallError, match="the cursor belongs to another search"):
        turned.search(later)


def test_copied_rows_answer_for_every_table(
    tables: list[ImagesTable], several: Searcher, tmp_path: Path
) -> None:
    copied = Searcher(tables[0], FakeEmbedder(), more=tables[1:])
    copied.warm()
    assert copied.copy_rows(tmp_path)
    assert copied.rows_are_copied
    for mode in ("dense", "hybrid"):
        request = SearchRequest(text="harbour", mode=mode, k=20, group_duplicates=True)
        assert copied.search(request) == several.search(request)


def make_shown(folder: Path, names: list[str]) -> ImagesTable:
    """Make a table with images of `SHOWN`. The images with a colour have image vectors."""
    where = location(folder)
    texts = [SHOWN[name][1] for name in names]
    rows = [
        good_row(name, vectors=FakeEmbedder().embed_documents([text]).vectors)
        for name, text in zip(names, texts, strict=True)
    ]
    fingerprint = embedding_fingerprint(embed_model(EmbedConfig(model="fake")))
    committer(where, text_column("fake", fingerprint)).commit([stage(where, rows)])
    embed(where, {name: SHOWN[name][0] for name in names if SHOWN[name][0]})
    return ImagesTable.open(where)


@pytest.mark.parametrize("mode", ["image", "image+dense"])
def test_image_modes_rank_over_all_tables(tmp_path: Path, mode: Any) -> None:
    names = list(SHOWN)
    make_shown(tmp_path / "one", names[:2])
    make_shown(tmp_path / "two", names[2:])
    make_shown(tmp_path / "whole", names)
    one, two = str(tmp_path / "one"), str(tmp_path / "two")
    several = Searcher.open_many([one, two], with_images=True)
    whole = Searcher.open(str(tmp_path / "whole"), with_images=True)
    for asked in ({"text": "red"}, {"like": (good_row("c.jpg")["image_id"],)}):
        request = SearchRequest(mode=mode, k=2, **asked)
        found, expected = pages(several, request), pages(whole, request)
        assert plain(found) == plain(expected)
        assert len(found) >= 3
    only_few = SearchRequest(text="red", mode=mode, where="member IN ('a.jpg', 'c.jpg')")
    assert plain(several.search(only_few).hits) == plain(whole.search(only_few).hits)


def test_image_modes_need_image_vectors_in_every_table(tmp_path: Path, rows: Rows) -> None:
    shown = make_shown(tmp_path / "shown", list(SHOWN))
    bare = build(tmp_path / "bare", rows[:10])
    own = Searcher(shown, FakeEmbedder(), image_embedder=FakeImageEmbedder())
    assert "image" in own.modes
    with pytest.raises(TableError, match=r"bare has no image vectors\. .* run: skytext embed-"):
        Searcher.open_many([str(tmp_path / "shown"), bare.location.uri], with_images=True)


def test_tables_of_two_models_are_refused_before_a_model_is_loaded(
    tmp_path: Path, rows: Rows
) -> None:
    build(tmp_path / "ours", rows[:4])
    where = location(tmp_path / "theirs")
    committer(where, text_column("other", "e" * 32)).commit(
        [stage(where, rows[4:8], embedding_fingerprint="e" * 32)]
    )
    with pytest.raises(TableError) as refused:
        Searcher.open_many([str(tmp_path / "ours"), str(tmp_path / "theirs")])
    message = str(refused.value)
    assert f"{tmp_path}/ours and {tmp_path}/theirs cannot be searched together" in message
    assert "'fake' and 'other'" in message
    assert "--stale vectors" in message


def test_a_table_is_named_once(tmp_path: Path, rows: Rows) -> None:
    one = build(tmp_path / "one", rows[:4]).location.uri
    with pytest.raises(CallError, match="is named twice"):
        Searcher.open_many([one, one])
    with pytest.raises(CallError, match="name at least one table"):
        Searcher.open_many([])


def test_a_mode_that_one_table_lacks_names_that_table(
    rows: Rows, tables: list[ImagesTable], tmp_path: Path
) -> None:
    bare = make_table(location(tmp_path / "bare"), rows[:5])
    both = Searcher(tables[0], FakeEmbedder(), more=[bare])
    assert both.modes == ("dense",)
    assert both.search("harbour").mode == "dense"
    with pytest.raises(TableError, match=r"bare has no full-text index"):
        both.search("harbour", mode="hybrid")


def test_row_ids_of_several_tables_split_into_what_was_joined(tables: list[ImagesTable]) -> None:
    from skytext.search.several_tables import RowIdSpace

    space = RowIdSpace(tables)
    own = [table.dataset.to_table(columns=[], with_row_id=True) for table in tables]
    ids = [of.column("_rowid").to_numpy().astype(np.uint64) for of in own]
    joined = space.joined(ids)
    assert len(np.unique(joined)) == len(joined)
    order = np.random.default_rng(1).permutation(len(joined))
    for (places, split), of, i in zip(space.split(joined[order]), ids, range(3), strict=True):
        assert sorted(split.tolist()) == sorted(of.tolist())
        assert (space.table_of(joined[order][places]) == i).all()
