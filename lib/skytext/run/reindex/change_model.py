"""Change a table from one embedding model to another, over several calls.

Searches use the active column of vectors, by the old model. The pending column, by the new one, is
there from the first call on. New rows get both, so that they are found at once and need nothing
later. Old rows get theirs as the budget allows. Once none lacks it, the pending column becomes the
active one.
"""

from __future__ import annotations

import dataclasses

from skytext.models.factory import find_table_embedder, make_embedder
from skytext.run.caption_plan import CaptionPlan
from skytext.run.control.driver_node import run_on_driver_node
from skytext.run.vector_plan import VectorPlan
from skytext.table.commits.change_columns import drop_unused_columns, ensure_column
from skytext.table.commits.claim import Claim
from skytext.table.commits.stage_rows import staged_unit_ids
from skytext.table.images_dataset import ImagesTable
from skytext.table.vector_columns import VectorColumn


def write_both(plan: CaptionPlan, vectors: VectorPlan | None, claim: Claim) -> CaptionPlan:
    """Return a plan by which rows get vectors of the table's model and of the configured one.

    Where the table has the configured model already, it is the plan as it is.

    Args:
        plan: of a run that writes rows.
        vectors: of the descriptions, by another model than the table's; None where there is none.
        claim: of the call.

    Raises:
        TableError: the table's model is another by now.
        ModelError: a model cannot be found, or the new one cannot be loaded.
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
    """Drop the columns of vectors that nobody needs any more.

    Args:
        claim: of the call.
        columns: of the configured models.
    """
    run_on_driver_node(_drop_unused, claim, *columns)


def _drop_unused(claim: Claim, *columns: VectorColumn) -> None:
    if staged_unit_ids(claim.location):
        return
    claim.check()
    drop_unused_columns(ImagesTable.open(claim.location), *columns)


def _prepare_column(claim: Claim, vectors: VectorPlan) -> VectorColumn:
    """Add the pending column, if it is not there yet; return the active one."""
    table = ImagesTable.open(claim.location)
    if not table.text_column.fits(vectors.column):
        there = table.find_column(vectors.column)
        dim = make_embedder(vectors.config.embed, vectors.model).dim if there is None else there.dim
        claim.check()
        table = ensure_column(table, dataclasses.replace(vectors.column, dim=dim))
    return table.text_column
