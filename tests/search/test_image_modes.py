"""Test searches by image vectors. The fake models use the colours of images and words of texts."""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from skytext.config.embedding import EmbedConfig, ImageEmbedConfig
from skytext.config.index import IndexConfig
from skytext.config.pixels import ImageConfig
from skytext.errors import CallError, ConfigError, TableError
from skytext.filters.cql2_text import parse_filter
from skytext.models.checkpoints import embed_model, image_model
from skytext.models.fakes.embedders import FakeEmbedder, FakeImageEmbedder
from skytext.models.fingerprints import embedding_fingerprint, image_embedding_fingerprint
from skytext.search import Example, Searcher, SearchRequest, SearchResult
from skytext.search.retrievers import matching
from skytext.table.commits.stage_vectors import stage_vectors
from skytext.table.images_dataset import ImagesTable
from skytext.table.indexes.build_indexes import build_indexes
from skytext.table.indexes.image_vector_index import build_image_index, image_index_facts
from skytext.table.location import TableLocation
from skytext.table.vector_columns import VectorColumn, VectorKind
from tests.cli.tables import described_row
from tests.search.rankings import nearest_images, pages
from tests.table.image_rows import commit_vectors, embed_numbers, image_vector
from tests.table.rows import (
    DIM,
    committer,
    failed_row,
    good_row,
    good_rows,
    location,
    make_table,
    stage,
    text_column,
    unit_vectors,
)

# The pixels of an image are red, green or blue. Its description may name another colour.
SHOWN = {
    "a.jpg": ((200, 10, 10), "a red roof"),
    "b.jpg": ((190, 30, 20), "a forest"),
    "c.jpg": ((10, 180, 10), "a red field"),
    "d.jpg": ((10, 10, 220), "the sea"),
    "e.jpg": (None, "a red car"),
}


def make_searched(folder: Path) -> ImagesTable:
    where = location(folder)
    rows = [
        described_row(name, [text, "x y"], gsd=1.0 + i)
        for i, (name, (_, text)) in enumerate(SHOWN.items())
    ]
    fingerprint = embedding_fingerprint(embed_model(EmbedConfig(model="fake")))
    committer(where, text_column("fake", fingerprint)).commit(
        [stage(where, [*rows, failed_row("f.jpg")])]
    )
    embed(where, {name: colour for name, (colour, _) in SHOWN.items() if colour})
    return ImagesTable.open(where)


def embed(where: TableLocation, colours: dict[str, Any]) -> None:
    model = image_model(ImageEmbedConfig(model="fake"))
    fingerprint = image_embedding_fingerprint(model, ImageConfig())
    fake = FakeImageEmbedder()
    vectors = fake.embed_images([Image.new("RGB", (9, 9), c) for c in colours.values()])
    ids = [good_row(name)["image_id"] for name in colours]
    ours = VectorColumn(VectorKind.IMAGE, fingerprint, "fake", "", fake.dim)
    entries = pa.array(list(vectors), ours.field.type)
    unit = stage_vectors(where, "u", ours, ids, [None] * len(ids), entries)
    commit_vectors(where, ImagesTable.open(where).version, [unit])


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("images") / "table"
    make_searched(folder)
    return str(folder)


def names(hits: Any) -> list[str]:
    return [hit.uri.rpartition("#")[2] for hit in hits]


@pytest.fixture(scope="module")
def searcher(table: str) -> Searcher:
    return Searcher.open(table, with_images=True)


def ask(searcher: Searcher, mode: Any = "image", **request: Any) -> SearchResult:
    words = {} if {"like", "positive", "texts"} & request.keys() else {"text": "red"}
    return searcher.search(SearchRequest(mode=mode, **words, **request))


def image_id(name: str) -> str:
    return str(good_row(name)["image_id"])


def test_images_are_found_by_what_they_show(searcher: Searcher) -> None:
    result = ask(searcher, k=3)
    assert names(result.hits)[:2] == ["a.jpg", "b.jpg"]
    first = result.hits[0]
    colour = Image.new("RGB", (9, 9), SHOWN["a.jpg"][0])
    fake = FakeImageEmbedder()
    cosine = fake.embed_images([colour])[0] @ fake.embed_queries(["red"])[0]
    assert first.score == first.image_cosine == pytest.approx(float(cosine), abs=1e-5)
    # The hit shows the nearest description.
    words = FakeEmbedder().embed_queries(["red", "a red roof"])
    assert first.cosine == pytest.approx(float(words[0] @ words[1]), abs=1e-5)
    assert (first.variant, first.one_sentence, first.bm25) == (0, "a red roof", None)
    assert result.exact
    # An image without an image vector is never found.
    assert sorted(names(ask(searcher).hits)) == ["a.jpg", "b.jpg", "c.jpg", "d.jpg"]


