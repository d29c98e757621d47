"""Add new rows to the indexes of a table. The cost depends on the number of new rows.

The vector index gets a new segment that contains the new rows. Its partitions do not change. The
new rows are also added to the other indexes. The vector index is rebuilt only if the table has
grown considerably or if the recall is too low.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

from skytext.config.index import IndexConfig
from skytext.errors import TableError
from skytext.table.commit_conflicts import repeat_on_conflict
from skytext.table.compaction import merge_small_fragments
from skytext.table.field_catalogue import read_catalogue
from skytext.table.images_dataset import ImagesTable
from skytext.table.index_facts import (
    IMAGE_VECTOR_INDEX,
    TEXT_INDEX,
    VECTOR_INDEX,
    VectorIndexFacts,
    index_names,
    is_covered,
    num_segments,
    read_facts,
    store_facts,
)
from skytext.table.indexes.build_catalogue import refresh_catalogue
from skytext.table.indexes.build_indexes import (
    BuildVectorIndex,
    IndexReport,
    build_indexes,
    is_vector_index_wanted,
    num_unindexed_rows,
    report_of,
)
from skytext.table.indexes.image_vector_index import build_image_index
from skytext.table.indexes.index_recall import Column, exact_scores, judge, sample_queries
from skytext.table.indexes.measured_columns import ImageVectors, VariantVectors
from skytext.table.rows.missing_vectors import num_with_vector

_COLUMNS: dict[str, Callable[[ImagesTable], Column]] = {
    VECTOR_INDEX: VariantVectors,
    IMAGE_VECTOR_INDEX: ImageVectors,
}


def refresh_indexes(
    table: ImagesTable, config: IndexConfig, build_vector: BuildVectorIndex | None = None
) -> IndexReport:
    """Update all indexes of the latest version, so that they cover all rows.

    No version is promoted.

    Args:
        table: any version of the table.
        config: the indexes to build, and the required recall.
        build_vector: function that builds the vector index; None to build it in this process.

    Raises:
        TableError: the table has no described image.
        CommitConflictError: a run committed at the same time.
        IndexRecallError: the recall is too low even after a rebuild.
    """
    merge_small_fragments(ImagesTable.open(table.location))
    latest = ImagesTable.open(table.location)
    num_ok, _ = num_with_vector(latest, None)
    if num_ok == 0:
        raise TableError(f"{latest.location.uri} has no described image")
    _refresh_image_index(latest, config)
    if TEXT_INDEX not in index_names(latest.dataset) or not _can_be_refreshed(
        latest, config, VECTOR_INDEX, num_ok
    ):
        return build_indexes(latest, config, build_vector, promote_first=False)
    _refresh_vector_index(latest, config, VECTOR_INDEX, num_ok)
    _add_new_rows(latest)
    _refresh_catalogue(latest, config, num_ok)
    refreshed = ImagesTable.open(table.location)
    facts = read_facts(refreshed.dataset)
    if not _finds_enough(facts, config):
        return build_indexes(latest, config, build_vector, promote_first=False)
    return report_of(refreshed, facts, num_ok)


def _refresh_image_index(table: ImagesTable, config: IndexConfig) -> None:
    """Update the index on image vectors, so that it covers all rows."""
    _, num_images = num_with_vector(table, table.image_column)
    if _can_be_refreshed(table, config, IMAGE_VECTOR_INDEX, num_images):
        _refresh_vector_index(table, config, IMAGE_VECTOR_INDEX, num_images)
        facts = read_facts(ImagesTable.open(table.location).dataset, IMAGE_VECTOR_INDEX)
        if _finds_enough(facts, config):
            return
    build_image_index(table, config)


def _can_be_refreshed(table: ImagesTable, config: IndexConfig, index: str, num_rows: int) -> bool:
    """Return whether a vector index can be refreshed by adding the new rows.

    If the result is False, the index must be built or dropped.
    """
    facts = read_facts(table.dataset, index)
    if not num_rows or not is_vector_index_wanted(config, num_rows):
        return index not in index_names(table.dataset)
    if facts is None:
        return False
    trained = facts.num_trained_rows or facts.num_rows
    added = facts.num_untrained + (num_unindexed_rows(table, index) or 0)
    return added <= config.rebuild_growth * trained


@repeat_on_conflict
def _refresh_vector_index(
    table: ImagesTable, config: IndexConfig, index: str, num_rows: int
) -> None:
    """Add a segment for the new rows. If there are too many segments, merge them.

    If many rows were added after the last measurement, measure the recall again.
    """
    latest = ImagesTable.open(table.location)
    facts = read_facts(latest.dataset, index)
    if facts is None:
        return
    if not is_covered(latest.dataset, index):
        facts = _with_added(facts, num_unindexed_rows(latest, index) or 0)
        # Store the number of new rows before the segment is added. If the process stops between
        # these two steps, the next refresh counts the rows twice. If the segment were added first,
        # the rows might never be counted.
        store_facts(latest.dataset, facts, index)
        latest = ImagesTable.open(table.location)
        segments = num_segments(latest.dataset, index)
        merged = segments + 1 if segments >= config.max_segments else 0
        latest.dataset.optimize.optimize_indices(num_indices_to_merge=merged, index_names=[index])
    if facts.num_unmeasured > config.remeasure_growth * facts.num_rows:
        refreshed = ImagesTable.open(table.location)
        measured = _measured(refreshed, config, index, facts, num_rows)
        store_facts(refreshed.dataset, measured, index)


def _with_added(facts: VectorIndexFacts, num_rows: int) -> VectorIndexFacts:
    return dataclasses.replace(
        facts,
        num_trained_rows=facts.num_trained_rows or facts.num_rows,
        num_untrained=facts.num_untrained + num_rows,
        num_unmeasured=facts.num_unmeasured + num_rows,
    )


def _measured(
    table: ImagesTable, config: IndexConfig, index: str, facts: VectorIndexFacts, num_rows: int
) -> VectorIndexFacts:
    """Measure the recall with the existing search settings, and return the updated facts."""
    column = _COLUMNS[index](table)
    queries = sample_queries(column, config.recall_queries)
    found = judge(
        column.ask,
        queries,
        exact_scores(column, queries),
        [facts.probing(config)],
        config.target_recall,
    )
    return dataclasses.replace(
        facts,
        recall_at_10=round(found.recall, 4),
        num_queries=found.num_queries,
        num_rows=num_rows,
        num_unmeasured=0,
    )


def _finds_enough(facts: VectorIndexFacts | None, config: IndexConfig) -> bool:
    return facts is None or facts.recall_at_10 >= config.min_recall


@repeat_on_conflict
def _refresh_catalogue(table: ImagesTable, config: IndexConfig, num_rows: int) -> None:
    """Rebuild the field catalogue if many rows were added after it was built."""
    catalogue = read_catalogue(ImagesTable.open(table.location).dataset)
    if catalogue is None or num_rows > (1 + config.remeasure_growth) * catalogue.num_images:
        refresh_catalogue(table)


@repeat_on_conflict
def _add_new_rows(table: ImagesTable) -> None:
    """Add the new rows to the full-text index and the scalar indexes."""
    latest = ImagesTable.open(table.location)
    names = [
        name
        for name in index_names(latest.dataset) - _COLUMNS.keys()
        if not is_covered(latest.dataset, name)
    ]
    if names:
        latest.dataset.optimize.optimize_indices(index_names=names)
