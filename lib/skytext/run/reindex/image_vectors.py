"""Determine which image vectors must be computed, and with which models.

Searches use the active column of image vectors. A change to another image model may take several
calls. During the change, new images get a vector of the old model and a vector of the new model, so
that searches find the new images immediately. `skytext.run.reindex.change_model` does the same for
the vectors of descriptions.
"""

from __future__ import annotations

from skytext.run.plans.caption_plan import CaptionPlan
from skytext.run.plans.vector_plan import VectorPlan, plan_images
from skytext.table.images_dataset import ImagesTable
from skytext.table.rows.missing_vectors import num_with_vector
from skytext.table.vector_columns import Role, VectorColumn


def wanted_image_vectors(plan: CaptionPlan) -> VectorPlan | None:
    """Make a plan that embeds all images.

    The plan uses the image model that is named in the settings. If the settings name no image
    model, the plan uses the model that made the table's image vectors.

    Returns:
        The plan. None if there is no table, or if the settings name no image model and the table
        has no image vectors.

    Raises:
        CallError: a model, setting or table is not usable.
    """
    table = ImagesTable.find(plan.location)
    is_named = plan.config.image_embed.model is not None
    if table is None or (table.image_column is None and not is_named):
        return None
    return plan_images(plan.location.uri, plan.config, replace=is_named)


def missing_image_vectors(plan: CaptionPlan, *, is_limited: bool) -> list[VectorPlan]:
    """Make plans that embed the images that have no vector.

    Args:
        plan: the captioning plan of this command.
        is_limited: whether this command has a budget. Without a budget, the command completes the
            change to another model, so no image needs a vector of the old model.

    Returns:
        One plan for each column that is incomplete, or complete and not active yet. If there are
        two plans, the first plan is for the active column.

    Raises: the errors of `wanted_image_vectors`.
    """
    wanted, table = wanted_image_vectors(plan), ImagesTable.find(plan.location)
    if wanted is None or table is None:
        return []
    plans, there = [wanted], table.image_column
    if is_limited and there is not None and not there.fits(wanted.column):
        by_active = _by_model_of(plan, there)
        # If a setting of `images.*` has changed, new vectors do not fit the old column.
        if there.fits(by_active.column):
            plans.insert(0, by_active)
    return [one for one in plans if _is_missing(table, one.column)]


def _by_model_of(plan: CaptionPlan, column: VectorColumn) -> VectorPlan:
    """Make a plan that embeds the images with the model of a column."""
    embed = plan.config.image_embed.model_copy(
        update={"model": column.model, "revision": column.revision or None}
    )
    config = plan.config.model_copy(update={"image_embed": embed})
    return plan_images(plan.location.uri, config, replace=True)


def _is_missing(table: ImagesTable, column: VectorColumn) -> bool:
    """Return whether vectors are missing, or the column is complete but not active yet."""
    num_ok, num_there = num_with_vector(table, column)
    there = table.find_column(column)
    # A complete column is not active in two cases. Either the run was killed before it activated
    # the column, or the user has selected an earlier model again.
    return num_there < num_ok or (there is not None and there.role != Role.ACTIVE)
