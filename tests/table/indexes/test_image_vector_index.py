"""The index on image vectors is measured when it is built. Searches use the measured settings."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from skytext.config.index import IndexConfig
from skytext.errors import IndexRecallError
from skytext.filters.cql2_text import parse_filter
from skytext.search.retrievers import matching, vectors
from skytext.table.images_dataset import ImagesTable
from skytext.table.index_facts import (
    IMAGE_VECTOR_INDEX,
    Probing,
    VectorIndexFacts,
    forget_facts,
    index_names,
    read_facts,
    store_facts,
)
from skytext.table.indexes.build_indexes import build_indexes, num_unindexed_rows
from skytext.table.indexes.image_vector_index import build_image_index, image_index_facts
from skytext.table.indexes.index_recall import exact_scores, sample_queries
from skytext.table.indexes.measured_columns import ImageVectors
from skytext.table.indexes.vector_index import choose_partitions
from skytext.table.location import TableLocation
from tests.search.rankings import dense_question, nearest_images, rank
from tests.table.image_rows import IMAGE_DIM, embed_numbers, image_column, image_vector
from tests.table.rows import (
    DIM,
    good_row,
    location,
    make_table,
    unit_vectors,
)

NUM_ROWS, NUM_EMBEDDED = 350, 300
# A measurement with few queries and one refine factor is fast.
ALWAYS = IndexConfig(vector="always", num_partitions=12, recall_queries=16, refine_factor=5)
POOR = ALWAYS.model_copy(update={"nprobes": 1, "refine_factor": 1})


def make_embedded(where: TableLocation, dim: int = IMAGE_DIM, num: int = NUM_EMBEDDED) -> None:
    rng = np.random.default_rng(1)
    rows = [
        good_row(f"{i:05d}.jpg", vectors=unit_vectors(rng, (2, DIM)), gsd=float(i % 4))
        for i in range(NUM_ROWS)
    ]
    make_table(where, rows)
    embed_numbers(where, *range(num), column=image_column(dim=dim))


@pytest.fixture
def where(tmp_path: Path) -> TableLocation:
    where = location(tmp_path / "table")
    make_embedded(where)
    return where


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> ImagesTable:
    where = location(tmp_path_factory.mktemp("built") / "table")
    make_embedded(where)
    config = IndexConfig(vector="always", recall_queries=60)
    build_image_index(ImagesTable.open(where), config)
    return ImagesTable.open(where)


def stored() -> Any:
    return np.array([image_vector(i) for i in range(NUM_EMBEDDED)])


def with_facts(table: ImagesTable, facts: VectorIndexFacts, index: str) -> ImagesTable:
    dataset = ImagesTable.open(table.location).dataset
    forget_facts(dataset, index)
    store_facts(dataset, facts, index)
    return ImagesTable.open(table.location)


def test_recall_of_the_image_index_is_stored_separately(built: ImagesTable) -> None:
    facts = image_index_facts(built)
    assert facts is not None
    assert facts.recall_at_10 >= 0.98
    assert (facts.kind, facts.num_rows, facts.num_queries) == ("IVF_RQ", NUM_EMBEDDED, 30)
    assert facts.num_partitions == choose_partitions(NUM_EMBEDDED)
    assert facts.search_effort is not None
    # The index on caption vectors does not exist, so it has no facts.
    assert read_facts(built.dataset) is None
    queries = unit_vectors(np.random.default_rng(5), (30, IMAGE_DIM))
    found = 0.0
    for query in queries:
        nearest = nearest_images(built, query, 10)
        assert not nearest.exact
        best = np.sort(stored() @ query)[::-1][:10]
        found += np.count_nonzero(nearest.scores >= best[-1] - 1e-5)
    assert found / (10 * len(queries)) == pytest.approx(facts.recall_at_10, abs=0.02)


def test_both_indexes_have_separate_facts(where: TableLocation) -> None:
    of_images = build_image_index(ImagesTable.open(where), ALWAYS)
    report = build_indexes(ImagesTable.open(where), ALWAYS)
    table = ImagesTable.open(where)
    assert image_index_facts(table) == of_images
    facts = read_facts(table.dataset)
    assert facts is not None
    assert (facts.num_rows, facts.recall_at_10) == (NUM_ROWS, report.recall_at_10)
    assert build_image_index(table, IndexConfig(vector="never")) is None
    table = ImagesTable.open(where)
    assert image_index_facts(table) is None
    assert IMAGE_VECTOR_INDEX not in index_names(table.dataset)
    assert read_facts(table.dataset) == facts


def test_queries_are_as_far_from_images_as_words_are(built: ImagesTable) -> None:
    column = ImageVectors(built)
    queries = sample_queries(column, 50)
    assert np.linalg.norm(queries, axis=1) == pytest.approx(np.ones(50), abs=1e-5)
    for cosine in ImageVectors.query_cosines:
        # For half of the queries, one vector of the table has this cosine with the query.
        off = np.abs(stored() @ queries.T - cosine).min(axis=0)
        assert np.count_nonzero(off < 1e-4) >= 25
    expected = np.sort((stored() @ queries.T), axis=0)[-10:]
    np.testing.assert_allclose(np.sort(exact_scores(column, queries)).T, expected, atol=1e-5)


@pytest.mark.parametrize("kind", ["auto", "IVF_RQ"])
@pytest.mark.parametrize(("dim", "built_as"), [(16, "IVF_RQ"), (12, "IVF_SQ"), (9, "IVF_SQ")])
def test_any_dimension_gets_an_index(tmp_path: Path, dim: int, built_as: str, kind: Any) -> None:
    where = location(tmp_path / "table")
    make_embedded(where, dim)
    config = ALWAYS.model_copy(update={"kind": kind})
    facts = build_image_index(ImagesTable.open(where), config)
    assert facts is not None
    assert facts.kind == built_as
    assert facts.recall_at_10 >= 0.98
    found = nearest_images(ImagesTable.open(where), image_vector(3, dim), 10)
    assert not found.exact
    assert found.scores[0] == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("kind", ["IVF_PQ", "IVF_FLAT", "IVF_HNSW_SQ"])
def test_another_kind_can_be_named(where: TableLocation, kind: Any) -> None:
    config = ALWAYS.model_copy(update={"kind": kind, "num_partitions": 3})
    facts = build_image_index(ImagesTable.open(where), config)
    assert facts is not None
    assert (facts.kind, facts.num_partitions, facts.num_bits) == (kind, 3, None)


@pytest.mark.parametrize("num", [1, 5])
def test_few_images_that_were_embedded_among_many(tmp_path: Path, num: int) -> None:
    where = location(tmp_path / "table")
    make_embedded(where, num=num)
    facts = build_image_index(ImagesTable.open(where), ALWAYS)
    assert facts is not None
    assert (facts.num_rows, facts.recall_at_10) == (num, 1.0)
    assert len(nearest_images(ImagesTable.open(where), image_vector(0), 10).ids) == num


def test_an_image_index_with_low_recall_is_dropped(where: TableLocation) -> None:
    build_image_index(ImagesTable.open(where), ALWAYS)
    message = r"the index on image vectors \(IVF_RQ, 12 partitions\) finds 0\.\d+ .*\(0\.98\)"
    with pytest.raises(IndexRecallError, match=message):
        build_image_index(ImagesTable.open(where), POOR)
    table = ImagesTable.open(where)
    assert IMAGE_VECTOR_INDEX not in index_names(table.dataset)
    assert image_index_facts(table) is None
    assert nearest_images(table, image_vector(0), 10).exact
    # With a lower ``min_recall``, the index is kept.
    kept = build_image_index(table, POOR.model_copy(update={"min_recall": 0.0}))
    assert kept is not None
    assert kept.recall_at_10 < 0.98
    assert (kept.nprobes, kept.refine_factor, kept.search_effort) == (1, 1, None)


def test_an_unmeasured_image_index_is_not_used(
    where: TableLocation, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The build is interrupted before the measurement."""

    def ended(*_: Any) -> None:
        raise KeyboardInterrupt

    build_image_index(ImagesTable.open(where), ALWAYS)
    monkeypatch.setattr("skytext.table.indexes.measured_build.measure_index", ended)
    with pytest.raises(KeyboardInterrupt):
        build_image_index(ImagesTable.open(where), ALWAYS)
    table = ImagesTable.open(where)
    assert IMAGE_VECTOR_INDEX in index_names(table.dataset)
    assert image_index_facts(table) is None
    assert nearest_images(table, image_vector(0), 10).exact