def test_fused_both_count(searcher: Searcher) -> None:
    result = ask(searcher, "image+dense")
    found = names(result.hits)
    # The best image by both rankings is first. Images that are in only one ranking are found too.
    assert found[0] == "a.jpg"
    assert sorted(found) == sorted(SHOWN)
    without = next(hit for hit in result.hits if hit.uri.endswith("e.jpg"))
    assert without.image_cosine is None
    words = FakeEmbedder().embed_queries(["red", "a red car"])
    assert without.cosine == pytest.approx(float(words[0] @ words[1]), abs=1e-5)
    assert without.variant == 0
    assert without.score is None
    assert [hit.rank_score for hit in result.hits] == sorted(
        (hit.rank_score for hit in result.hits), reverse=True
    )
    # The ranks are combined. a.jpg is first by image vectors and among the first three by words.
    assert result.hits[0].rank_score > 1 / 63
    assert result.hits[0].score == result.hits[0].image_cosine
    assert result.to_json()["hits"][0]["image_id"] == result.hits[0].image_id


class Towers(FakeImageEmbedder):
    """An embedder that returns the same vector for every text, different from all colours."""

    def embed_queries(self, texts: Sequence[str]) -> Any:
        found = [image_vector(1_000) for _ in texts]
        return np.stack(found) if found else np.empty((0, self.dim), np.float32)


def make_numbered(where: TableLocation, *, indexed: bool) -> Searcher:
    """Make a table. The images 0 to 399 have image vectors, and the images 400 to 449 have none."""
    rng = np.random.default_rng(3)
    rows = [
        good_row(f"{i:05d}.jpg", vectors=unit_vectors(rng, (2, DIM)), gsd=float(i % 8))
        for i in range(450)
    ]
    make_table(where, rows)
    embed_numbers(where, *range(400))
    if indexed:
        config = IndexConfig(vector="always", recall_queries=16)
        build_image_index(ImagesTable.open(where), config)
        build_indexes(ImagesTable.open(where), config)
    return Searcher(ImagesTable.open(where), FakeEmbedder(), image_embedder=Towers())


@pytest.fixture(scope="module", params=["exact", "index"])
def numbered(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Searcher:
    where = location(tmp_path_factory.mktemp("numbered") / "table")
    return make_numbered(where, indexed=request.param == "index")


@pytest.mark.parametrize("exact", [False, True])
def test_fused_ranks_are_those_among_all_rows(numbered: Searcher, exact: bool) -> None:
    # If the search is not exact, an index chooses the candidates.
    exact = exact or numbered.has_index
    whole = ask(numbered, "image+dense", k=450, exact=exact)
    assert whole.exact
    assert len(whole.hits) == 450
    query = FakeEmbedder().embed_queries(["red"])[0]
    rows = numbered.table.dataset.to_table().to_pylist()
    text = {
        r["image_id"]: max(np.dot(v, query) for v in r[numbered.table.text_column.name])
        for r in rows
    }
    own = {
        good_row(f"{i:05d}.jpg")["image_id"]: image_vector(i) @ image_vector(1_000)
        for i in range(400)
    }
    expected = {
        one: sum(
            1 / (60 + 1 + sum(other > scores[one] for other in scores.values()))
            for scores in (text, own)
            if one in scores
        )
        / 2
        for one in text
    }
    assert {h.image_id: h.rank_score for h in whole.hits} == pytest.approx(expected, abs=1e-6)
    for k in (1, 7, 100):
        some = ask(numbered, "image+dense", k=k, exact=exact)
        assert some.exact
        assert [(hit.image_id, hit.rank_score) for hit in some.hits] == [
            (hit.image_id, hit.rank_score) for hit in whole.hits[:k]
        ]


@pytest.mark.parametrize(("mode", "expected"), [("image", 400), ("image+dense", 450)])
@pytest.mark.parametrize("k", [7, 90])
@pytest.mark.parametrize("exact", [False, True])
def test_pages_lead_to_every_image_once(
    numbered: Searcher, mode: Any, expected: int, k: int, exact: bool
) -> None:
    found = pages(numbered, SearchRequest(text="red", mode=mode, k=k, exact=exact))
    ids = [hit.image_id for hit in found]
    assert len(ids) == len(set(ids))
    if exact or not numbered.has_index:
        assert len(ids) == expected
    else:
        # A later page may find an image of an earlier page again. This image is left out.
        assert expected - 20 <= len(ids) <= expected
    scores = [hit.rank_score for hit in found]
    assert scores == sorted(scores, reverse=True)


def test_the_size_of_a_page_may_change(numbered: Searcher) -> None:
    first = ask(numbered, "image+dense", k=30)
    more = ask(numbered, "image+dense", k=60, cursor=first.next_cursor)
    whole = pages(numbered, SearchRequest(text="red", mode="image+dense", k=30))
    ids = [hit.image_id for hit in (*first.hits, *more.hits)]
    assert ids == [hit.image_id for hit in whole[:90]]


@pytest.mark.parametrize("mode", ["image", "image+dense"])
def test_a_changed_cursor_is_refused_or_harmless(numbered: Searcher, mode: Any) -> None:
    cursor = ask(numbered, mode, k=3).next_cursor
    assert cursor is not None
    payload = json.loads(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))

    def changed(scale: Any) -> str:
        text = json.dumps([*payload[:-1], scale]).encode()
        return base64.urlsafe_b64encode(text).decode().rstrip("=")

    for scale in ([[1.0], [2.0]], [[1.0, 2.0]], [[None]], {"a": 1}):
        with pytest.raises(ConfigError, match="invalid cursor"):
            ask(numbered, mode, k=3, cursor=changed(scale))
    if mode == "image+dense":
        for number in (-5.0, 0.0, 1e300):
            assert len(ask(numbered, mode, k=3, cursor=changed([[number]])).hits) <= 3


