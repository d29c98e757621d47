"""Plan which image vectors must be computed, and with which models.

Searches use the active column of image vectors. A change to another model may take several calls.
During the change, new images get vectors from both models, so that searches find the new images
immediately. The change of the model for descriptions works in the same way.
"""

from __future__ import annotations

from skytext.run.plans.caption_plan import CaptionPlan
from skytext.run.plans.vector_plan import VectorPlan, plan_images
from skytext.table.images_dataset import ImagesTable
from skytext.table.rows.missing_vectors import num_with_vector
from skytext.table.vector_columns import Role, VectorColumn


def wanted_image_vectors(plan: CaptionPlan) -> VectorPlan | None:
    """Plan to embed all images with the model of the settings or of the table.

    Returns:
        The plan; None if neither the settings nor the table contain a model.

    Raises:
        CallError: a model, setting or table is not usable.
    """
    table = ImagesTable.find(plan.location)
    is_named = plan.config.image_embed.model is not None
    if table is None or (table.image_column is None and not is_named):
        return None
    return plan_images(plan.location.uri, plan.config, replace=is_named)


def missing_image_vectors(plan: CaptionPlan, *, is_limited: bool) -> list[VectorPlan]:
    """Plan to embed the images that have no vector.

    Args:
        plan: the plan of the call.
        is_limited: whether the call has a budget. Without a budget, the change to another model is
            completed in this call, so no image needs a vector from the old model.

    Returns:
        One plan for each column with missing vectors, and for a complete column that searches do
        not use yet. The plan for the column that searches use is first.

    Raises: the errors of `wanted_image_vectors`.
    """
    wanted, table = wanted_image_vectors(plan), ImagesTable.find(plan.location)
    if wanted is None or table is None:
        return []
    plans, there = [wanted], table.image_column
    if is_limited and there is not None and not there.fits(wanted.column):
        by_active = _by_model_of(plan, there)
        # If settings of `images.*` have changed, new vectors do not fit the old column.
        if there.fits(by_active.column):
            plans.insert(0, by_active)
    return [one for one in plans if _is_missing(table, one.column)]


def _by_model_of(plan: CaptionPlan, column: VectorColumn) -> VectorPlan:
    """Plan to embed with the model of a column."""
    embed = plan.config.image_embed.model_copy(
        update={"model": column.model, "revision": column.revision or None}
    )
    config = plan.config.model_copy(update={"image_embed": embed})
    return plan_images(plan.location.uri, config, replace=True)


def _is_missing(table: ImagesTable, column: VectorColumn) -> bool:
    """Return whether vectors are missing, or the column is complete but not active yet."""
    num_ok, num_there = num_with_vector(table, column)
    there = table.find_column(column)
    # A complete column is not active in two cases: the run was killed before it activated the
    # column, or the user selected an earlier model again.
    return num_there < num_ok or (there is not None and there.role != Role.ACTIVE)
