"""Build the vector, full-text and scalar indexes of a table."""

from __future__ import annotations

import shlex
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import lance

from skytext.config.index import IndexConfig
from skytext.errors import TableError
from skytext.table.commit_conflicts import repeat_on_conflict
from skytext.table.compaction import merge_fragments
from skytext.table.images_dataset import ImagesTable
from skytext.table.index_facts import (
    TEXT_INDEX,
    VECTOR_INDEX,
    VectorIndexFacts,
    forget_facts,
    index_names,
)
from skytext.table.indexes.build_catalogue import refresh_catalogue
from skytext.table.indexes.measured_build import build_measured, memory_bytes
from skytext.table.indexes.measured_columns import VariantVectors
from skytext.table.indexes.vector_index import VectorPlan, choose_plan
from skytext.table.schema import STATUS_OK
from skytext.table.versions.promote_rollback import promote

# The bbox has no index. In a table of a million rows, a search in one country took 30 ms without an
# index. With an index on each of the four sides, the search took 80 ms, because each index selects
# too many rows.
_SCALAR_INDEXES = (
    ("image_id", "BTREE"),
    ("shard", "BTREE"),
    # A run uses this index to find the captions of images with identical bytes.
    ("content_sha256", "BTREE"),
    ("status", "BITMAP"),
    ("datetime", "BTREE"),
    ("collection", "BITMAP"),
    ("gsd", "BTREE"),
)

BuildVectorIndex = Callable[[ImagesTable, VectorPlan], None]
"""A function that builds and commits the index `VECTOR_INDEX`.

The index is built on the active column of caption vectors, in the latest version.
"""


@dataclass(frozen=True, slots=True)
class IndexReport:
    """The result of `build_indexes`.

    Attributes:
        table_version: the number of the version that has the new indexes.
        vector: kind of the vector index; None if searches are exact and use no vector index.
        num_partitions: number of partitions of the vector index.
        num_bits: bits per vector element in the index; None if this kind of index has no such
            number.
        nprobes: number of partitions that a filtered search reads. If ``search_effort`` is None,
            every search reads this number of partitions.
        search_effort: value of ``Probing.effort`` for searches without a filter.
        refine_factor: number of exactly scored candidates, as a multiple of k.
        recall_at_10: recall of the vector index. The ground truth is exact search.
        num_rows: number of rows with vectors.
        num_fragments: number of fragments after small fragments were merged.
        promoted: true if `build_indexes` promoted this version.
    """

    table_version: int
    vector: str | None
    num_partitions: int | None
    num_bits: int | None
    nprobes: int | None
    search_effort: float | None
    refine_factor: int | None
    recall_at_10: float | None
    num_rows: int
    num_fragments: int
    promoted: bool

    def to_json(self) -> dict[str, Any]:
        """Return the fields as a JSON object."""
        return {name: getattr(self, name) for name in self.__slots__}


def build_indexes(
    table: ImagesTable,
    config: IndexConfig,
    build_vector: BuildVectorIndex | None = None,
    *,
    promote_first: bool = True,
) -> IndexReport:
    """Build all indexes of a table's latest version. Existing indexes are replaced.

    Small fragments are merged before the indexes are built.

    Args:
        table: any version of the table.
        config: the indexes to build, and the required recall.
        build_vector: function that builds the vector index; None to build it in this process.
        promote_first: if no version is live, promote the new version.

    Raises:
        TableError: the table has no described image.
        CommitConflictError: a captioning run committed at the same time.
        IndexRecallError: the recall is too low. The index is dropped, and nothing is promoted.
    """
    dataset = ImagesTable.open(table.location).dataset
    num_ok = dataset.count_rows(filter=f"status = '{STATUS_OK}'")
    if num_ok == 0:
        raise TableError(
            f"{table.location.uri} has no described image. To see the failures, run: "
            f"skytext status {shlex.quote(table.location.uri)}"
        )
    merge_fragments(dataset)
    with warnings.catch_warnings():
        # Lance prints a warning that recommends a newer SDK. The warning is only about full-text
        # options that this code does not use.
        warnings.simplefilter("ignore", DeprecationWarning)
        _build_scalar_index(table, "text", "INVERTED", TEXT_INDEX, language=config.language)
        for column, kind in _SCALAR_INDEXES:
            _build_scalar_index(table, column, kind, f"{column}_idx")
    facts = None
    if is_vector_index_wanted(config, num_ok):
        latest = ImagesTable.open(table.location)
        facts = _build_vector_index(latest, config, num_ok, build_vector or _build_here)
    elif VECTOR_INDEX in index_names(dataset):
        drop_vector_index(table, VECTOR_INDEX)
    refresh_catalogue(table)
    indexed = ImagesTable.open(table.location)
    promoted = promote_first and indexed.live_version() is None
    if promoted:
        promote(indexed.location, indexed.version, why="the first index")
    return report_of(indexed, facts, num_ok, promoted)


