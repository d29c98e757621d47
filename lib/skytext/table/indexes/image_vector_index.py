"""Build the index on image vectors. It is needed if the table is too large for exact search."""

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
from skytext.table.rows.missing_vectors import image_column_of, num_with_vector


def build_image_index(table: ImagesTable, config: IndexConfig) -> VectorIndexFacts | None:
    """Build the index on image vectors in the latest version. An existing index is replaced.

    The index on caption vectors uses the same ``index`` settings and the same measurement. If the
    settings require no index, an existing index is dropped.

    Returns:
        The measured facts of the index; None if no index was built.

    Raises:
        CommitConflictError: a run committed at the same time.
        IndexRecallError: the recall is too low. The index is dropped.
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
    # Merge before the index is built. The measurement then reads the same fragments as later
    # searches.
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
    """Return the facts of the index on image vectors; None if searches use no such index."""
    return read_facts(table.dataset, IMAGE_VECTOR_INDEX)


def _plan(num_rows: int, dim: int, config: IndexConfig) -> VectorPlan:
    # RaBitQ in Lance needs a dimension that is a multiple of 8. If the settings require RaBitQ,
    # this may be possible only for the caption vectors, which have another dimension. So "auto" is
    # used for image vectors. It chooses RaBitQ if the dimension is a multiple of 8. If not, it
    # chooses scalar quantisation.
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
