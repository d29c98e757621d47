"""The plan of a run that fills a vector column. It is checked before Ray or a model starts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import pyarrow as pa

from skytext.archive import ReadOptions
from skytext.config.settings import Config
from skytext.errors import TableError
from skytext.models.checkpoints import ModelIdentity, embed_model, image_model
from skytext.models.factory import check_name, make_embedder, make_image_embedder
from skytext.models.fingerprints import embedding_fingerprint, image_embedding_fingerprint
from skytext.pixels.decode import ImageLimits
from skytext.run.cluster.nodes import Resources
from skytext.run.stages.stage_vectors import ImageModel, TextModel, Vectors
from skytext.table.commits.commit_rows import check_writable
from skytext.table.images_dataset import ImagesTable
from skytext.table.location import TableLocation
from skytext.table.rows.missing_vectors import num_with_vector
from skytext.table.vector_columns import Role, VectorColumn, VectorKind


@dataclass(frozen=True, slots=True)
class VectorPlan:
    """The checked inputs of a run that fills a vector column.

    Attributes:
        config: the settings.
        location: the table.
        model: the embedding model.
        column: the vector column to fill. Its ``dim`` is not set in the plan.
    """

    config: Config
    location: TableLocation
    model: ModelIdentity
    column: VectorColumn

    @property
    def of_images(self) -> bool:
        """True if the run embeds images; false if the run embeds descriptions."""
        return self.column.kind == VectorKind.IMAGE

    @property
    def command(self) -> str:
        """The name of the command in the record of the run."""
        return "embed-images" if self.of_images else "embed-captions"

    @property
    def num_actors(self) -> int:
        """Number of actors. Each actor has its own copy of the model."""
        config = self.config
        return config.image_embed.num_actors if self.of_images else config.embed.num_actors or 1

    @property
    def per_actor(self) -> Resources:
        """The Ray resources of each actor."""
        embed = self.config.image_embed if self.of_images else self.config.embed
        return Resources(embed.num_cpus_per_actor, embed.num_gpus_per_actor)

    @property
    def load(self) -> Callable[[], Callable[[pa.Table], Vectors]]:
        """A function that loads the model. A worker calls the function on its own node."""
        return partial(_load, self.config, self.model, self.of_images)

    @property
    def limits(self) -> ImageLimits:
        """Limits for accepted images.

        The captioning run uses the same limits, so the caption model and the image model receive
        the same pixels.
        """
        return ImageLimits.of(self.config.images)

    @property
    def reading(self) -> ReadOptions:
        """Options of the reader, from the settings."""
        return ReadOptions(**self.config.sources.model_dump())


def _load(config: Config, model: ModelIdentity, of_images: bool) -> Callable[[pa.Table], Vectors]:
    if not of_images:
        return TextModel(make_embedder(config.embed, model))
    embed = config.image_embed
    return ImageModel(make_image_embedder(embed, model), embed.batch_size)


def text_column(model: ModelIdentity, config: Config) -> VectorColumn:
    """Return the vector column in which a model stores the vectors of descriptions.

    The ``dim`` of this column is not set.
    """
    fingerprint = embedding_fingerprint(model)
    dtype = config.embed.dtype
    return VectorColumn(VectorKind.TEXT, fingerprint, model.name, model.hub_revision, dtype=dtype)


def image_column(model: ModelIdentity, config: Config) -> VectorColumn:
    """Return the vector column in which a model stores the vectors of images.

    The ``dim`` of this column is not set.
    """
    fingerprint = image_embedding_fingerprint(model, config.images)
    dtype = config.image_embed.dtype
    return VectorColumn(VectorKind.IMAGE, fingerprint, model.name, model.hub_revision, dtype=dtype)


def plan_images(table: str, config: Config, *, replace: bool = False) -> VectorPlan:
    """Make a plan that embeds the images without a vector.

    If the settings name no image model, the plan uses the model that made the image vectors in the
    table.

    Args:
        table: address of the table. The table must exist.
        config: the settings.
        replace: whether to embed all images again if the image vectors in the table were made with
            another model. When all images have a new vector, searches use the new vectors. The old
            vectors are kept as long as a roll-back may need them.

    Raises:
        CallError: a model, setting or table is not usable.
    """
    location = TableLocation.parse(table)
    opened = ImagesTable.open(location)
    check_writable(opened)
    there = opened.image_column
    chosen = config.image_embed
    if chosen.model is None and there is not None:
        chosen = chosen.model_copy(
            update={"model": there.model, "revision": there.revision or None}
        )
    model = image_model(chosen)
    check_name(model.name)
    config = config.model_copy(update={"image_embed": chosen})
    plan = VectorPlan(config, location, model, image_column(model, config))
    if there is not None and not replace and not there.fits(plan.column):
        raise TableError(
            f"the images of {location.uri} were embedded with {there.described}. The model of this "
            f"command ({model.name!r}) or its settings images.* are different. Give the same model "
            "and the same settings, or embed all images again with --replace"
        )
    return plan


def plan_stale_vectors(table: str, config: Config) -> list[VectorPlan]:
    """Make plans that embed all descriptions and images with the configured models.

    A description or image that already has a vector of the configured model is not embedded again.

    Args:
        table: address of the table. If the table does not exist, the result is empty.
        config: the settings. If the settings name no image model, there is no plan for images.

    Returns:
        One plan for each column that is incomplete or not active.

    Raises:
        CallError: a model, setting or table is not usable.
    """
    location = TableLocation.parse(table)
    opened = ImagesTable.find(location)
    if opened is None:
        return []
    check_writable(opened)
    model = embed_model(config.embed)
    if num_with_vector(opened, None)[0] == 0:
        # The table has no descriptions. Without a description, no run can compute a vector and
        # determine the length of the vectors. So the table cannot change to another model.
        check_writable(opened, text_column(model, config))
    plans = [VectorPlan(config, location, model, text_column(model, config))]
    if config.image_embed.model is not None and opened.image_column is not None:
        plans.append(plan_images(table, config, replace=True))
    return [plan for plan in plans if not _is_complete(opened, plan.column)]


def _is_complete(table: ImagesTable, wanted: VectorColumn) -> bool:
    column = table.find_column(wanted)
    if column is None or column.role != Role.ACTIVE:
        return False
    num_ok, num_there = num_with_vector(table, column)
    return num_ok == num_there
