from __future__ import annotations

from pathlib import Path
from typing import Any

import lance
import numpy as np
import pytest

from skytext.config.index import IndexConfig
from skytext.errors import CommitConflictError, IndexRecallError, TableError
from skytext.table.images_dataset import ImagesTable
from skytext.table.index_facts import VECTOR_INDEX, Probing, index_names, read_facts
from skytext.table.indexes.build_indexes import build_indexes, num_unindexed_rows
from skytext.table.indexes.index_recall import exact_scores, sample_queries
from skytext.table.indexes.measured_columns import VariantVectors
from skytext.table.indexes.vector_index import VectorPlan, choose_partitions, choose_plan
from skytext.table.location import TableLocation
from skytext.table.queries.caption_queries import nearest, take, take_variants
from tests.search.rankings import column, dense_question, rank
from tests.table.rows import (
    ALWAYS,
    DIM,
    committer,
    failed_row,
    good_row,
    good_rows,
    location,
    make_table,
    stage,
    unit_vectors,
)

NUM_IMAGES, NUM_VARIANTS = 2000, 5
SCALAR = {
    f"{column}_idx"
    for column in (
        "text",
        "image_id",
        "shard",
        "status",
        "datetime",
        "collection",
        "gsd",
        "content_sha256",
    )
}


@pytest.fixture
def where(tmp_path: Path) -> TableLocation:
    return location(tmp_path / "table")


def test_a_small_table_is_searched_exactly(where: TableLocation) -> None:
    table = make_table(where, good_rows(0, 20))
    report = build_indexes(table, IndexConfig())
    assert (report.vector, report.num_partitions, report.num_rows) == (None, None, 20)
    indexed = ImagesTable.open(where)
    assert report.table_version == indexed.version
    assert index_names(indexed.dataset) == SCALAR
    assert read_facts(indexed.dataset) is None


def test_from_the_threshold_on_there_is_a_vector_index(where: TableLocation) -> None:
    table = make_table(where, [*good_rows(0, 299), failed_row("bad.jpg")])
    below = build_indexes(table, IndexConfig(exact_below_rows=300))
    assert below.vector is None
    at = build_indexes(
        ImagesTable.open(where), IndexConfig(exact_below_rows=299, recall_queries=32)
    )
    assert at.vector == "IVF_RQ"
    assert at.num_partitions == choose_partitions(299 * 2)
    assert at.num_rows == 299
    assert index_names(ImagesTable.open(where).dataset) == SCALAR | {VECTOR_INDEX}


def test_always_and_never_override_the_threshold(where: TableLocation) -> None:
    table = make_table(where, good_rows(0, 300))
    assert build_indexes(table, ALWAYS).vector == "IVF_RQ"
    assert read_facts(ImagesTable.open(where).dataset) is not None
    dropped = build_indexes(
        ImagesTable.open(where), IndexConfig(vector="never", exact_below_rows=0)
    )
    assert dropped.vector is None
    assert read_facts(ImagesTable.open(where).dataset) is None


def test_the_first_index_promotes_and_no_later_one_does(where: TableLocation) -> None:
    table = make_table(where, good_rows(0, 5))
    first = build_indexes(table, IndexConfig())
    assert first.promoted
    assert ImagesTable.open(where).live_version() == first.table_version
    committer(where).commit([stage(where, good_rows(5, 1))])
    second = build_indexes(ImagesTable.open(where), IndexConfig())
    assert not second.promoted
    assert second.table_version > first.table_version
    assert ImagesTable.open_served(where).num_rows() == 5


def test_small_fragments_are_merged(where: TableLocation) -> None:
    writer = committer(where)
    writer.commit([stage(where, good_rows(3 * i, 3)) for i in range(12)])
    table = ImagesTable.open(where)
    assert len(table.dataset.get_fragments()) == 12
    before = sorted(table.dataset.to_table(columns=["image_id"]).column(0).to_pylist())
    report = build_indexes(table, IndexConfig())
    merged = ImagesTable.open(where)
    assert report.num_fragments == len(merged.dataset.get_fragments()) == 1
    after = sorted(merged.dataset.to_table(columns=["image_id"]).column(0).to_pylist())
    assert after == before
    # The table accepts further commits.
    committer(where).commit([stage(where, good_rows(90, 1))])
    assert ImagesTable.open(where).num_rows() == 37