def test_searches_use_the_measured_settings(built: ImagesTable) -> None:
    table = ImagesTable.open(built.location)
    queries = unit_vectors(np.random.default_rng(2), (20, IMAGE_DIM))

    # ``k`` is small. If a partition had fewer than ``k`` rows, all rows would be scored instead.
    def sum_of_cosines(table: ImagesTable, **options: Any) -> float:
        return sum(float(nearest_images(table, q, 5, **options).scores.sum()) for q in queries)

    every = sum_of_cosines(table, exact=True)
    found = {}
    for effort, nprobes in ((None, 1), (None, 9), (0.0, 9), (1.0, 1)):
        # The vectors in a partition are scored exactly, so only whole partitions can be missed.
        facts = VectorIndexFacts("IVF_RQ", 9, 3, nprobes, 3, 1.0, 9, NUM_EMBEDDED, effort)
        table = with_facts(table, facts, IMAGE_VECTOR_INDEX)
        found[effort, nprobes] = sum_of_cosines(table)
    assert found[None, 1] <= found[0.0, 9] < every - 0.1
    assert found[None, 9] == pytest.approx(every)
    assert found[1.0, 1] == pytest.approx(every)


@pytest.fixture
def probings(monkeypatch: pytest.MonkeyPatch) -> list[Probing]:
    asked, ask = [], vectors.nearest

    def spy(table: Any, vector: Any, k: int, probing: Probing, *rest: Any, **more: Any) -> Any:
        asked.append(probing)
        return ask(table, vector, k, probing, *rest, **more)

    monkeypatch.setattr(vectors, "nearest", spy)
    monkeypatch.setattr(matching, "_SCORED_WITHOUT_INDEX", 50)
    return asked


