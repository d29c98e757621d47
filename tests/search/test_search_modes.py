"""Test text and hybrid search, several queries, examples, pages and near-duplicates."""

from __future__ import annotations

import base64
import json
import math
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from skytext.config.index import IndexConfig
from skytext.config.search import SearchConfig
from skytext.errors import CallError, ConfigError, TableError
from skytext.filters.conditions import Compare, Condition
from skytext.filters.cql2_text import parse_filter
from skytext.models.fakes.embedders import FakeEmbedder
from skytext.search import (
    Example,
    Hit,
    Searcher,
    SearchRequest,
)
from skytext.search.ranker import Ranker
from skytext.search.results.paging import MAX_DEPTH
from skytext.search.retrievers import matching
from skytext.search.retrievers import words as retriever_of_words
from skytext.table.images_dataset import ImagesTable
from skytext.table.index_facts import TEXT_INDEX, uncovered_fragments
from skytext.table.indexes.build_indexes import build_indexes
from skytext.table.queries.caption_queries import Floats
from tests.table.rows import (
    committer,
    failed_row,
    good_row,
    good_rows,
    location,
    make_table,
    stage,
)

# No two words have the same stem, and no word is a stop word.
WORDS = ["harbour", "runway", "forest", "desert", "tank", "bridge", "stadium", "glacier", "quarry"]
NUM_IMAGES = 120
PROPERTY = settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


class Rows(list[dict[str, Any]]):
    """Rows with a short representation in test failures."""

    def __repr__(self) -> str:
        return f"{len(self)} rows"


def make_rows() -> Rows:
    """Return images with one to four variants of one to five words. Every seventh image failed."""
    rng = np.random.default_rng(5)
    rows = Rows()
    for i in range(NUM_IMAGES):
        member = f"{i:03d}.jpg"
        if i % 7 == 3:
            rows.append(failed_row(member))
            continue
        texts = [" ".join(rng.choice(WORDS, rng.integers(1, 6))) for _ in range(rng.integers(1, 5))]
        vectors = FakeEmbedder().embed_documents(texts).vectors
        row = good_row(member, vectors=vectors, text="\n\n".join(texts), gsd=float(i % 10))
        for caption, text in zip(row["captions"], texts, strict=True):
            caption["one_sentence"] = text
        rows.append(row)
    return rows


@pytest.fixture(scope="module")
def rows() -> Rows:
    return make_rows()


@pytest.fixture(scope="module", params=["exact", "index", "partly indexed"])
def searcher(
    request: pytest.FixtureRequest, rows: Rows, tmp_path_factory: pytest.TempPathFactory
) -> Searcher:
    where = location(tmp_path_factory.mktemp("modes") / "table")
    vector: Any = "never" if request.param == "exact" else "always"
    num_first = 90 if request.param == "partly indexed" else NUM_IMAGES
    build_indexes(make_table(where, rows[:num_first]), IndexConfig(vector=vector))
    if num_first < NUM_IMAGES:
        committer(where).commit([stage(where, rows[num_first:])])
    table = ImagesTable.open(where)
    return Searcher(table, FakeEmbedder(), IndexConfig(nprobes=1, refine_factor=1))


def fits(row: dict[str, Any], where: Condition | None) -> bool:
    return row["status"] == "ok" and (where is None or row["gsd"] < where.value)  # type: ignore[union-attr]


def bm25(rows: Sequence[dict[str, Any]], text: str) -> dict[str, float]:
    """Compute BM25 (k1 1.2, b 0.75) by its formula for each image that has a word of the query."""
    texts = {row["image_id"]: row["text"].split() for row in rows if row["status"] == "ok"}
    mean_length = sum(map(len, texts.values())) / len(texts)
    scores: Counter[str] = Counter()
    for word in text.split():
        having = [image_id for image_id, words in texts.items() if word in words]
        idf = math.log(1 + (len(texts) - len(having) + 0.5) / (len(having) + 0.5))
        for image_id in having:
            times = texts[image_id].count(word)
            length = 0.25 + 0.75 * len(texts[image_id]) / mean_length
            scores[image_id] += idf * 2.2 * times / (times + 1.2 * length)
    return dict(scores)