def test_files_of_a_newer_format_are_readable(
    where: TableLocation, monkeypatch: pytest.MonkeyPatch
) -> None:
    """skytext writes files of version 2.1, so that columns with a single value are cheap to read.

    A table may also contain files of version 2.2.
    """
    monkeypatch.setattr("skytext.table.commits.stage_rows.FILE_VERSION", "2.2")
    make_table(where, *[good_rows(3 * i, 3) for i in range(5)])
    monkeypatch.undo()
    table = make_table(where, *[good_rows(15 + 3 * i, 3) for i in range(5)])
    versions = [
        file.file_minor_version for f in table.dataset.get_fragments() for file in f.data_files()
    ]
    assert versions == [2] * 5 + [1] * 5
    assert build_indexes(table, ALWAYS).num_fragments == 1
    rows = ImagesTable.open(where).dataset.to_table(columns=["member", "captions"]).to_pylist()
    assert sorted(row["member"] for row in rows) == sorted(r["member"] for r in good_rows(0, 30))
    assert all(row["captions"] for row in rows)


def test_an_index_is_built_on_the_latest_version(where: TableLocation) -> None:
    stale = make_table(where, *[good_rows(30 * i, 30) for i in range(9)])
    committer(where).commit([stage(where, good_rows(270, 30))])
    report = build_indexes(stale, ALWAYS)
    assert report.num_rows == 300
    assert report.num_fragments == 1
    latest = ImagesTable.open(where)
    assert latest.version == report.table_version
    assert latest.num_rows() == 300
    assert num_unindexed_rows(latest) == 0


def test_a_commit_during_a_merge_is_reported(
    where: TableLocation, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = make_table(where, *[good_rows(3 * i, 3) for i in range(9)])
    count_rows = lance.LanceDataset.count_rows
    late = [good_rows(27, 1)]

    def commit_and_count(dataset: lance.LanceDataset, *args: Any, **more: Any) -> int:
        while late:
            committer(where).commit([stage(where, late.pop())])
        return int(count_rows(dataset, *args, **more))

    monkeypatch.setattr(lance.LanceDataset, "count_rows", commit_and_count)
    with pytest.raises(CommitConflictError, match="run skytext index again") as caught:
        build_indexes(table, IndexConfig())
    assert "\n" not in str(caught.value)
    assert build_indexes(table, IndexConfig()).num_fragments == 1
    assert ImagesTable.open(where).num_rows() == 28


def test_a_table_of_failures_has_nothing_to_index(where: TableLocation) -> None:
    table = make_table(where, [failed_row("a.jpg"), failed_row("b.jpg")])
    with pytest.raises(TableError, match="no described image"):
        build_indexes(table, IndexConfig())


@pytest.fixture(scope="module")
def clustered(tmp_path_factory: pytest.TempPathFactory) -> tuple[ImagesTable, Any, Any]:
    """Make an indexed table of 2,000 described images and five failed images.

    Each described image has five vectors. The vectors lie around 100 centres. Return the table, the
    vectors and some queries.
    """
    rng = np.random.default_rng(0)
    centres = unit_vectors(rng, (100, DIM))
    of_image = centres[rng.integers(100, size=NUM_IMAGES)][:, None]
    vectors = of_image + 0.6 * unit_vectors(rng, (NUM_IMAGES, NUM_VARIANTS, DIM))
    vectors = (vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)).astype(np.float32)
    rows = [good_row(f"{i}", vectors=vectors[i]) for i in range(NUM_IMAGES)]
    rows += [failed_row(f"bad{i}") for i in range(5)]
    where = location(tmp_path_factory.mktemp("clustered") / "table")
    report = build_indexes(
        make_table(where, rows), ALWAYS.model_copy(update={"recall_queries": 100})
    )
    assert report.num_partitions == choose_partitions(NUM_IMAGES * NUM_VARIANTS) == 50
    queries = centres[rng.integers(100, size=100)] + 0.5 * unit_vectors(rng, (100, DIM))
    queries = (queries / np.linalg.norm(queries, axis=-1, keepdims=True)).astype(np.float32)
    return ImagesTable.open(where), vectors, queries


def best(vectors: Any, query: Any, k: int) -> tuple[list[str], Any]:
    """Return the ``k`` best images and their scores, computed by brute force.

    As in the paper, the score of an image is the score of its best variant.
    """
    scores = (vectors @ query).max(axis=1)
    order = np.argsort(-scores)[:k]
    return [str(i) for i in order], scores[order]


