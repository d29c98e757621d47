"""What a run that embeds images is to do, checked before Ray or a model starts."""

from __future__ import annotations

from dataclasses import dataclass

from skytext.archive import ReadOptions
from skytext.config.settings import Config
from skytext.errors import TableError
from skytext.models.checkpoints import ModelIdentity, image_model
from skytext.models.fakes.options import FakeOptions
from skytext.models.fingerprints import image_embedding_fingerprint
from skytext.pixels.decode import ImageLimits
from skytext.table.commits.commit_rows import check_writable
from skytext.table.images_dataset import ImagesTable
from skytext.table.location import TableLocation
from skytext.table.vector_columns import VectorColumn, VectorKind


@dataclass(frozen=True, slots=True)
class ImagePlan:
    """Everything about a run that is known, and checked, before work starts.

    Attributes:
        config: the settings.
        location: the table.
        model: the model that embeds images.
    """

    config: Config
    location: TableLocation
    model: ModelIdentity

    @property
    def column(self) -> VectorColumn:
        """Of the vectors to be made; their length is told by the first unit."""
        return VectorColumn(
            kind=VectorKind.IMAGE,
            fingerprint=image_embedding_fingerprint(self.model, self.config.images),
            model=self.model.name,
            revision=self.model.hub_revision,
            dtype=self.config.image_embed.dtype,
        )

    @property
    def limits(self) -> ImageLimits:
        """Of the images: as the captioner's, so that both see the same pixels."""
        return ImageLimits.of(self.config.images)

    @property
    def reading(self) -> ReadOptions:
        """What a person chose about the way shards are read."""
        return ReadOptions(**self.config.sources.model_dump())


def plan_images(table: str, config: Config, *, replace: bool = False) -> ImagePlan:
    """Check everything that can be checked before Ray or a model starts.

    Without a model named, the one that the table's images were embedded with goes on.

    Args:
        table: it must be there.
        config: the settings.
        replace: embed all images with this model, if those that the table has are by another. When
            all are done, searches use the new vectors, and the others go.

    Raises:
        CallError: a model, setting or table that cannot be used.
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
    if model.is_fake:
        FakeOptions.parse(model.name)
    config = config.model_copy(update={"image_embed": chosen})
    plan = ImagePlan(config, location, model)
    if there is not None and not replace and not there.fits(plan.column):
        raise TableError(
            f"the images of {location.uri} were embedded with {there.described}, this call would "
            f"use {model.name!r} (or other settings of images.*): name the same model, or embed "
            "all images again with --replace"
        )
    return plan