def test_a_filtered_search_reads_more_partitions(
    built: ImagesTable, probings: list[Probing]
) -> None:
    facts = VectorIndexFacts("IVF_RQ", 9, 3, 4, 5, 1.0, 9, NUM_EMBEDDED, 0.5)
    table = with_facts(built, facts, IMAGE_VECTOR_INDEX)
    quarter = parse_filter("gsd < 1")
    found = nearest_images(table, image_vector(0), 10, where=quarter)
    assert not found.exact
    assert probings == [Probing(8, 5)]
    members = table.dataset.to_table(
        columns=["gsd"], filter=f"_rowid IN ({', '.join(map(str, found.ids.tolist()))})"
    )
    assert set(members.column("gsd").to_pylist()) == {0.0}
    # If few images match, all matching images are scored.
    few = nearest_images(table, image_vector(0), 10, where=parse_filter("gsd < 1 and gsd > 2"))
    assert (len(few.ids), few.exact) == (0, True)
    assert len(probings) == 1


def test_caption_searches_use_the_measured_settings(
    where: TableLocation, probings: list[Probing]
) -> None:
    build_indexes(ImagesTable.open(where), ALWAYS)
    table = ImagesTable.open(where)
    facts = read_facts(table.dataset)
    assert facts is not None
    question = dense_question(unit_vectors(np.random.default_rng(2), (DIM,)))
    assert not rank(table, question, 10).exact
    assert probings == [facts.probing(IndexConfig())]
    dataset = ImagesTable.open(where).dataset
    forget_facts(dataset)
    assert rank(ImagesTable.open(where), question, 10).exact


def test_uncovered_rows_are_counted(where: TableLocation) -> None:
    assert num_unindexed_rows(ImagesTable.open(where), IMAGE_VECTOR_INDEX) is None
    build_image_index(ImagesTable.open(where), ALWAYS)
    assert num_unindexed_rows(ImagesTable.open(where), IMAGE_VECTOR_INDEX) == 0
    embed_numbers(where, *range(NUM_EMBEDDED, NUM_ROWS))
    table = ImagesTable.open(where)
    assert num_unindexed_rows(table, IMAGE_VECTOR_INDEX) == NUM_ROWS
    # The rows outside the index are searched too.
    newest = nearest_images(table, image_vector(NUM_ROWS - 1), 10)
    assert newest.scores[0] == pytest.approx(1, abs=1e-5)