def pooled(rows: Sequence[dict[str, Any]], text: str) -> dict[str, float]:
    """Return the mean of the cosine of the best variant and the cosine of the mean vector."""
    query = FakeEmbedder().embed_queries([text])[0]
    found = {}
    for row in rows:
        if row["status"] == "ok":
            vectors = np.asarray(row["vectors"], np.float32)
            mean = vectors.mean(axis=0)
            best = float((vectors @ query).max())
            found[row["image_id"]] = (best + float(mean @ query / np.linalg.norm(mean))) / 2
    return found


def ids(hits: Sequence[Hit]) -> list[str]:
    return [hit.image_id for hit in hits]


def kept(rows: Rows, scores: dict[str, float], where: Condition | None) -> dict[str, float]:
    matching = {row["image_id"] for row in rows if fits(row, where)}
    return {image_id: score for image_id, score in scores.items() if image_id in matching}


FILTERS = st.one_of(
    st.none(),
    st.sampled_from([1, 3, 9, 100]).map(lambda v: Compare(op="<", field="gsd", value=v)),
)
TEXTS = st.lists(st.sampled_from(WORDS), min_size=1, max_size=4, unique=True).map(" ".join)
KS = st.sampled_from([1, 4, 30, 1000])


@PROPERTY
@given(text=TEXTS, where=FILTERS, k=KS, few=st.sampled_from([1, 3000]))
def test_text_search_ranks_by_bm25_and_is_never_short(
    searcher: Searcher, rows: Rows, text: str, where: Condition | None, k: int, few: int
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(matching, "_SCORED_WITHOUT_INDEX", few)
        result = searcher.search(text, k, where=where, mode="text")
    matches = kept(rows, bm25(rows, text), where)
    assert len(result.hits) == min(k, len(matches))
    assert set(ids(result.hits)) <= matches.keys()
    scores = [hit.rank_score for hit in result.hits]
    assert scores == sorted(scores, reverse=True)
    if searcher._served.captions.covered or not searcher.has_index:
        expected = sorted(matches.values(), reverse=True)[:k]
        np.testing.assert_allclose(scores, expected, rtol=1e-4)
    assert [hit.bm25 for hit in result.hits] == scores
    assert [hit.score for hit in result.hits] == [hit.cosine for hit in result.hits]


@PROPERTY
@given(text=TEXTS, where=FILTERS, k=KS, few=st.sampled_from([1, 3000]), exact=st.booleans())
def test_hybrid_search_fuses_both_and_is_never_short(
    searcher: Searcher,
    rows: Rows,
    text: str,
    where: Condition | None,
    k: int,
    few: int,
    exact: bool,
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(matching, "_SCORED_WITHOUT_INDEX", few)
        request = SearchRequest(text=text, k=k, where=where, mode="hybrid", exact=exact)
        result = searcher.search(request)
    dense = kept(rows, pooled(rows, text), where)
    assert len(result.hits) == min(k, len(dense))
    if searcher.has_index and not searcher._served.captions.covered:
        return  # BM25 of the index differs, because it uses only statistics of the indexed rows.
    words = kept(rows, bm25(rows, text), where)
    top = max(dense.values(), default=0) + 1, max(words.values(), default=1)
    fused = {i: ((d + 1) / top[0] + 0.2 * words.get(i, 0) / top[1]) / 1.2 for i, d in dense.items()}
    for hit in result.hits:
        assert hit.rank_score == pytest.approx(fused[hit.image_id], abs=2e-5)
    scores = [hit.rank_score for hit in result.hits]
    assert scores == sorted(scores, reverse=True)
    if result.exact:
        expected = sorted(fused.values(), reverse=True)[:k]
        np.testing.assert_allclose(scores, expected, atol=2e-5)


@PROPERTY
@given(
    texts=st.lists(TEXTS, min_size=1, max_size=3, unique=True),
    where=FILTERS,
    k=st.sampled_from([7, 40]),
    mode=st.sampled_from(["dense", "text", "hybrid"]),
    exact=st.booleans(),
)
def test_pages_repeat_no_image_and_have_all_if_scores_are_exact(
    searcher: Searcher,
    rows: Rows,
    texts: list[str],
    where: Condition | None,
    k: int,
    mode: Any,
    exact: bool,
) -> None:
    request = SearchRequest(texts=tuple(texts), k=k, where=where, mode=mode, exact=exact)
    found: list[Hit] = []
    while True:
        result = searcher.search(request)
        found += result.hits
        if result.next_cursor is None:
            break
        assert len(result.hits) == k
        request = request.model_copy(update={"cursor": result.next_cursor})
    having = [bm25(rows, text).keys() for text in texts]
    matching = {row["image_id"] for row in rows if fits(row, where)}
    if mode == "text":
        matching &= set().union(*having)
    assert len(found) == len(set(ids(found)))
    assert set(ids(found)) <= matching
    if exact or mode == "text" or not searcher.has_index:
        assert set(ids(found)) == matching
    scores = [hit.rank_score for hit in found]
    assert scores == sorted(scores, reverse=True)


@PROPERTY
@given(text=st.text(max_size=60), mode=st.sampled_from(["text", "hybrid", "dense"]))
def test_any_text_is_data(searcher: Searcher, text: str, mode: Any) -> None:
    try:
        request = SearchRequest(text=text, mode=mode, k=3)
    except ConfigError:
        return
    result = searcher.search(request)
    assert len(result.hits) == 3 or (mode == "text" and (result.hits or result.note))


@pytest.mark.parametrize(
    "text",
    ['"harbour', "harbour AND (", "+harbour -runway", "harbour~2", "text:harbour", "HARBOURS"],
)
def test_nothing_in_the_words_is_an_operator(searcher: Searcher, text: str) -> None:
    hits = searcher.search(text, 1000, mode="text").hits
    plain = " ".join(word for word in ("harbour", "runway") if word in text.lower())
    assert ids(hits) == ids(searcher.search(plain, 1000, mode="text").hits)


def test_a_text_search_without_hits_says_why(searcher: Searcher) -> None:
    for text in ("the", "the of a", "zeppelin", "?!", "日本"):
        result = searcher.search(text, mode="text")
        assert result.hits == ()
        assert result.note is not None
        assert "no image has any of these words" in result.note
    filtered = searcher.search("the", mode="text", where=parse_filter("gsd < 5"))
    assert "no image that matches the filter has" in str(filtered.note)


def test_the_default_is_hybrid_where_it_can_be(searcher: Searcher, tmp_path: Path) -> None:
    assert searcher.search("harbour").mode == "hybrid"
    image_id = searcher.search("harbour").hits[0].image_id
    assert searcher.search(SearchRequest(like=(image_id,))).mode == "dense"
    bare = make_table(location(tmp_path / "table"), good_rows(0, 3))
    assert Searcher(bare, FakeEmbedder()).search("harbour").mode == "dense"
    for mode in ("text", "hybrid"):
        with pytest.raises(TableError, match=r"no full-text index: .*run: skytext index "):
            Searcher(bare, FakeEmbedder()).search("harbour", mode=mode)  # type: ignore[arg-type]


def test_several_queries_by_max_score_the_query_that_fits_best(searcher: Searcher) -> None:
    texts = ("harbour bridge", "forest", "desert quarry")
    for mode in ("dense", "text"):
        alone = [searcher.search(text, 1000, mode=mode, exact=True).hits for text in texts]  # type: ignore[arg-type]
        best: dict[str, float] = {}
        for hits in alone:
            for hit in hits:
                best[hit.image_id] = max(hit.rank_score, best.get(hit.image_id, -1))
        request = SearchRequest(texts=texts, k=1000, mode=mode, exact=True)  # type: ignore[arg-type]
        hits = searcher.search(request).hits
        assert {hit.image_id: hit.rank_score for hit in hits} == pytest.approx(best, abs=1e-6)


def test_several_queries_by_mean_are_one_query(searcher: Searcher, rows: Rows) -> None:
    texts = ("harbour", "forest")
    query = FakeEmbedder().embed_queries(texts).mean(axis=0)
    query /= np.linalg.norm(query)
    request = SearchRequest(texts=texts, combine="mean", mode="dense", k=5, exact=True)
    for hit in searcher.search(request).hits:
        row = next(row for row in rows if row["image_id"] == hit.image_id)
        assert hit.rank_score == pytest.approx(np.max(np.asarray(row["vectors"]) @ query), abs=1e-5)
    words = SearchRequest(texts=texts, combine="mean", mode="text", k=1000)
    assert ids(searcher.search(words).hits) == ids(
        searcher.search("harbour forest", 1000, mode="text").hits
    )


def test_a_search_like_an_image_finds_similar_images_but_not_itself(
    searcher: Searcher, rows: Rows
) -> None:
    row = next(row for row in rows if row["status"] == "ok" and len(row["vectors"]) > 1)
    mean = np.asarray(row["vectors"], np.float32).mean(axis=0)
    mean /= np.linalg.norm(mean)
    result = searcher.search(SearchRequest(like=(row["image_id"],), k=1000, exact=True))
    others = [r for r in rows if r["status"] == "ok" and r is not row]
    expected = sorted(
        (float(np.max(np.asarray(r["vectors"]) @ mean)) for r in others), reverse=True
    )
    np.testing.assert_allclose([hit.rank_score for hit in result.hits], expected, atol=1e-5)
    assert row["image_id"] not in ids(result.hits)
    described = searcher.search(
        SearchRequest(described=tuple(c["one_sentence"] for c in row["captions"]), k=1, exact=True)
    )
    assert described.hits[0].rank_score >= result.hits[0].rank_score


def test_examples_move_the_query(searcher: Searcher) -> None:
    def score(**more: Any) -> dict[str, float]:
        request = SearchRequest(text="harbour", mode="dense", k=1000, exact=True, **more)
        return {hit.one_sentence: hit.rank_score for hit in searcher.search(request).hits}

    plain = score()
    towards = score(positive=(Example(text="glacier"),))
    away = score(negative=(Example(text="glacier"),))
    icy = [text for text in plain if "glacier" in text and "harbour" not in text]
    assert icy
    assert np.mean([towards.get(t, 0) for t in icy]) > np.mean([plain[t] for t in icy])
    assert np.mean([away.get(t, 0) for t in icy]) < np.mean([plain[t] for t in icy])
    only = searcher.search(SearchRequest(positive=(Example(text="glacier"),), k=3))
    assert ids(only.hits) == ids(searcher.search("glacier", 3, mode="dense").hits)


def test_example_images_are_not_in_the_hits(searcher: Searcher) -> None:
    first, second, third = ids(searcher.search("forest", 3, mode="dense").hits)
    request = SearchRequest(
        text="forest",
        mode="dense",
        k=1000,
        positive=(Example(image_id=first),),
        negative=(Example(image_id=third),),
    )
    found = ids(searcher.search(request).hits)
    assert second in found
    assert not {first, third} & set(found)


def test_queries_that_cancel_out_are_refused(searcher: Searcher) -> None:
    texts = tuple(WORDS)
    vectors = FakeEmbedder().embed_queries(texts)
    assert len(vectors) == len(texts)

    class Opposite(FakeEmbedder):
        def embed_queries(self, texts: Sequence[str]) -> Any:
            found = super().embed_queries(["x"] * len(texts))
            return found * np.array([[(-1.0) ** i] for i in range(len(texts))], np.float32)

    opposed = Searcher(searcher.table, Opposite())
    with pytest.raises(CallError, match="the queries cancel each other out"):
        opposed.search(SearchRequest(texts=("a", "b"), combine="mean", mode="dense"))


def test_a_cursor_of_another_search_or_version_is_refused(
    searcher: Searcher, rows: Rows, tmp_path: Path
) -> None:
    cursor = searcher.search("harbour", 3).next_cursor
    assert cursor is not None
    on = SearchRequest(text="harbour", k=5, cursor=cursor)
    assert len(searcher.search(on).hits) == 5
    for other in (
        {"text": "forest"},
        {"mode": "dense"},
        {"where": parse_filter("gsd < 5")},
        {"group_duplicates": True},
    ):
        with pytest.raises(CallError, match="the cursor belongs to another search"):
            searcher.search(on.model_copy(update=other))
    weighted = Searcher(searcher.table, FakeEmbedder(), search=SearchConfig(text_weight=1))
    with pytest.raises(CallError, match="the cursor belongs to another search"):
        weighted.search(on)
    table = make_table(location(tmp_path / "table"), rows[:30])
    with pytest.raises(
        CallError, match=r"cursor belongs to table version \d+, but this search uses \d+"
    ):
        Searcher(table, FakeEmbedder()).search(on)
    for text in ("", "x", "abc", cursor[:-3], cursor[::-1], "é", "W10", "bnVsbA"):
        with pytest.raises(ConfigError, match="invalid cursor"):
            searcher.search(on.model_copy(update={"cursor": text}))


def test_pages_end_somewhere(searcher: Searcher, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("skytext.search.results.paging.MAX_DEPTH", 8)
    assert MAX_DEPTH >= 1000
    first = searcher.search("harbour", 3)
    second = searcher.search(SearchRequest(text="harbour", k=3, cursor=first.next_cursor))
    assert first.note is None
    assert len(second.hits) == 3
    assert second.next_cursor is None
    assert second.note == (
        "all pages together have at most 8 hits: use a filter to find fewer images"
    )
    with pytest.raises(CallError, match="all pages together have at most 8 hits"):
        searcher.search(SearchRequest(text="harbour", k=6, cursor=first.next_cursor))


def tilted(first: float, second: float, rest: int) -> Floats:
    """Return two equal unit vectors with these cosines to the first two axes."""
    vector = np.zeros(16)
    vector[0], vector[1], vector[rest] = first, second, math.sqrt(1 - first**2 - second**2)
    return np.array([vector, vector], np.float32)


class Axes(FakeEmbedder):
    """An embedder that maps "harbour" to the first axis and "forest" to the second axis."""

    def embed_queries(self, texts: Sequence[str]) -> Any:
        return np.eye(16, dtype=np.float32)[[("harbour", "forest").index(t) for t in texts]]


def all_pages(searcher: Searcher, request: SearchRequest) -> list[str]:
    found: list[str] = []
    while True:
        result = searcher.search(request)
        assert result.exact
        found += [hit.uri.rpartition("#")[2] for hit in result.hits]
        if result.next_cursor is None:
            return found
        request = request.model_copy(update={"cursor": result.next_cursor})


@pytest.mark.parametrize("exact", [False, True])
def test_without_an_index_hybrid_misses_nothing_that_is_middling_in_both_lists(
    tmp_path: Path, exact: bool
) -> None:
    rows = [
        good_row(f"d{i}.jpg", vectors=tilted(0.8 + i * 1e-4, 0, 3 + i % 10), text="nothing")
        for i in range(60)
    ]
    rows += [
        good_row(f"t{i}.jpg", vectors=tilted(-0.5, 0, 3 + i % 10), text="harbour " * 4)
        for i in range(60)
    ]
    rows.append(good_row("both.jpg", vectors=tilted(0.79, 0, 3), text="harbour " * 3))
    where = location(tmp_path / "table")
    build_indexes(make_table(where, rows), IndexConfig(vector="never"))
    searcher = Searcher(ImagesTable.open(where), Axes())
    request = SearchRequest(text="harbour", k=3, mode="hybrid", exact=exact)
    found = all_pages(searcher, request)
    assert found[0] == "both.jpg"
    assert sorted(found) == sorted(row["member"] for row in rows)


@pytest.mark.parametrize("k", [5, 320])
def test_each_of_several_queries_contributes_its_best_images(tmp_path: Path, k: int) -> None:
    rows = [
        good_row(f"q{i}.jpg", vectors=tilted(0.9 - i * 1e-3, 0.001 * (i % 7), 3 + i % 10), text="x")
        for i in range(300)
    ]
    # These images are the best images for the second query. In the list of the first query, they
    # come after all other images.
    rows += [
        good_row(f"r{i}.jpg", vectors=tilted(0, 0.55 - i * 1e-3, 3 + i % 10), text="x")
        for i in range(20)
    ]
    where = location(tmp_path / "table")
    build_indexes(make_table(where, rows), IndexConfig(vector="never"))
    searcher = Searcher(ImagesTable.open(where), Axes())
    request = SearchRequest(texts=("harbour", "forest"), k=k, mode="hybrid", exact=True)
    hits = searcher.search(request).hits
    names = [hit.uri.rpartition("#")[2] for hit in hits]
    assert {names[0], names[1]} == {"q0.jpg", "r0.jpg"}
    vectors = np.array([row["vectors"][0] for row in rows])[:, :2]
    scores = ((vectors + 1) / (vectors.max(axis=0) + 1)).max(axis=1) / 1.2
    score_of = dict(zip((row["member"] for row in rows), scores, strict=True))
    for name, hit in zip(names, hits, strict=True):
        assert hit.rank_score == pytest.approx(score_of[name], abs=1e-5)


def test_a_changed_cursor_is_refused(searcher: Searcher) -> None:
    request = SearchRequest(text="harbour", k=2, mode="hybrid")
    cursor = searcher.search(request).next_cursor
    assert cursor is not None
    payload = json.loads(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
    for tops in ({"a": 1, "b": 2}, [[], []], [[1.0]], [[1.0, 1.0], [2.0, 2.0]], [[1.0], [None]]):
        changed = json.dumps([*payload[:-1], tops]).encode()
        text = base64.urlsafe_b64encode(changed).decode().rstrip("=")
        with pytest.raises(ConfigError, match="invalid cursor"):
            searcher.search(request.model_copy(update={"cursor": text}))


@pytest.fixture(scope="module")
def doubled(tmp_path_factory: pytest.TempPathFactory) -> Searcher:
    """Make a table with eight images. Three have the same content, and two have the same text.

    Two other images have no content hash.
    """
    where = location(tmp_path_factory.mktemp("doubled") / "table")
    contents = {"a": "1", "b": "1", "c": "1", "d": "2", "e": "3", "f": "4", "g": None, "h": None}
    texts = {"a": "harbour", "b": "harbour runway", "c": "harbour tank", "d": "forest bridge"}
    texts |= {"e": "forest bridge", "f": "desert", "g": "glacier", "h": "quarry"}
    rows = [
        good_row(
            f"{name}.jpg",
            vectors=FakeEmbedder(64).embed_documents([text, text]).vectors[:, :16],
            content_sha256=contents[name],
            text=text,
        )
        for name, text in texts.items()
    ]
    for row in rows:
        vectors = np.asarray(row["vectors"])
        row["vectors"] = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).tolist()
    build_indexes(make_table(where, rows), IndexConfig())
    return Searcher(ImagesTable.open(where), FakeEmbedder())


@pytest.mark.parametrize("k", [1, 2, 3, 10])
@pytest.mark.parametrize("mode", ["dense", "hybrid"])
def test_near_duplicates_are_one_hit(doubled: Searcher, k: int, mode: Any) -> None:
    request = SearchRequest(text="harbour", k=k, mode=mode, group_duplicates=True)
    found: list[Hit] = []
    while True:
        result = doubled.search(request)
        found += result.hits
        if result.next_cursor is None:
            break
        assert len(result.hits) == k
        request = request.model_copy(update={"cursor": result.next_cursor})
    groups = [{hit.image_id, *hit.duplicates} for hit in found]
    names = {row["image_id"]: row["member"][0] for row in all_rows(doubled)}
    assert sorted("".join(sorted(names[i] for i in group)) for group in groups) == [
        "abc",
        "de",
        "f",
        "g",
        "h",
    ]
    ungrouped = doubled.search("harbour", 10, mode=mode)
    assert len(ungrouped.hits) == 8
    assert all(hit.duplicates == () for hit in ungrouped.hits)


def all_rows(searcher: Searcher) -> list[dict[str, Any]]:
    found = searcher.table.dataset.to_table(columns=["image_id", "member"]).to_pylist()
    return list(found)


def test_one_result_is_the_same_every_time(searcher: Searcher) -> None:
    for mode in ("dense", "text", "hybrid"):
        one = searcher.search("harbour forest", 50, mode=mode)  # type: ignore[arg-type]
        for _ in range(3):
            assert searcher.search("harbour forest", 50, mode=mode) == one  # type: ignore[arg-type]


def test_many_may_search_at_once(searcher: Searcher) -> None:
    texts = [f"{one} {other}" for one in WORDS[:4] for other in WORDS[4:8]]
    alone = [searcher.search(text, 20) for text in texts]
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(lambda text: searcher.search(text, 20), texts)) == alone


@pytest.mark.parametrize("mode", ["dense", "text", "hybrid"])
@pytest.mark.parametrize("group", [False, True])
def test_hits_have_at_least_the_minimum_score(searcher: Searcher, mode: Any, group: bool) -> None:
    request = SearchRequest(
        text="harbour tank", mode=mode, k=1000, exact=True, group_duplicates=group
    )
    every = searcher.search(request).hits
    scores = sorted((hit.cosine for hit in every), reverse=True)
    least = (scores[9] + scores[10]) / 2
    request = request.model_copy(update={"min_score": least, "k": 4})
    found: list[Hit] = []
    while True:
        result = searcher.search(request)
        found += result.hits
        if result.next_cursor is None:
            break
        assert len(result.hits) == 4
        request = request.model_copy(update={"cursor": result.next_cursor})
    if not group:
        assert ids(found) == [hit.image_id for hit in every if hit.cosine >= least]
    assert len(found) == len(set(ids(found)))
    assert min(hit.cosine for hit in found) >= least
    nothing = searcher.search(SearchRequest(text="harbour tank zzz", mode=mode, min_score=1.0))
    assert nothing.hits == ()
    assert nothing.note == "no image that matches has a score of 1 or more (min_score)"


def test_a_search_with_a_least_score_ends_long_before_the_last_image(
    searcher: Searcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    depths: list[int] = []
    rank = Ranker.rank

    def noted(self: Ranker, depth: int, scale: Any = None) -> Any:
        depths.append(depth)
        return rank(self, depth, scale)

    monkeypatch.setattr(Ranker, "rank", noted)
    assert searcher.search(SearchRequest(text="harbour zzz", k=1, min_score=1.0)).hits == ()
    assert depths == [52]


def test_a_request_takes_no_further_arguments(searcher: Searcher) -> None:
    with pytest.raises(ConfigError, match="in the SearchRequest, not as arguments"):
        searcher.search(SearchRequest(text="a"), 5)


@pytest.mark.parametrize("pooling", ["mean", "max+mean"])
def test_another_pooling_can_be_set(searcher: Searcher, rows: Rows, pooling: Any) -> None:
    chosen = SearchConfig(mode="dense", dense_pooling=pooling)
    other = Searcher(searcher.table, FakeEmbedder(), search=chosen)
    hits = other.search("harbour", 10, exact=True).hits
    if pooling == "max+mean":
        expected = sorted(pooled(rows, "harbour").values(), reverse=True)[:10]
        np.testing.assert_allclose([hit.rank_score for hit in hits], expected, atol=1e-5)
    assert len(other.search("harbour", 10).hits) == 10
    assert max(hit.cosine for hit in hits) <= 1 + 1e-6


def test_answers_from_copied_rows_are_the_same(
    searcher: Searcher, rows: Rows, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    image_id = rows[0]["image_id"]
    requests = [
        SearchRequest(text="harbour tank", mode=mode, k=k, where=where, exact=exact, **more)
        for mode in ("dense", "text", "hybrid")
        for k, where in ((10, None), (200, None), (5, parse_filter("gsd < 3")))
        for exact in (False, True)
        for more in ({}, {"group_duplicates": True})
    ]
    requests += [
        SearchRequest(like=(image_id,)),
        SearchRequest(texts=("bridge", "glacier"), negative=(Example(image_id=image_id),)),
    ]
    copying = Searcher(searcher.table, FakeEmbedder(), IndexConfig(nprobes=1, refine_factor=1))
    assert copying.copy_rows(tmp_path)
    assert copying.rows_are_copied
    for request in requests:
        assert copying.search(request).to_json() == searcher.search(request).to_json()
    first = copying.search(SearchRequest(text="forest", k=7))
    following = SearchRequest(text="forest", k=7, cursor=first.next_cursor)
    assert copying.search(following).to_json() == searcher.search(following).to_json()
    # The rows are read only from the copy.
    monkeypatch.setattr("skytext.table.queries.row_copy.take", None)
    monkeypatch.setattr("skytext.table.queries.row_copy.take_variants", None)
    assert copying.search(requests[0]).hits
    with pytest.raises(TypeError):
        searcher.search(requests[0])


def test_only_the_best_rows_that_the_index_covers_are_read(
    searcher: Searcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, read = retriever_of_words.word_scores, {"covered": 0, "new": 0}

    def counted(*args: Any, uncovered: Any = None, **more: Any) -> Any:
        found = real(*args, uncovered=uncovered, **more)
        kind = "covered" if uncovered is None else "new"
        read[kind] = max(read[kind], len(found.ids))
        return found

    monkeypatch.setattr(retriever_of_words, "word_scores", counted)
    searcher.search(SearchRequest(text=WORDS[0], mode="text", k=3))
    table = searcher.table
    num_new = sum(
        table.dataset.get_fragment(fragment_id).count_rows()
        for fragment_id in uncovered_fragments(table.dataset, TEXT_INDEX)
    )
    assert 0 < read["covered"] < 60
    assert read["new"] <= num_new
