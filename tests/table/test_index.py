from __future__ import annotations

from pathlib import Path
from typing import Any

import lance
import numpy as np
import pytest

from skytext.config import IndexConfig
from skytext.errors import CommitConflictError, TableError
from skytext.table.images import ImagesTable
from skytext.table.index import (
    VECTOR_INDEX,
    build_indexes,
    choose_partitions,
    index_names,
    num_unindexed_rows,
)
from skytext.table.location import TableLocation
from skytext.table.query import has_vector_index, nearest
from tests.table.rows import (
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
    for column in ("text", "image_id", "shard", "status", "datetime", "collection", "gsd")
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
    assert not has_vector_index(indexed)


def test_from_the_threshold_on_there_is_a_vector_index(where: TableLocation) -> None:
    table = make_table(where, [*good_rows(0, 299), failed_row("bad.jpg")])
    below = build_indexes(table, IndexConfig(exact_below_rows=300))
    assert below.vector is None
    at = build_indexes(ImagesTable.open(where), IndexConfig(exact_below_rows=299))
    assert at.vector == "IVF_RQ"
    assert at.num_partitions == choose_partitions(299 * 2)
    assert at.num_rows == 299
    assert index_names(ImagesTable.open(where).dataset) == SCALAR | {VECTOR_INDEX}


def test_always_and_never_override_the_threshold(where: TableLocation) -> None:
    table = make_table(where, good_rows(0, 300))
    assert build_indexes(table, IndexConfig(vector="always")).vector == "IVF_RQ"
    assert has_vector_index(ImagesTable.open(where))
    dropped = build_indexes(
        ImagesTable.open(where), IndexConfig(vector="never", exact_below_rows=0)
    )
    assert dropped.vector is None
    assert not has_vector_index(ImagesTable.open(where))


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
    # And the table takes further commits.
    committer(where).commit([stage(where, good_rows(90, 1))])
    assert ImagesTable.open(where).num_rows() == 37


def test_an_index_is_of_the_latest_version_whatever_its_caller_saw(where: TableLocation) -> None:
    stale = make_table(where, *[good_rows(30 * i, 30) for i in range(9)])
    committer(where).commit([stage(where, good_rows(270, 30))])
    report = build_indexes(stale, IndexConfig(vector="always"))
    assert report.num_rows == 300
    assert report.num_fragments == 1
    latest = ImagesTable.open(where)
    assert latest.version == report.table_version
    assert latest.num_rows() == 300
    assert num_unindexed_rows(latest) == 0


def test_a_commit_while_fragments_are_merged_is_told(
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
    with pytest.raises(TableError, match="no image that is done"):
        build_indexes(table, IndexConfig())


@pytest.fixture(scope="module")
def clustered(tmp_path_factory: pytest.TempPathFactory) -> tuple[ImagesTable, Any, Any]:
    """An indexed table of 2,000 x 5 vectors around 100 centres, a few rows failed."""
    rng = np.random.default_rng(0)
    centres = unit_vectors(rng, (100, DIM))
    of_image = centres[rng.integers(100, size=NUM_IMAGES)][:, None]
    vectors = of_image + 0.6 * unit_vectors(rng, (NUM_IMAGES, NUM_VARIANTS, DIM))
    vectors = (vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)).astype(np.float32)
    rows = [good_row(f"{i}", vectors=vectors[i]) for i in range(NUM_IMAGES)]
    rows += [failed_row(f"bad{i}") for i in range(5)]
    where = location(tmp_path_factory.mktemp("clustered") / "table")
    report = build_indexes(make_table(where, rows), IndexConfig(vector="always"))
    assert report.num_partitions == choose_partitions(NUM_IMAGES * NUM_VARIANTS) == 25
    queries = centres[rng.integers(100, size=100)] + 0.5 * unit_vectors(rng, (100, DIM))
    queries = (queries / np.linalg.norm(queries, axis=-1, keepdims=True)).astype(np.float32)
    return ImagesTable.open(where), vectors, queries


def best(vectors: Any, query: Any, k: int) -> tuple[list[str], Any]:
    """The paper's rule by brute force: an image scores by its best variant."""
    scores = (vectors @ query).max(axis=1)
    order = np.argsort(-scores)[:k]
    return [str(i) for i in order], scores[order]


def test_exact_search_is_the_brute_force(clustered: tuple[ImagesTable, Any, Any]) -> None:
    table, vectors, queries = clustered
    for query in queries[:10]:
        hits = nearest(table, query, 10, ["member"], config=IndexConfig(), exact=True)
        members, scores = best(vectors, query, 10)
        assert hits.column("member").to_pylist() == members
        assert 1 - hits.column("_distance").to_numpy() == pytest.approx(scores, abs=1e-5)


def test_the_index_finds_what_brute_force_finds(clustered: tuple[ImagesTable, Any, Any]) -> None:
    table, vectors, queries = clustered
    found = 0
    # A narrow search, so that the index and not the number of partitions answers.
    config = IndexConfig(nprobes=10)
    for query in queries:
        hits = nearest(table, query, 10, ["member"], config=config, exact=False)
        assert hits.num_rows == 10
        found += len(set(hits.column("member").to_pylist()) & set(best(vectors, query, 10)[0]))
    assert found / (10 * len(queries)) >= 0.95


def test_more_hits_than_rows_are_all_rows_that_are_done(
    clustered: tuple[ImagesTable, Any, Any],
) -> None:
    table, _, queries = clustered
    hits = nearest(table, queries[0], 5000, ["status"], config=IndexConfig(), exact=True)
    assert hits.column("status").to_pylist() == ["ok"] * NUM_IMAGES


@pytest.mark.parametrize(("vectors", "partitions"), [(1, 1), (100, 2), (10_000, 25), (5e6, 559)])
def test_partitions_grow_with_the_root(vectors: float, partitions: int) -> None:
    assert choose_partitions(int(vectors)) == partitions
