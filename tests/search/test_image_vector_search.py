"""Searches by the images' own vectors: the fakes' colours on one side, their words on the other."""

from __future__ import annotations

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
from skytext.errors import CallError, TableError
from skytext.filters.cql2_text import parse_filter
from skytext.models.checkpoints import embed_model, image_model
from skytext.models.fakes.embedders import FakeEmbedder, FakeImageEmbedder
from skytext.models.fingerprints import embedding_fingerprint, image_embedding_fingerprint
from skytext.search.image_vector_search import ImageSearcher
from skytext.table.commits.stage_vectors import stage_vectors
from skytext.table.images_dataset import ImagesTable
from skytext.table.indexes.image_vector_index import build_image_index, image_index_facts
from skytext.table.location import TableLocation
from skytext.table.queries.image_vector_queries import nearest_images
from skytext.table.vector_columns import VectorColumn, VectorKind
from tests.cli.tables import described_row
from tests.table.image_rows import commit_vectors, embed_numbers, image_vector
from tests.table.rows import (
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

# By its pixels an image is red, green or blue; by its words it may be something else.
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


def test_images_are_found_by_what_they_show(table: str) -> None:
    result = ImageSearcher.open(table).search("red", 3)
    assert names(result.hits)[:2] == ["a.jpg", "b.jpg"]
    first = result.hits[0]
    colour = Image.new("RGB", (9, 9), SHOWN["a.jpg"][0])
    fake = FakeImageEmbedder()
    cosine = fake.embed_images([colour])[0] @ fake.embed_queries(["red"])[0]
    assert first.score == first.image_score == pytest.approx(float(cosine), abs=1e-5)
    assert (first.text_score, first.variant, first.one_sentence) == (None, None, "a red roof")
    assert result.exact
    # One that has no vector is never found so, however many are asked for.
    assert sorted(names(ImageSearcher.open(table).search("red", 10).hits)) == [
        "a.jpg", "b.jpg", "c.jpg", "d.jpg",
    ]  # fmt: skip


def test_fused_both_count(table: str) -> None:
    result = ImageSearcher.open(table, mode="image+dense").search("red", 10)
    found = names(result.hits)
    # Best by both; and what only one of them finds is found.
    assert found[0] == "a.jpg"
    assert sorted(found) == sorted(SHOWN)
    without = next(hit for hit in result.hits if hit.uri.endswith("e.jpg"))
    assert without.image_score is None
    words = FakeEmbedder().embed_queries(["red", "a red car"])
    assert without.text_score == pytest.approx(float(words[0] @ words[1]), abs=1e-5)
    assert without.variant == 0
    assert [hit.score for hit in result.hits] == sorted(
        (hit.score for hit in result.hits), reverse=True
    )
    # Ranks are added: a.jpg is first by its image and among the first three by its words.
    assert result.hits[0].score > 1 / 63
    assert result.to_json()["hits"][0]["image_id"] == result.hits[0].image_id


def test_fused_ranks_are_those_among_all_rows(tmp_path: Path) -> None:
    where = location(tmp_path / "table")
    make_table(where, good_rows(0, 400))
    embed_numbers(where, *range(400))

    class Towers(FakeImageEmbedder):
        def embed_queries(self, texts: Sequence[str]) -> Any:
            return np.stack([image_vector(1_000) for _ in texts])

    searcher = ImageSearcher(ImagesTable.open(where), Towers(), FakeEmbedder())
    whole = searcher.search("a river", 400)
    assert whole.exact
    for k in (1, 7, 100):
        for exact in (False, True):
            some = searcher.search("a river", k, exact=exact)
            assert some.exact
            assert [(hit.image_id, hit.score) for hit in some.hits] == [
                (hit.image_id, hit.score) for hit in whole.hits[:k]
            ]


@pytest.mark.parametrize("mode", ["image", "image+dense"])
def test_filters_hold_before_the_search(table: str, mode: Any) -> None:
    searcher = ImageSearcher.open(table, mode=mode)
    result = searcher.search("red", 10, where=parse_filter("gsd >= 2 and gsd < 5"))
    assert sorted(names(result.hits)) == ["b.jpg", "c.jpg", "d.jpg"]
    assert searcher.search("red", 10, where=parse_filter("gsd > 90")).hits == ()


@pytest.mark.parametrize(("text", "k", "message"), [(" ", 1, "is empty"), ("a", 0, "1 to 1000")])
def test_what_cannot_be_meant_is_refused(table: str, text: str, k: int, message: str) -> None:
    with pytest.raises(CallError, match=message):
        ImageSearcher.open(table).search(text, k)
    with pytest.raises(CallError, match=r"no image of .* has collection"):
        ImageSearcher.open(table).search("red", where=parse_filter("collection = 'naip'"))


def test_a_table_or_version_without_image_vectors_is_refused(tmp_path: Path, table: str) -> None:
    make_table(location(tmp_path / "t"), good_rows(0, 2))
    with pytest.raises(TableError, match="has no image vectors: skytext embed-images"):
        ImageSearcher.open(str(tmp_path / "t"))
    with pytest.raises(TableError, match=r"version 1 of .* the latest has: --version"):
        ImageSearcher.open(table, version=1)


def test_an_index_finds_what_scoring_every_row_finds(tmp_path: Path) -> None:
    where = location(tmp_path / "table")
    make_table(where, good_rows(0, 400), good_rows(400, 200))
    embed_numbers(where, *range(500))
    assert build_image_index(ImagesTable.open(where), IndexConfig()) is None
    wanted = IndexConfig(vector="always", recall_queries=40)
    assert build_image_index(ImagesTable.open(where), wanted) is not None
    # Some more, which the index does not cover.
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
    # More than there are: all of those that have a vector.
    everything = nearest_images(table, image_vector(0), 1000)
    assert (len(everything.ids), everything.exact) == (560, True)
    assert build_image_index(table, IndexConfig(vector="never")) is None
    assert image_index_facts(ImagesTable.open(where)) is None
