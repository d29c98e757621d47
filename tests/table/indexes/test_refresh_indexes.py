"""The cost of a refresh depends on the number of new rows. Indexes are rebuilt if necessary."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from skytext.config.index import IndexConfig
from skytext.table.field_catalogue import read_catalogue
from skytext.table.images_dataset import ImagesTable
from skytext.table.index_facts import (
    IMAGE_VECTOR_INDEX,
    TEXT_INDEX,
    VECTOR_INDEX,
    index_names,
    is_covered,
    num_segments,
    read_facts,
    store_facts,
)
from skytext.table.indexes import refresh_indexes as module
from skytext.table.indexes.build_indexes import build_indexes
from skytext.table.indexes.image_vector_index import build_image_index
from skytext.table.indexes.refresh_indexes import refresh_indexes
from skytext.table.location import TableLocation
from tests.table.image_rows import embed_numbers, image_column
from tests.table.rows import ALWAYS, DIM, committer, good_row, location, stage, unit_vectors

NUM = 2_000


def add(where: TableLocation, first: int, count: int) -> ImagesTable:
    vectors = unit_vectors(np.random.default_rng(first), (count, 2, DIM))
    rows = [good_row(f"{first + i:05d}.jpg", vectors=vectors[i]) for i in range(count)]
    committer(where).commit([stage(where, rows)])
    return ImagesTable.open(where)


@pytest.fixture(scope="module")
def indexed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("indexed") / "table"
    build_indexes(add(location(folder), 0, NUM), ALWAYS)
    return folder


@pytest.fixture
def table(indexed: Path, tmp_path: Path) -> ImagesTable:
    return ImagesTable.open(location(shutil.copytree(indexed, tmp_path / "table")))


def uncovered(table: ImagesTable) -> set[str]:
    latest = ImagesTable.open(table.location).dataset
    return {name for name in index_names(latest) if not is_covered(latest, name)}


def built_anew(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    calls: list[str] = []
    real = module.build_indexes

    def build(*args: Any, **more: Any) -> Any:
        calls.append("built")
        return real(*args, **more)

    monkeypatch.setattr(module, "build_indexes", build)
    return calls


def test_new_rows_are_added_to_the_index_without_a_rebuild(
    table: ImagesTable, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = built_anew(monkeypatch)
    live = table.live_version()
    before = read_facts(table.dataset)
    for night in range(2):
        add(table.location, NUM + 20 * night, 20)
        assert VECTOR_INDEX in uncovered(table)
        report = refresh_indexes(table, ALWAYS)
        assert uncovered(table) == set()
        latest = ImagesTable.open(table.location)
        assert (report.table_version, report.num_rows) == (latest.version, NUM + 20 * (night + 1))
        assert num_segments(latest.dataset, VECTOR_INDEX) == 2 + night
    assert calls == []
    catalogue = read_catalogue(latest.dataset)
    assert catalogue is not None
    assert catalogue.num_images == NUM
    # After a few new rows, the recall is not measured again. The new rows are only counted.
    facts = read_facts(latest.dataset)
    assert before is not None
    assert facts == replace(before, num_trained_rows=NUM, num_untrained=40, num_unmeasured=40)
    assert latest.live_version() == live


def test_a_refresh_without_new_rows_makes_no_version(table: ImagesTable) -> None:
    refresh_indexes(table, ALWAYS)
    version = ImagesTable.open(table.location).version
    assert refresh_indexes(table, ALWAYS).table_version == version
    assert ImagesTable.open(table.location).version == version


def test_many_segments_are_merged(table: ImagesTable) -> None:
    config = ALWAYS.model_copy(update={"max_segments": 3})
    numbers = []
    for night in range(4):
        add(table.location, NUM + 20 * night, 20)
        refresh_indexes(table, config)
        numbers.append(num_segments(ImagesTable.open(table.location).dataset, VECTOR_INDEX))
    assert numbers == [2, 3, 1, 2]
    assert uncovered(table) == set()


def test_recall_is_measured_again_after_growth(
    table: ImagesTable, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = built_anew(monkeypatch)
    before = read_facts(table.dataset)
    assert before is not None
    add(table.location, NUM, NUM // 10)
    refresh_indexes(table, ALWAYS)
    facts = read_facts(ImagesTable.open(table.location).dataset)
    assert facts is not None
    assert (facts.num_rows, facts.num_trained_rows) == (NUM + NUM // 10, NUM)
    assert (facts.num_untrained, facts.num_unmeasured) == (NUM // 10, 0)
    assert facts.recall_at_10 >= ALWAYS.min_recall
    assert facts.probing(ALWAYS) == before.probing(ALWAYS)
    catalogue = read_catalogue(ImagesTable.open(table.location).dataset)
    assert catalogue is not None
    assert catalogue.num_images == NUM + NUM // 10
    assert calls == []


def test_large_growth_low_recall_or_a_missing_index_cause_a_rebuild(
    table: ImagesTable, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = built_anew(monkeypatch)
    add(table.location, NUM, NUM)
    refresh_indexes(table, ALWAYS)
    assert calls == ["built"]
    latest = ImagesTable.open(table.location)
    facts = read_facts(latest.dataset)
    assert facts is not None
    assert (facts.num_rows, facts.num_trained_rows) == (2 * NUM, None)
    assert num_segments(latest.dataset, VECTOR_INDEX) == 1

    store_facts(latest.dataset, replace(facts, recall_at_10=0.5))
    refresh_indexes(table, ALWAYS)
    assert calls == ["built"] * 2
    ImagesTable.open(table.location).dataset.drop_index(TEXT_INDEX)
    refresh_indexes(table, ALWAYS)
    assert calls == ["built"] * 3
    refresh_indexes(table, IndexConfig(vector="never"))
    assert VECTOR_INDEX not in index_names(ImagesTable.open(table.location).dataset)
    refresh_indexes(table, IndexConfig(vector="never"))
    assert calls == ["built"] * 4


def test_the_image_index_gets_new_rows_even_if_the_other_indexes_are_rebuilt(
    table: ImagesTable, monkeypatch: pytest.MonkeyPatch
) -> None:
    where = table.location
    embed_numbers(where, *range(300), column=image_column())
    build_image_index(ImagesTable.open(where), ALWAYS)
    calls = built_anew(monkeypatch)
    add(where, NUM, 20)
    ImagesTable.open(where).dataset.drop_index(TEXT_INDEX)
    assert IMAGE_VECTOR_INDEX in uncovered(table)
    refresh_indexes(table, ALWAYS)
    assert (calls, uncovered(table)) == (["built"], set())
    assert num_segments(ImagesTable.open(where).dataset, IMAGE_VECTOR_INDEX) == 2