def test_exact_search_is_the_brute_force(clustered: tuple[ImagesTable, Any, Any]) -> None:
    table, vectors, queries = clustered
    for query in queries[:10]:
        ranking = rank(table, dense_question(query, exact=True), 10)
        members, scores = best(vectors, query, 10)
        assert ranking.exact
        assert column(table, ranking) == members
        assert ranking.scores == pytest.approx(scores, abs=1e-5)


def test_the_index_finds_what_brute_force_finds(clustered: tuple[ImagesTable, Any, Any]) -> None:
    table, vectors, queries = clustered
    found = 0
    for query in queries:
        # Search only some of the partitions, so that the result depends on the index.
        ranking = rank(table, dense_question(query), 10, nprobes=20, refine_factor=5)
        assert len(ranking.ids) == 10
        assert not ranking.exact
        found += len(set(column(table, ranking)) & set(best(vectors, query, 10)[0]))
    assert found / (10 * len(queries)) >= 0.95


def test_an_index_returns_more_candidates_and_rows_come_in_the_requested_order(
    clustered: tuple[ImagesTable, Any, Any],
) -> None:
    table, vectors, queries = clustered
    for query in queries[:20]:
        found = nearest(table, query, 10, Probing(50, 3), covered=True)
        assert len(found.ids) == len(set(found.ids.tolist())) == 30
        ids = np.random.default_rng(0).permutation(found.ids)
        members = [int(member) for member in take(table, ids, ["member"]).column(0).to_pylist()]
        variants = take_variants(table, ids)
        np.testing.assert_array_equal(variants.ids, ids)
        np.testing.assert_array_equal(variants.vectors, vectors[members].reshape(-1, DIM))


@pytest.mark.parametrize("k", [1, 2, 9])
def test_a_k_below_ten_is_searched_like_ten(
    clustered: tuple[ImagesTable, Any, Any], k: int
) -> None:
    table, _, queries = clustered
    ten = nearest(table, queries[0], 10, Probing(50, 3), covered=True)
    fewer = nearest(table, queries[0], k, Probing(50, 3), covered=True)
    np.testing.assert_array_equal(fewer.ids, ten.ids)


def test_more_hits_than_rows_are_all_rows_that_are_done(
    clustered: tuple[ImagesTable, Any, Any],
) -> None:
    table, _, queries = clustered
    for exact in (True, False):
        ranking = rank(table, dense_question(queries[0], exact=exact), 5000)
        assert column(table, ranking, "status") == ["ok"] * NUM_IMAGES
        assert ranking.complete


def test_the_recall_that_is_stored_is_that_of_other_queries(
    clustered: tuple[ImagesTable, Any, Any],
) -> None:
    table, vectors, queries = clustered
    facts = read_facts(table.dataset)
    assert facts is not None
    assert facts.recall_at_10 >= 0.98
    assert (facts.num_rows, facts.num_queries) == (NUM_IMAGES, 50)
    found = 0
    for query in queries:
        hits = column(table, rank(table, dense_question(query), 10))
        found += len(set(hits) & set(best(vectors, query, 10)[0]))
    assert found / (10 * len(queries)) == pytest.approx(facts.recall_at_10, abs=0.02)


def test_sampled_queries_are_near_what_is_stored_and_no_copies(
    clustered: tuple[ImagesTable, Any, Any],
) -> None:
    table, vectors, _ = clustered
    column = VariantVectors(table)
    queries = sample_queries(column, 50)
    assert queries.shape == (50, DIM)
    assert np.linalg.norm(queries, axis=1) == pytest.approx(np.ones(50), abs=1e-5)
    nearest_one = (vectors.reshape(-1, DIM) @ queries.T).max(axis=0)
    assert nearest_one.min() >= min(VariantVectors.query_cosines) - 1e-4
    assert np.median(nearest_one) < 0.99
    np.testing.assert_array_equal(queries, sample_queries(column, 50))
    scores = exact_scores(column, queries)
    expected = np.sort((vectors @ queries.T).max(axis=1), axis=0)[-10:]
    np.testing.assert_allclose(np.sort(scores, axis=1).T, expected, atol=1e-5)


