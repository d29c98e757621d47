"""The index on image vectors, for tables too large for exact search."""

from __future__ import annotations

from skytext.config.index import IndexConfig
from skytext.table.compaction import merge_fragments
from skytext.table.images_dataset import ImagesTable
from skytext.table.index_facts import (
    IMAGE_VECTOR_INDEX,
    VectorIndexFacts,
    index_names,
    read_facts,
)
from skytext.table.indexes.build_indexes import drop_vector_index, is_vector_index_wanted
from skytext.table.indexes.measured_build import build_measured, memory_bytes
from skytext.table.indexes.measured_columns import ImageVectors
from skytext.table.indexes.vector_index import VectorPlan, choose_plan
from skytext.table.missing_vectors import image_column_of, num_with_vector


def build_image_index(table: ImagesTable, config: IndexConfig) -> VectorIndexFacts | None:
    """Build or refresh the index on image vectors, in the latest version.

    It uses the same ``index`` settings and measurement as the index on caption vectors. If the
    settings need no index, an existing one is dropped.

    Returns:
        Its measured facts; None for exact search or without image vectors.

    Raises:
        CommitConflictError: a run committed at the same time.
        IndexRecallError: the recall is too low; the index is dropped.
    """
    latest = ImagesTable.open(table.location)
    column = latest.image_column
    if column is None:
        return None
    _, num_rows = num_with_vector(latest, column)
    if not is_vector_index_wanted(config, num_rows) or num_rows == 0:
        if IMAGE_VECTOR_INDEX in index_names(latest.dataset):
            drop_vector_index(latest, IMAGE_VECTOR_INDEX)
        return None
    # Merge first: an index is measured on the fragments that searches use.
    merge_fragments(latest.dataset)
    return build_measured(
        ImagesTable.open(table.location),
        config,
        _plan(num_rows, column.dim, config),
        num_rows,
        index=IMAGE_VECTOR_INDEX,
        what="the index on image vectors",
        build=_build,
        column_of=ImageVectors,
    )


def image_index_facts(table: ImagesTable) -> VectorIndexFacts | None:
    """Return the facts of the image vector index; None if searches do not use one."""
    return read_facts(table.dataset, IMAGE_VECTOR_INDEX)


def _plan(num_rows: int, dim: int, config: IndexConfig) -> VectorPlan:
    # RaBitQ in Lance needs a dimension that is a multiple of 8. A configured RaBitQ is meant for
    # the caption vectors, which have another dimension. "auto" uses RaBitQ if possible, and
    # otherwise scalar quantisation, which supports any dimension.
    kind = "auto" if config.kind == "IVF_RQ" else config.kind
    return choose_plan(num_rows, dim, config.model_copy(update={"kind": kind}), memory_bytes())


def _build(table: ImagesTable, plan: VectorPlan) -> None:
    table.dataset.create_index(
        image_column_of(table).name,
        plan.kind,
        name=IMAGE_VECTOR_INDEX,
        replace=True,
        **plan.options(),
    )
