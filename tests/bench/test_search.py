"""Test the search benchmark at a very small size."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from bench.search import __main__ as command
from bench.search import embedding, fit, report
from bench.search.filters import measure_filters
from bench.search.measure import served
from bench.search.systems import (
    ExactNumpy,
    GivenVectors,
    LanceDb,
    Skytext,
    best_images,
    clone_table,
    image_numbers,
)
from bench.search.table import RARE_COLLECTION, caption_vectors, make_table, stored_vectors
from bench.search.truth import nearest_rows, recall
from bench.search.vectors import CaptionStatistics, CaptionVectors
from skytext.config.embedding import EmbedConfig
from skytext.config.index import IndexConfig
from skytext.models.checkpoints import embed_model
from skytext.models.fingerprints import embedding_fingerprint
from skytext.search import Searcher
from skytext.search.retrievers import matching
from skytext.table.images_dataset import ImagesTable

NUM_IMAGES = 2_000
NUM_QUERIES = 12


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("work")


@pytest.fixture(scope="module")
def table(folder: Path) -> ImagesTable:
    return make_table(folder / f"table-{NUM_IMAGES}", caption_vectors(NUM_IMAGES))


def drawn(num_images: int = 300, seed: int = 1) -> CaptionVectors:
    return CaptionVectors(num_images, 5, seed, CaptionStatistics.load())


def test_vectors_are_the_same_again_and_of_unit_length() -> None:
    (first,), (again,) = drawn().blocks(), drawn().blocks()
    np.testing.assert_array_equal(first, again)
    np.testing.assert_allclose(np.linalg.norm(first, axis=2), 1, rtol=1e-5)
    (other,) = drawn(seed=2).blocks()
    assert np.abs(first - other).max() > 0.01


def test_a_query_is_like_its_image_and_no_copy_of_a_variant() -> None:
    (stored,) = drawn().blocks()
    queries = drawn().queries(300)
    own = np.einsum("ivd,id->iv", stored, queries)
    others = np.einsum("ivd,id->iv", np.roll(stored, 1, axis=0), queries)
    assert own.max() < 0.9999
    assert np.median(own) > np.median(others) + 0.2


def test_drawn_vectors_are_as_like_each_other_as_real_captions_were() -> None:
    # These are the medians of real captions from the validation splits of RSICD, RSITMD and NWPU
    # (see docs/benchmarks.md).
    (stored,) = drawn(2_000).blocks()
    found = fit.cosines(list(stored), drawn(2_000).queries(300))
    medians = {name: quantiles[2] for name, quantiles in found.items()}
    assert medians["within an image"] == pytest.approx(0.66, abs=0.12)
    assert medians["nearest other image"] == pytest.approx(0.90, abs=0.12)
    assert medians["query to any image"] == pytest.approx(0.24, abs=0.12)


def test_the_fit_comes_nearer_to_what_it_is_given() -> None:
    (stored,) = drawn(200, seed=5).blocks()
    images = list(stored)
    start = fit.fit(images, trials=0)
    found = fit.fit(images, trials=4)
    target = fit.cosines(*fit._split(images))
    assert fit._loss(found, images, target) < fit._loss(start, images, target)


def test_statistics_survive_their_file(tmp_path: Path) -> None:
    known = CaptionStatistics.load()
    known.save(tmp_path / "again.json")
    again = CaptionStatistics.load(tmp_path / "again.json")
    np.testing.assert_allclose(again.wording, known.wording, rtol=1e-4)
    assert again.num_scenes == known.num_scenes


def test_the_right_answers_are_those_of_a_plain_loop() -> None:
    (stored,) = drawn().blocks()
    queries = drawn().queries(7)
    plain = np.argsort(-(stored @ queries.T).max(axis=1), axis=0)[:10].T
    blocks = np.array_split(stored, 4)
    np.testing.assert_array_equal(nearest_rows(queries, blocks, 10), plain)
    keep = np.zeros(300, dtype=np.bool_)
    keep[[3, 250]] = True
    few = nearest_rows(queries, blocks, 10, keep)
    assert {*few[:, :2].ravel()} == {3, 250}
    assert (few[:, 2:] == -1).all()


def test_recall_counts_what_is_there_to_be_found() -> None:
    truth = np.array([[1, 2, 3, 4], [5, 6, -1, -1]])
    assert recall([np.array([1, 2, 9]), np.array([6, 5])], truth) == pytest.approx(0.75)


def test_the_best_images_of_vectors_stand_once() -> None:
    np.testing.assert_array_equal(best_images(np.array([12, 3, 10, 26, -1]), 3), [2, 0, 5])


def test_the_table_is_one_that_a_searcher_opens(table: ImagesTable) -> None:
    (stored,) = caption_vectors(NUM_IMAGES).blocks()
    np.testing.assert_array_equal(np.concatenate(list(stored_vectors(table))), stored)
    model = embed_model(EmbedConfig())
    assert table.text_column.fingerprint == embedding_fingerprint(model)
    given = GivenVectors(table.text_column.dim)
    hit = Searcher(table, given).search(given.name(stored[7, 3]), 1).hits[0]
    assert (image_numbers([hit.uri]).tolist(), hit.variant) == ([7], 3)
    assert hit.collection in {RARE_COLLECTION, "c0", "c1", "c2", "c3"}
    assert hit.datetime is not None
    assert hit.caption


def test_every_system_finds_the_right_images(table: ImagesTable, folder: Path) -> None:
    queries = caption_vectors(NUM_IMAGES).queries(NUM_QUERIES)
    truth = nearest_rows(queries, stored_vectors(table), 10)
    everywhere = IndexConfig(vector="always", nprobes=1000, refine_factor=20, recall_queries=16)
    systems = {
        "skytext": Skytext(config=everywhere),
        "exact": ExactNumpy(),
        "lancedb": LanceDb(),
    }
    for name, system in systems.items():
        # LanceDB's default index trains for minutes, even for a small table. Therefore LanceDB
        # searches without an index in this test.
        build = clone_table if name == "lancedb" else system.build
        build(table, folder / name)
        search = system.open(table, folder / name)
        found = served(search, queries, truth, num_clients=2, span_s=0.1)
        assert found["mean_hits"] == 10
        assert found["recall_at_10"] > 0.99, name
        assert found["queries_per_s"] > 0


def test_faiss_finds_the_right_images(table: ImagesTable, folder: Path) -> None:
    pytest.importorskip("faiss", reason="faiss is of the extra `bench`")
    from bench.search.faiss_systems import FaissHnsw, FaissIvfPq

    queries = caption_vectors(NUM_IMAGES).queries(NUM_QUERIES)
    truth = nearest_rows(queries, stored_vectors(table), 10)
    for system, least in ((FaissIvfPq(pq_bytes=8, pq_iterations=1), 0.2), (FaissHnsw(), 0.95)):
        place = folder / type(system).__name__
        system.build(table, place)
        search = system.open(table, place)
        assert recall([search(query, 10) for query in queries], truth) >= least


def test_the_result_of_several_rounds_is_the_median() -> None:
    rounds = [{"p50_ms": ms, "sizes": {"a": ms}, "kind": "x", "ok": True} for ms in (9.0, 1.0, 4.0)]
    rounds[0]["write_s"], rounds[1]["write_s"], rounds[2]["write_s"] = 7.0, None, None
    found = {"p50_ms": 4.0, "sizes": {"a": 4.0}, "kind": "x", "ok": True, "write_s": 7.0}
    assert command.medians(rounds) == found


def test_the_report_compares_each_system_with_lance_alone() -> None:
    results = {"skytext": {"p50_ms": 4.0}, "lance": {"p50_ms": 8.0}}
    lines = report.markdown(results).splitlines()
    assert "p50 / Lance alone" in lines[0]
    assert "| skytext | 4.0 | 0.50 |" in lines


@pytest.mark.proof
def test_sections_are_measured_in_processes_and_merged(table: ImagesTable, folder: Path) -> None:
    output = folder / "search.json"
    sizes = ["--num-images", str(NUM_IMAGES), "--num-queries", str(NUM_QUERIES), "--span-s", "0.1"]
    places = ["--work", str(folder), "--output", str(output)]
    run = CliRunner()
    done = run.invoke(command.app, ["--only", "table", *sizes, *places])
    assert done.exit_code == 0, done.output
    sections = ("skytext", "copied", "lance", "filtered")
    only = [argument for name in sections for argument in ("--only", name)]
    done = run.invoke(command.app, [*only, *sizes, *places, "--repeats", "2"])
    assert done.exit_code == 0, done.output
    results = json.loads(output.read_text(encoding="utf-8"))
    assert set(results) == {"table", *sections}
    # With fewer than 10,000 images, skytext searches exactly.
    assert results["skytext"]["recall_at_10"] == 1
    assert results["copied"]["recall_at_10"] == results["lance"]["recall_at_10"] == 1
    assert results["skytext"]["build_peak_mib"] > 0
    assert results["skytext"]["index_bytes_per_image"] > 0
    collections = table.dataset.to_table(columns=["collection"]).column(0).to_pylist()
    assert results["filtered"]["skytext"]["recall_at_10"] == 1
    assert results["filtered"]["skytext"]["mean_hits"] == collections.count(RARE_COLLECTION)
    assert report.markdown(results) in done.stdout


def test_a_search_under_a_filter_is_never_short(
    table: ImagesTable, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # With this limit, all filters except the rarest filter use the index.
    monkeypatch.setattr(matching, "_SCORED_WITHOUT_INDEX", 5)
    Skytext().build(table, folder / "filters")
    queries = caption_vectors(NUM_IMAGES).queries(40)
    found = measure_filters(folder / "filters", queries, parts=(0.0005, 0.01, 0.5, 0.99))
    assert [one["num_matches"] for one in found.values()] == [1, 20, 1_000, 1_980]
    for one in found.values():
        assert one["num_short"] == 0
        assert one["recall_at_10"] >= 0.99
        assert one["num_different"] <= 2
    assert "| 50 % (1,000) | 40 |" in report.markdown(json.loads(json.dumps({"filters": found})))


def test_the_fastest_embedding_that_loses_little_is_chosen() -> None:
    rates = {embedding.BARE: 50.0, embedding.REFERENCE: 49.0, "half": 200.0, "rough": 300.0}
    lost = {embedding.REFERENCE: 0.0, "half": 0.05, "rough": 0.3}
    recalls = {name: {"RSITMD": 90 - much, "RSICD": 25.0} for name, much in lost.items()}
    found = embedding.summary(rates, recalls)
    assert found["chosen"] == "half"
    assert found["ways"]["half"]["ratio"] == 4
    assert "| rough | 300 | 6.00 | 89.70 (-0.30) | 25.00 (+0.00) |" in report.markdown(
        {"embedding": found | {"mean_recall_sets": ["RSITMD", "RSICD"]}}
    )


def test_recall_is_measured_on_the_captions_that_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    captions = {"a.jpg": ["a red ship", "red ship here"], "b.jpg": ["dry sand", "sand and dry"]}
    made = [{"filename": name, "captions": texts} for name, texts in captions.items()]
    (tmp_path / "made.json").write_text(json.dumps(made), encoding="utf-8")
    monkeypatch.setenv(embedding.DATA, str(tmp_path))
    monkeypatch.setattr(embedding, "SETS", {"made": "made.json"})

    def encode(texts: list[str]) -> np.ndarray:
        return np.array([[1, 0] if "ship" in text else [0, 1] for text in texts], np.float32)

    assert embedding.mean_recalls(encode) == {"made": 100.0}
    # All texts are equal. Each of the two images is first in half of the orders, and always in the
    # top 5.
    found = embedding.mean_recalls(lambda texts: np.ones((len(texts), 1), np.float32))
    assert found["made"] == pytest.approx(100 * (0.5 + 1 + 1) / 3)
