"""An index on the images' own vectors, for tables too large to score row by row."""

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
    """Build or refresh the index on a table's image vectors, at its latest version.

    It follows the settings of ``index`` as the descriptions' does, and is measured as that is;
    where none is wanted, one that is there goes.

    Returns:
        What it was measured to find; None where search is exact, or there are no image vectors.

    Raises:
        CommitConflictError: a run got in between.
        IndexRecallError: it finds too little, and was dropped.
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
    # Before it is built: an index is measured on the fragments that it is searched with.
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
    """Return what is known of the index on image vectors; None where searches use none."""
    return read_facts(table.dataset, IMAGE_VECTOR_INDEX)


def _plan(num_rows: int, dim: int, config: IndexConfig) -> VectorPlan:
    # RaBitQ, which Lance refuses for a dimension that is no multiple of 8. Whoever names it means
    # the descriptions, whose dimension is another: "auto" is RaBitQ where it can be, and else
    # scalar quantisation, which takes any.
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