@pytest.mark.parametrize("kind", ["IVF_PQ", "IVF_SQ", "IVF_FLAT", "IVF_HNSW_SQ"])
def test_another_kind_can_be_named(where: TableLocation, kind: Any) -> None:
    rng = np.random.default_rng(1)
    rows = [good_row(f"{i}", vectors=unit_vectors(rng, (2, DIM))) for i in range(400)]
    table = make_table(where, rows)
    report = build_indexes(
        table, IndexConfig(vector="always", kind=kind, num_partitions=3, recall_queries=20)
    )
    assert (report.vector, report.num_partitions, report.num_bits) == (kind, 3, None)
    assert report.recall_at_10 is not None
    assert report.recall_at_10 >= 0.98
    facts = read_facts(ImagesTable.open(where).dataset)
    assert facts is not None
    assert facts.kind == kind


def test_an_index_with_low_recall_is_dropped_and_searches_do_not_change(
    where: TableLocation,
) -> None:
    rng = np.random.default_rng(1)
    rows = [good_row(f"{i}", vectors=unit_vectors(rng, (2, DIM))) for i in range(600)]
    good = build_indexes(make_table(where, rows), ALWAYS)
    poor = ALWAYS.model_copy(update={"num_partitions": 20, "nprobes": 1, "refine_factor": 1})
    with pytest.raises(
        IndexRecallError, match=r"finds 0\.\d+ .* less than index.min_recall \(0.98\)"
    ):
        build_indexes(ImagesTable.open(where), poor)
    served, latest = ImagesTable.open_served(where), ImagesTable.open(where)
    assert served.version == good.table_version
    facts = read_facts(served.dataset)
    assert facts is not None
    assert facts.recall_at_10 == good.recall_at_10
    assert VECTOR_INDEX not in index_names(latest.dataset)
    assert read_facts(latest.dataset) is None
    # With a lower ``min_recall``, the index is kept.
    kept = build_indexes(latest, poor.model_copy(update={"min_recall": 0.0}))
    assert kept.recall_at_10 is not None
    assert kept.recall_at_10 < 0.98
    assert (kept.nprobes, kept.refine_factor) == (1, 1)


def test_an_unmeasured_index_is_not_used(where: TableLocation) -> None:
    """The build is interrupted before the measurement."""

    def build_and_die(table: ImagesTable, plan: VectorPlan) -> None:
        options = plan.options()
        column = table.text_column.name
        table.dataset.create_index(column, plan.kind, VECTOR_INDEX, replace=True, **options)
        raise KeyboardInterrupt

    table = make_table(where, good_rows(0, 300))
    build_indexes(table, ALWAYS)
    with pytest.raises(KeyboardInterrupt):
        build_indexes(table, ALWAYS, build_and_die)
    latest = ImagesTable.open(where)
    assert VECTOR_INDEX in index_names(latest.dataset)
    assert read_facts(latest.dataset) is None
    assert rank(latest, dense_question([1.0] + [0.0] * (DIM - 1)), 3).exact


def test_equal_images_do_not_distort_the_recall(where: TableLocation) -> None:
    vectors = unit_vectors(np.random.default_rng(3), (2, DIM))
    rows = [good_row(f"{i}", vectors=vectors) for i in range(500)]
    report = build_indexes(make_table(where, rows), ALWAYS)
    assert report.recall_at_10 == 1.0


def test_a_plan_depends_on_number_dimension_and_memory() -> None:
    gib = 2**30
    config = IndexConfig()
    small = choose_plan(50_000, 384, config, 16 * gib)
    assert (small.kind, small.num_partitions) == ("IVF_RQ", 112)
    most_bits = small.num_bits
    large = choose_plan(500_000_000, 384, config, 64 * gib)
    assert large.num_partitions > 5000
    assert large.num_bits is not None
    assert most_bits is not None
    assert large.num_bits < most_bits
    assert choose_plan(50_000, 100, config, 16 * gib).kind == "IVF_SQ"
    given = IndexConfig(kind="IVF_PQ", num_partitions=7)
    assert choose_plan(50_000, 384, given, 16 * gib) == VectorPlan("IVF_PQ", 7, None, 96)
    assert choose_plan(50_000, 101, given, 16 * gib).num_sub_vectors == 101
    assert choose_plan(50_000, 384, IndexConfig(num_bits=7), gib).num_bits == 7


@pytest.mark.parametrize(("vectors", "partitions"), [(1, 1), (100, 5), (10_000, 50), (5e6, 1118)])
def test_partitions_grow_with_the_root(vectors: float, partitions: int) -> None:
    assert choose_partitions(int(vectors)) == partitions
