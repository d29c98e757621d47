"""Build a vector index, measure its recall, and drop it if the recall is too low."""

from __future__ import annotations

import os
from collections.abc import Callable

import lance

from skytext.config.index import IndexConfig
from skytext.errors import IndexRecallError
from skytext.table.commit_conflicts import repeat_on_conflict
from skytext.table.images_dataset import ImagesTable
from skytext.table.index_facts import VectorIndexFacts, forget_facts, store_facts
from skytext.table.indexes.index_recall import Column, Measured, measure_index
from skytext.table.indexes.vector_index import VectorPlan


def build_measured(
    table: ImagesTable,
    config: IndexConfig,
    plan: VectorPlan,
    num_rows: int,
    *,
    index: str,
    what: str,
    build: Callable[[ImagesTable, VectorPlan], None],
    column_of: Callable[[ImagesTable], Column],
) -> VectorIndexFacts:
    """Build a vector index of a table, and store its measured facts.

    Args:
        table: the table's latest version.
        config: the required recall, and the search settings that the user has set.
        plan: the settings for building the index.
        num_rows: number of images in the index.
        index: name of the index.
        what: description of the index, for the error message.
        build: function that gets a version and a plan. It builds the index and commits it.
        column_of: function that gets a version with the index, and returns the indexed column.

    Raises:
        IndexRecallError: the recall is too low. The index is dropped.
    """
    # Remove the old facts first. If the build is interrupted, the index then has no measurements,
    # and searches do not use it.
    _forget(table, index)
    repeat_on_conflict(lambda: build(ImagesTable.open(table.location), plan))()
    built = ImagesTable.open(table.location)
    num_partitions = _num_partitions(built.dataset, index)
    measured = measure_index(column_of(built), config, num_partitions)
    if measured.recall < config.min_recall:
        built.dataset.drop_index(index)
        raise IndexRecallError(
            f"{what} ({plan.kind}, {num_partitions} partitions) finds {_found(measured)}. This is "
            f"less than index.min_recall ({config.min_recall:g}), so the index was dropped, and "
            "nothing was promoted: set more bits or partitions, or another index.kind"
        )
    facts = VectorIndexFacts(
        kind=plan.kind,
        num_partitions=num_partitions,
        num_bits=plan.num_bits,
        nprobes=measured.probing.nprobes,
        refine_factor=measured.probing.refine_factor,
        recall_at_10=round(measured.recall, 4),
        num_queries=measured.num_queries,
        num_rows=num_rows,
        search_effort=measured.probing.effort,
    )
    _store(table, facts, index)
    return facts


@repeat_on_conflict
def _forget(table: ImagesTable, index: str) -> None:
    forget_facts(ImagesTable.open(table.location).dataset, index)


@repeat_on_conflict
def _store(table: ImagesTable, facts: VectorIndexFacts, index: str) -> None:
    store_facts(ImagesTable.open(table.location).dataset, facts, index)


def memory_bytes() -> int:
    """Return the memory size of this machine, in bytes."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _found(measured: Measured) -> str:
    probing = measured.probing
    looked = f"nprobes {probing.nprobes}"
    if probing.effort is not None:
        looked = f"search_effort {probing.effort:g}"
    return (
        f"{measured.recall:.3f} of the ten nearest images with {looked} "
        f"and refine_factor {probing.refine_factor}"
    )


def _num_partitions(dataset: lance.LanceDataset, index: str) -> int:
    """Return the number of partitions.

    If there are few vectors, Lance makes fewer partitions than planned.
    """
    return int(dataset.stats.index_stats(index)["indices"][0]["num_partitions"])