@repeat_on_conflict
def _build_scalar_index(
    table: ImagesTable, column: str, kind: str, name: str, **options: str
) -> None:
    latest = ImagesTable.open(table.location).dataset
    latest.create_scalar_index(column, kind, name=name, replace=True, **options)


@repeat_on_conflict
def drop_vector_index(table: ImagesTable, index: str) -> None:
    """Drop a vector index of the latest version, and remove its facts."""
    forget_facts(ImagesTable.open(table.location).dataset, index)
    ImagesTable.open(table.location).dataset.drop_index(index)


def is_vector_index_wanted(config: IndexConfig, num_rows: int) -> bool:
    """Return whether a table needs a vector index.

    ``num_rows`` is the number of rows that have vectors.
    """
    return config.vector == "always" or (
        config.vector == "auto" and num_rows >= config.exact_below_rows
    )


def report_of(
    indexed: ImagesTable, facts: VectorIndexFacts | None, num_ok: int, promoted: bool = False
) -> IndexReport:
    """Return the report about a version that has all indexes."""
    return IndexReport(
        table_version=indexed.version,
        vector=None if facts is None else facts.kind,
        num_partitions=None if facts is None else facts.num_partitions,
        num_bits=None if facts is None else facts.num_bits,
        nprobes=None if facts is None else facts.nprobes,
        search_effort=None if facts is None else facts.search_effort,
        refine_factor=None if facts is None else facts.refine_factor,
        recall_at_10=None if facts is None else facts.recall_at_10,
        num_rows=num_ok,
        num_fragments=len(indexed.dataset.get_fragments()),
        promoted=promoted,
    )


def num_unindexed_rows(table: ImagesTable, index: str = VECTOR_INDEX) -> int | None:
    """Return the number of rows that an index does not cover; None if the index does not exist."""
    if index not in index_names(table.dataset):
        return None
    return int(table.dataset.stats.index_stats(index)["num_unindexed_rows"])


def _build_vector_index(
    table: ImagesTable, config: IndexConfig, num_rows: int, build: BuildVectorIndex
) -> VectorIndexFacts:
    num_vectors = round(num_rows * _mean_variants(table.dataset))
    plan = choose_plan(num_vectors, table.text_column.dim, config, memory_bytes())
    return build_measured(
        table,
        config,
        plan,
        num_rows,
        index=VECTOR_INDEX,
        what="the vector index",
        build=build,
        column_of=VariantVectors,
    )


def _build_here(table: ImagesTable, plan: VectorPlan) -> None:
    table.dataset.create_index(
        table.text_column.name, plan.kind, name=VECTOR_INDEX, replace=True, **plan.options()
    )


def _mean_variants(dataset: lance.LanceDataset) -> float:
    variants = dataset.scanner(
        columns=["num_variants"], filter=f"status = '{STATUS_OK}'", limit=1000
    ).to_table()
    return float(sum(variants.column(0).to_pylist()) / variants.num_rows)
