"""Change the embedding model of a table, over several calls.

Searches use the active vector column. During the change, it contains vectors of the old model. The
first call adds a second column, the pending column, for vectors of the new model. New rows get
vectors of both models, so searches find new rows immediately. Each call also computes vectors of
the new model for old rows, until the budget of the call is spent. When every row has vectors of the
new model, the pending column becomes the active column.
"""

from __future__ import annotations

import dataclasses

from skytext.models.factory import find_table_embedder, make_embedder
from skytext.run.cluster.driver_node import run_on_driver_node
from skytext.run.plans.caption_plan import CaptionPlan
from skytext.run.plans.vector_plan import VectorPlan
from skytext.table.commits.change_columns import drop_unused_columns, ensure_column
from skytext.table.commits.claim import Claim
from skytext.table.commits.stage_rows import staged_unit_ids
from skytext.table.images_dataset import ImagesTable
from skytext.table.vector_columns import VectorColumn


def write_both(plan: CaptionPlan, vectors: VectorPlan | None, claim: Claim) -> CaptionPlan:
    """Return a plan in which new rows also get vectors of the configured embedding model.

    If the table already has the configured model, the plan is returned unchanged. Otherwise the
    rows get vectors of two models: the model of the table and the configured model.

    Args:
        plan: plan of a run that writes rows.
        vectors: plan that embeds the descriptions with the configured model. None if the table
            already has the configured model.
        claim: the claim that this process holds on the table.

    Raises:
        TableError: the model of the table has changed since the plan was made.
        ModelError: a model cannot be found, or the new model cannot be loaded.
    """
    if vectors is None:
        return plan
    active = run_on_driver_node(_prepare_column, claim, vectors)
    if active.fits(vectors.column):
        return plan
    embed, model = find_table_embedder(plan.location.uri, active, plan.config.embed)
    embed = embed.model_copy(update={"dtype": active.dtype})
    config = plan.config.model_copy(update={"embed": embed})
    return dataclasses.replace(plan, config=config, embed_model=model, pending=vectors)


def drop_unused(claim: Claim, *columns: VectorColumn) -> None:
    """Drop the vector columns that are no longer needed.

    If the table has staged units, no column is dropped.

    Args:
        claim: the claim that this process holds on the table.
        columns: the vector columns of the configured models. These columns are not dropped.
    """
    run_on_driver_node(_drop_unused, claim, *columns)


def _drop_unused(claim: Claim, *columns: VectorColumn) -> None:
    if staged_unit_ids(claim.location):
        return
    claim.check()
    drop_unused_columns(ImagesTable.open(claim.location), *columns)


def _prepare_column(claim: Claim, vectors: VectorPlan) -> VectorColumn:
    """Add the pending column if it does not exist; return the active column."""
    table = ImagesTable.open(claim.location)
    if not table.text_column.fits(vectors.column):
        there = table.find_column(vectors.column)
        dim = make_embedder(vectors.config.embed, vectors.model).dim if there is None else there.dim
        claim.check()
        table = ensure_column(table, dataclasses.replace(vectors.column, dim=dim))
    return table.text_column
