"""Test that the vector index that is built on Ray has one segment and a measured recall."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import lance_ray.index
import numpy as np
import pytest

from skytext.config.index import IndexConfig
from skytext.config.settings import Config
from skytext.errors import JobError
from skytext.run import index_on_ray as index_stage
from skytext.run.index_on_ray import vector_index_on_ray
from skytext.table.images_dataset import ImagesTable
from skytext.table.index_facts import VECTOR_INDEX, read_facts
from skytext.table.indexes.build_indexes import build_indexes, num_unindexed_rows
from skytext.table.location import TableLocation
from tests.cli.conftest import Skytext
from tests.search.rankings import column, dense_question, rank
from tests.table.rows import (
    ALWAYS,
    DIM,
    committer,
    failed_row,
    good_row,
    location,
    stage,
    unit_vectors,
)

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("local_ray")]


@pytest.fixture
def table(tmp_path: Path) -> tuple[ImagesTable, Any]:
    """Make a table of three fragments. Each fragment has 200 images with two variants, and one
    failed image."""
    return fill(location(tmp_path / "table"))


def fill(where: TableLocation) -> tuple[ImagesTable, Any]:
    vectors = unit_vectors(np.random.default_rng(2), (600, 2, DIM))
    rows = [good_row(f"{i}", vectors=vectors[i]) for i in range(600)]
    writer = committer(where)
    for start in (0, 200, 400):
        writer.commit([stage(where, [*rows[start : start + 200], failed_row(f"bad{start}")])])
    return ImagesTable.open(where), vectors


def num_segments(table: ImagesTable) -> int:
    (index,) = [i for i in table.dataset.describe_indices() if i.name == VECTOR_INDEX]
    return len(index.segments)


@pytest.mark.parametrize("kind", ["auto", pytest.param("IVF_PQ", marks=pytest.mark.proof)])
def test_tasks_build_one_index(table: tuple[ImagesTable, Any], kind: Any) -> None:
    images, vectors = table
    config = Config(index=IndexConfig(vector="always", recall_queries=32, kind=kind, num_workers=2))
    report = build_indexes(images, config.index, vector_index_on_ray(config, None))
    built = ImagesTable.open(images.location)
    assert report.promoted
    assert report.recall_at_10 is not None
    assert report.recall_at_10 >= 0.98
    assert num_segments(built) == 1
    assert num_unindexed_rows(built) == 0
    facts = read_facts(built.dataset)
    assert facts is not None
    assert facts.num_bits == (3 if kind == "auto" else None)
    for i in (0, 250, 599):
        ranking = rank(built, dense_question(vectors[i, 1]), 1)
        assert not ranking.exact
        assert column(built, ranking) == [str(i)]
    # Build the index again. The new index replaces the first index.
    again = build_indexes(built, config.index, vector_index_on_ray(config, None))
    assert again.recall_at_10 == pytest.approx(report.recall_at_10, abs=0.02)
    assert num_segments(ImagesTable.open(images.location)) == 1


def test_tasks_reach_a_store_with_keys_of_their_own(
    s3: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    s3.create_bucket(Bucket="indexed")
    images, _ = fill(TableLocation.parse("s3://indexed/table"))
    config = Config(index=IndexConfig(vector="always", recall_queries=8, num_workers=2))
    arguments: list[Any] = []
    make_task = lance_ray.index._handle_vector_fragment_index

    def note(**more: Any) -> Any:
        arguments.append(more)
        return make_task(**more)

    monkeypatch.setattr(lance_ray.index, "_handle_vector_fragment_index", note)
    assert build_indexes(images, config.index, vector_index_on_ray(config, None)).promoted
    assert num_segments(ImagesTable.open(images.location)) == 1
    (given,) = arguments
    assert given["storage_options"]["aws_endpoint"]
    assert "secret" not in str(given)


def test_the_command_builds_on_the_given_cluster(
    table: tuple[ImagesTable, Any], skytext: Skytext, monkeypatch: pytest.MonkeyPatch
) -> None:
    images, _ = table
    asked: list[str] = []
    real = index_stage.lance_ray.create_index

    def create(uri: str, *arguments: Any, **more: Any) -> Any:
        asked.append(uri)
        return real(uri, *arguments, **more)

    monkeypatch.setattr(index_stage.lance_ray, "create_index", create)
    quick = ["--vector", "always", "--set", "index.recall_queries=32"]
    options = [*quick, "--json", "--ray-address", "auto"]
    called = skytext("index", images.location.uri, *options)
    assert called.status == 0, called.err
    assert json.loads(called.out)["recall_at_10"] >= 0.98
    assert len(asked) == 1


def test_a_task_that_fails_fails_the_build_and_what_was_live_stays(
    table: tuple[ImagesTable, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    images, _ = table
    good = build_indexes(images, ALWAYS)

    def fail(*arguments: Any, **more: Any) -> Any:
        raise RuntimeError("Vector index building failed:\nno space left")

    monkeypatch.setattr(index_stage.lance_ray, "create_index", fail)
    config = Config(index=ALWAYS)
    with pytest.raises(JobError, match=r"could not be built on Ray: .*: no space left"):
        build_indexes(images, config.index, vector_index_on_ray(config, None))
    served = ImagesTable.open_served(images.location)
    assert served.version == good.table_version
    assert read_facts(served.dataset) is not None
