"""Plan which images get vectors, and by which models.

Searches use the active column of image vectors. While another model takes over during several
calls, new images get vectors by both models, as descriptions do: they are found at once.
"""

from __future__ import annotations

from skytext.run.caption_plan import CaptionPlan
from skytext.run.vector_plan import VectorPlan, plan_images
from skytext.table.images_dataset import ImagesTable
from skytext.table.missing_vectors import num_with_vector
from skytext.table.vector_columns import Role, VectorColumn


def wanted_image_vectors(plan: CaptionPlan) -> VectorPlan | None:
    """Plan to embed all images, by the model that the settings or the table name.

    Returns:
        None where neither names one.

    Raises:
        CallError: a model, setting or table that cannot be used.
    """
    table = ImagesTable.find(plan.location)
    is_named = plan.config.image_embed.model is not None
    if table is None or (table.image_column is None and not is_named):
        return None
    return plan_images(plan.location.uri, plan.config, replace=is_named)


def missing_image_vectors(plan: CaptionPlan, *, is_limited: bool) -> list[VectorPlan]:
    """Plan to embed the images that have no vector.

    Args:
        plan: of the call.
        is_limited: whether the call has a budget. Without one the model changes in this call, so
            no image needs a vector by the old one.

    Returns:
        One plan for each model by which an image lacks a vector, and for a full column that
        searches do not use yet. The model that searches use is first.

    Raises: as `wanted_image_vectors`.
    """
    wanted, table = wanted_image_vectors(plan), ImagesTable.find(plan.location)
    if wanted is None or table is None:
        return []
    plans, there = [wanted], table.image_column
    if is_limited and there is not None and not there.fits(wanted.column):
        by_active = _by_model_of(plan, there)
        # With other settings of `images.*` its vectors cannot be made any more.
        if there.fits(by_active.column):
            plans.insert(0, by_active)
    return [one for one in plans if _is_missing(table, one.column)]


def _by_model_of(plan: CaptionPlan, column: VectorColumn) -> VectorPlan:
    """Plan to embed with the model that a column was made by."""
    embed = plan.config.image_embed.model_copy(
        update={"model": column.model, "revision": column.revision or None}
    )
    config = plan.config.model_copy(update={"image_embed": embed})
    return plan_images(plan.location.uri, config, replace=True)


def _is_missing(table: ImagesTable, column: VectorColumn) -> bool:
    """Return whether an image lacks a vector, or the column is full and not used yet."""
    num_ok, num_there = num_with_vector(table, column)
    there = table.find_column(column)
    # A full column is not active after a kill just before that, or if its model is named again.
    return num_there < num_ok or (there is not None and there.role != Role.ACTIVE)
