"""``skytext index``: build or refresh the indexes."""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated

import typer

from skytext.cli.options import (
    AsJson,
    ConfigFile,
    Settings,
    Table,
    bands_of,
    make_config,
)

if TYPE_CHECKING:
    from skytext.config.settings import Config
    from skytext.table.images_dataset import ImagesTable
    from skytext.table.index_facts import VectorIndexFacts
    from skytext.table.indexes.build_indexes import IndexReport


def index(
    table: Table,
    vector: Annotated[
        str | None,
        typer.Option(
            help="When to build a vector index: auto, always or never. auto: only if the table has "
            "at least 10,000 rows."
        ),
    ] = None,
    kind: Annotated[
        str | None,
        typer.Option(
            help="Kind of vector index: auto, IVF_RQ, IVF_PQ, IVF_SQ, IVF_FLAT, IVF_HNSW_SQ, "
            "IVF_HNSW_PQ or IVF_HNSW_FLAT."
        ),
    ] = None,
    refresh: Annotated[
        bool,
        typer.Option(
            "--refresh",
            help="Add new rows to the existing indexes. An index is rebuilt only if necessary.",
        ),
    ] = False,
    ray_address: Annotated[
        str | None,
        typer.Option(
            help="Address of a Ray cluster that builds the vector index. Default: the address in "
            "RAY_ADDRESS. If RAY_ADDRESS is not set, this process builds the index."
        ),
    ] = None,
    config: ConfigFile = None,
    settings: Settings = None,
    as_json: AsJson = False,
) -> None:
    """Build or refresh the indexes of a table: vector indexes, full-text index, scalar indexes.

    There is one vector index for the description vectors and one for the image vectors. The command
    measures the recall of each vector index: it compares results of the index with results of exact
    search. If the recall is below the setting index.min_recall, the command drops the index and
    fails. If no version of the table is live, the command makes the new version live.
    """
    from skytext.cli.output import print_json
    from skytext.table.images_dataset import ImagesTable
    from skytext.table.indexes.build_indexes import build_indexes
    from skytext.table.indexes.image_vector_index import build_image_index, image_index_facts
    from skytext.table.indexes.refresh_indexes import refresh_indexes
    from skytext.table.location import TableLocation

    resolved = make_config(
        config, settings, {"index.vector": vector, "index.kind": kind}, bands_of(table)
    )
    images = ImagesTable.open(TableLocation.parse(table))
    build_vector = None
    if ray_address or os.environ.get("RAY_ADDRESS"):
        from skytext.run.index_on_ray import vector_index_on_ray

        build_vector = vector_index_on_ray(resolved, ray_address)
    # build_indexes can promote the version, and a promoted version must contain the chance scores
    # and all indexes. So first measure the chance scores, then build the image index, and call
    # build_indexes last.
    chance = _measure_chance(images, resolved, only_missing=refresh)
    if refresh:
        report = refresh_indexes(images, resolved.index, build_vector)
        of_images = image_index_facts(ImagesTable.open(images.location))
    else:
        of_images = build_image_index(images, resolved.index)
        report = build_indexes(images, resolved.index, build_vector)
    if as_json:
        facts = None if of_images is None else of_images.to_json()
        print_json(report.to_json() | {"image_vector_index": facts, "chance_scores": chance})
        return
    _show(report, of_images, chance)
    live = ImagesTable.open(images.location).live_version()
    _show_next(table, report.table_version, live)


def _show(
    report: IndexReport, of_images: VectorIndexFacts | None, chance: Mapping[str, float]
) -> None:
    """Print which indexes were built, and their measurements."""
    from skytext.cli.output import answers, index_words

    answers.print(
        f"vector index: {_described(report)}; full text and scalar indexes built", soft_wrap=True
    )
    if of_images is not None:
        words = index_words(of_images.kind, of_images.to_json())
        answers.print(f"image vector index: {words}", soft_wrap=True)
    for kind, score in chance.items():
        answers.print(f"scores of unrelated queries: up to {score:.3f} ({kind} vectors)")


def _show_next(table: str, version: int, live: int | None) -> None:
    """Print whether the new version is live, and the next command."""
    from skytext.cli.output import answers

    command = f'skytext search {shlex.quote(table)} "a river beside a town"'
    if version == live:
        state = "is live"
    elif live is None:
        state = "is not live: searches use the latest version, because no version is live"
    else:
        state = f"is not live: searches use version {live} until the new version is promoted"
        command = f"skytext promote {shlex.quote(table)}"
    answers.print(f"table version {version} {state}", soft_wrap=True)
    answers.print(f"next: {command}", soft_wrap=True)


def _measure_chance(images: ImagesTable, config: Config, *, only_missing: bool) -> dict[str, float]:
    """Measure the best scores of unrelated queries. If a model cannot be loaded, print a note."""
    from skytext.cli.output import note
    from skytext.search.unrelated_questions import measure_chance

    measured = measure_chance(images, config, only_missing=only_missing)
    for problem in measured.problems:
        note(problem)
    return {str(kind): chance.score for kind, chance in measured.scores.items()}


def _described(report: IndexReport) -> str:
    from skytext.cli.output import index_words

    if report.vector is None:
        return f"none: {report.num_rows:,} rows are searched exactly"
    return index_words(report.vector, report.to_json())
