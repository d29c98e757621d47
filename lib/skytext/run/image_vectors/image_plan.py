"""What a run that embeds images is to do, checked before Ray or a model starts."""

from __future__ import annotations

from dataclasses import dataclass

from skytext.archive import ReadOptions
from skytext.config.settings import Config
from skytext.models.checkpoints import ModelIdentity, image_model
from skytext.models.factory import check_name
from skytext.models.fingerprints import image_embedding_fingerprint
from skytext.pixels.decode import ImageLimits
from skytext.table.image_vector_column import ImageIdentity, check_same_model, find_image_identity
from skytext.table.images_dataset import ImagesTable
from skytext.table.location import TableLocation


@dataclass(frozen=True, slots=True)
class ImagePlan:
    """Everything about a run that is known, and checked, before work starts.

    Attributes:
        config: the settings.
        location: the table.
        model: the model that embeds images.
        replace: whether vectors by another model are thrown away.
    """

    config: Config
    location: TableLocation
    model: ModelIdentity
    replace: bool = False

    @property
    def identity(self) -> ImageIdentity:
        """Of the vectors to be made; their length is told by the first unit."""
        return ImageIdentity(
            fingerprint=image_embedding_fingerprint(self.model, self.config.images),
            model=self.model.name,
            revision=self.model.hub_revision,
            dim=0,
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
        replace: throw the vectors of another model away.

    Raises:
        CallError: a model, setting or table that cannot be used.
    """
    location = TableLocation.parse(table)
    there = find_image_identity(ImagesTable.open(location))
    chosen = config.image_embed
    if chosen.model is None and there is not None:
        chosen = chosen.model_copy(
            update={"model": there.model, "revision": there.revision or None}
        )
    model = image_model(chosen)
    check_name(model.name)
    config = config.model_copy(update={"image_embed": chosen})
    plan = ImagePlan(config, location, model, replace)
    if there is not None and not replace:
        check_same_model(location, there, plan.identity)
    return plan