@pytest.mark.parametrize("mode", ["image", "image+dense"])
def test_hits_have_at_least_the_minimum_score(searcher: Searcher, mode: Any) -> None:
    result = ask(searcher, mode, min_score=0.5)
    assert set(names(result.hits)) == {"a.jpg", "b.jpg"}
    assert min(hit.score or -1 for hit in result.hits) >= 0.5


def test_several_texts_are_several_queries(searcher: Searcher) -> None:
    result = ask(searcher, texts=("red", "blue"))
    assert set(names(result.hits)[:2]) == {"a.jpg", "d.jpg"}
    mean = ask(searcher, texts=("red", "blue"), combine="mean")
    fake = FakeImageEmbedder()
    both = fake.embed_queries(["red", "blue"]).sum(axis=0)
    colour = Image.new("RGB", (9, 9), SHOWN["a.jpg"][0])
    cosine = fake.embed_images([colour])[0] @ both / np.linalg.norm(both)
    by_name = dict(zip(names(mean.hits), mean.hits, strict=True))
    assert by_name["a.jpg"].score == pytest.approx(float(cosine), abs=1e-5)


def test_like_an_image_compares_its_own_vector(searcher: Searcher) -> None:
    # The colours of b.jpg and a.jpg are similar. The descriptions of c.jpg and a.jpg are similar.
    found = ask(searcher, like=(image_id("a.jpg"),))
    assert names(found.hits)[0] == "b.jpg"
    assert "a.jpg" not in names(found.hits)
    fake = FakeImageEmbedder()
    images = [Image.new("RGB", (9, 9), SHOWN[name][0]) for name in ("a.jpg", "b.jpg")]
    one, other = fake.embed_images(images)
    assert found.hits[0].score == pytest.approx(float(one @ other), abs=1e-5)
    with pytest.raises(CallError, match=r"has no image vector, .* search with mode dense"):
        ask(searcher, like=(image_id("e.jpg"),))


def test_examples_move_the_query_in_both_spaces(searcher: Searcher) -> None:
    plain = {h.image_id: h for h in ask(searcher, "image+dense").hits}
    away = SearchRequest(text="red", mode="image+dense", negative=(Example(text="red"),))
    towards = SearchRequest(text="red", mode="image+dense", positive=(Example(text="sea blue"),))
    blue = image_id("d.jpg")
    moved = {h.image_id: h for h in searcher.search(towards).hits}[blue]
    own, before = moved.image_cosine, plain[blue].image_cosine
    assert own is not None
    assert before is not None
    assert own > before
    assert moved.cosine > plain[blue].cosine
    assert len(searcher.search(away).hits) == len(SHOWN)
    only = SearchRequest(mode="image", positive=(Example(image_id=image_id("d.jpg")),))
    assert "d.jpg" not in names(searcher.search(only).hits)


def test_near_duplicates_are_one_hit(tmp_path: Path) -> None:
    where = location(tmp_path / "table")
    contents = ["1", "1", "1", None, None, None]
    rows = [good_row(f"{i:05d}.jpg", content_sha256=one) for i, one in enumerate(contents)]
    for row, vector in zip(rows, np.eye(DIM, dtype=np.float32), strict=False):
        row["vectors"] = [vector.tolist()] * 2
    make_table(where, rows)
    embed_numbers(where, *range(6), contents=contents)
    searcher = Searcher(ImagesTable.open(where), FakeEmbedder(), image_embedder=Towers())
    for mode in ("image", "image+dense"):
        found = pages(
            searcher,
            SearchRequest(text="red", mode=mode, k=2, group_duplicates=True),  # type: ignore[arg-type]
        )
        assert len(found) == 4
        assert sorted(len(hit.duplicates) for hit in found) == [0, 0, 0, 2]


@pytest.mark.parametrize("mode", ["image", "image+dense"])
def test_filters_hold_before_the_search(searcher: Searcher, mode: Any) -> None:
    result = ask(searcher, mode, where=parse_filter("gsd >= 2 and gsd < 5"))
    assert sorted(names(result.hits)) == ["b.jpg", "c.jpg", "d.jpg"]
    nothing = ask(searcher, mode, where=parse_filter("gsd > 90"))
    assert nothing.hits == ()
    filtered = "matches the filter has an image vector" if mode == "image" else "matches the filter"
    assert f"no image {filtered}" in str(nothing.note) or filtered in str(nothing.note)


@pytest.mark.parametrize("mode", ["image", "image+dense"])
@pytest.mark.parametrize("few", [1, 3000])
def test_a_filter_finds_all_that_match(
    numbered: Searcher, mode: Any, few: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(matching, "_SCORED_WITHOUT_INDEX", few)
    result = ask(numbered, mode, k=1000, where=parse_filter("gsd < 1"))
    # Every eighth image matches. The mode ``image`` finds only images with an image vector.
    assert len(result.hits) == (50 if mode == "image" else 57)


@pytest.mark.parametrize("mode", ["image", "image+dense"])
def test_answers_from_copied_rows_are_the_same(
    numbered: Searcher, mode: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copying = Searcher(numbered.table, FakeEmbedder(), image_embedder=Towers())
    assert copying.copy_rows(tmp_path)
    request = SearchRequest(text="red", mode=mode, k=20)
    assert copying.search(request).to_json() == numbered.search(request).to_json()
    monkeypatch.setattr("skytext.table.queries.row_copy.take", None)
    monkeypatch.setattr("skytext.table.queries.row_copy.take_variants", None)
    assert copying.search(request).hits


def test_invalid_requests_are_refused(searcher: Searcher) -> None:
    with pytest.raises(CallError, match=r"no image of .* has the field collection"):
        ask(searcher, where=parse_filter("collection = 'naip'"))
    with pytest.raises(ConfigError, match="cannot search for a described image"):
        SearchRequest(described=("a river",), mode="image+dense")


def test_a_table_or_version_without_image_vectors_is_refused(tmp_path: Path, table: str) -> None:
    bare = make_table(location(tmp_path / "t"), good_rows(0, 2))
    with pytest.raises(TableError, match=r"has no image vectors\. .* run: skytext embed-images"):
        Searcher.open(str(tmp_path / "t"), with_images=True)
    with pytest.raises(TableError, match=r"has no image vectors\. .* run: skytext embed-images"):
        ask(Searcher(bare, FakeEmbedder()))
    with pytest.raises(TableError, match=r"version 1 of .* has image vectors: use --version"):
        Searcher.open(table, version=1, with_images=True)


def test_only_modes_whose_model_is_loaded_are_offered(searcher: Searcher, table: str) -> None:
    assert searcher.modes == ("dense", "image", "image+dense")
    without = Searcher.open(table)
    assert without.modes == ("dense",)
    with pytest.raises(TableError, match=r"mode image needs the model .* 'fake' is not loaded"):
        ask(without)


def test_an_index_finds_what_scoring_every_row_finds(tmp_path: Path) -> None:
    where = location(tmp_path / "table")
    make_table(where, good_rows(0, 400), good_rows(400, 200))
    embed_numbers(where, *range(500))
    assert build_image_index(ImagesTable.open(where), IndexConfig()) is None
    wanted = IndexConfig(vector="always", recall_queries=40)
    assert build_image_index(ImagesTable.open(where), wanted) is not None
    # Add vectors to some more rows. The index does not cover these rows.
    embed_numbers(where, *range(500, 560))
    table = ImagesTable.open(where)
    assert image_index_facts(table) is not None
    stored = np.array([image_vector(i) for i in range(560)])
    found = 0
    for query in unit_vectors(np.random.default_rng(5), (20, stored.shape[1])):
        nearest = nearest_images(table, query, 10)
        assert not nearest.exact
        best = np.argsort(-(stored @ query))[:10]
        members = table.dataset.scanner(
            columns=["member"], with_row_id=True, filter="status = 'ok'"
        ).to_table()
        name_of = dict(
            zip(*(members.column(c).to_pylist() for c in ("_rowid", "member")), strict=True)
        )
        got = {int(name_of[row][:5]) for row in nearest.ids.tolist()}
        found += len(got & set(best.tolist()))
    assert found >= 0.98 * 200
    # If k is larger than the number of images, all images with an image vector are found.
    everything = nearest_images(table, image_vector(0), 1000)
    assert (len(everything.ids), everything.exact) == (560, True)
    assert build_image_index(table, IndexConfig(vector="never")) is None
    assert image_index_facts(ImagesTable.open(where)) is None
