"""Build the captioner and the embedders that the settings name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from skytext.captions.captioner import Captioner
from skytext.captions.prompts import Prompt
from skytext.config.captioning import FAKE_MODEL_PREFIX, CaptionConfig
from skytext.config.embedding import EmbedConfig, ImageEmbedConfig
from skytext.config.pixels import ImageConfig
from skytext.errors import TableError
from skytext.models.checkpoints import (
    CHECKPOINT,
    ModelIdentity,
    embed_model,
    image_model,
    kind_of,
)
from skytext.models.fakes.embedders import FakeEmbedder, FakeImageEmbedder
from skytext.models.fakes.engine import FakeEngine
from skytext.models.fakes.options import FakeOptions
from skytext.models.fingerprints import embedding_fingerprint, image_embedding_fingerprint
from skytext.models.image_embedder import ClipEmbedder, ImageEmbedder
from skytext.models.text_embedder import Embedder, SentenceEmbedder
from skytext.models.vllm.engine import VllmEngine
from skytext.models.vllm.supervisor import SupervisedCaptioner

CaptionerFactory = Callable[[CaptionConfig, ModelIdentity, Prompt], Captioner]
"""A function that makes a captioner, like `make_captioner`."""


def make_captioner(config: CaptionConfig, model: ModelIdentity, prompt: Prompt) -> Captioner:
    """Make a captioner without checking the model.

    If the model is not usable, the ``start`` method of the captioner raises the error.
    """
    return _CAPTIONERS[kind_of(model.name)](config, model, prompt)


def check_name(name: str) -> None:
    """Check the options in a model name, if models of this kind have options in their names.

    Raises:
        ConfigError: the name contains an option that models of this kind do not have.
    """
    if kind_of(name) in _CHECKS:
        _CHECKS[kind_of(name)](name)


def make_embedder(config: EmbedConfig, model: ModelIdentity) -> Embedder:
    """Load an embedder.

    Raises:
        ModelError: the model cannot be loaded.
    """
    return _EMBEDDERS[kind_of(model.name)](config, model)


def make_image_embedder(config: ImageEmbedConfig, model: ModelIdentity) -> ImageEmbedder:
    """Load an image embedding model.

    Raises:
        ModelError: the model cannot be loaded, or the model does not embed both images and texts.
    """
    return _IMAGE_EMBEDDERS[kind_of(model.name)](config, model)


def _vllm_captioner(config: CaptionConfig, model: ModelIdentity, prompt: Prompt) -> Captioner:
    return SupervisedCaptioner(
        config, lambda noted: VllmEngine(config, model.here(), prompt, noted)
    )


def _fake_captioner(config: CaptionConfig, model: ModelIdentity, _: Prompt) -> Captioner:
    limit_s = config.engine.start_timeout_s
    return SupervisedCaptioner(
        config, lambda noted: FakeEngine(FakeOptions.parse(model.name), noted, limit_s)
    )


# The constructors for each kind of model. To add a kind of captioner, add an entry here and a
# prefix in `skytext.models.checkpoints`.
_CAPTIONERS: dict[str, CaptionerFactory] = {
    CHECKPOINT: _vllm_captioner,
    FAKE_MODEL_PREFIX: _fake_captioner,
}
_CHECKS: dict[str, Callable[[str], object]] = {FAKE_MODEL_PREFIX: FakeOptions.parse}
_EMBEDDERS: dict[str, Callable[[EmbedConfig, ModelIdentity], Embedder]] = {
    CHECKPOINT: lambda config, model: SentenceEmbedder(config, model.here()),
    FAKE_MODEL_PREFIX: lambda _, model: FakeEmbedder(FakeOptions.parse(model.name).dim),
}
_IMAGE_EMBEDDERS: dict[str, Callable[[ImageEmbedConfig, ModelIdentity], ImageEmbedder]] = {
    CHECKPOINT: ClipEmbedder,
    FAKE_MODEL_PREFIX: lambda _, model: FakeImageEmbedder(FakeOptions.parse(model.name)),
}


class EmbeddedBy(Protocol):
    """The entry in which a table records its embedding model."""

    @property
    def model(self) -> str:
        """The model's name."""

    @property
    def revision(self) -> str:
        """The hub commit of the model. It is empty if the model is not from a hub."""

    @property
    def fingerprint(self) -> str:
        """The fingerprint of the model, of the model's prompts and of the text layout."""


def make_table_image_embedder(
    table: str,
    by: EmbeddedBy,
    *,
    config: ImageEmbedConfig | None = None,
    images: ImageConfig | None = None,
) -> ImageEmbedder:
    """Load the model that embedded the images of a table.

    Args:
        table: the address of the table, which is used in error messages.
        by: the entry in which the table records the model.
        config: how to run the model. If ``config.model`` is set, the model is loaded from there.
        images: the pixel settings.

    Raises:
        TableError: the model is not the one that the table records.
        ModelError: the model cannot be loaded.
    """
    config = config or ImageEmbedConfig()
    if config.model is None:
        config = config.model_copy(update={"model": by.model, "revision": by.revision or None})
    found = image_model(config)
    images = images or ImageConfig()
    # Vectors without bands in their fingerprint were made before the setting images.bands existed.
    # These vectors remain valid until they are replaced.
    shown = (images, images.model_copy(update={"bands": None}))
    if by.fingerprint not in [image_embedding_fingerprint(found, one) for one in shown]:
        raise TableError(
            f"the images of {table} were embedded with {by.model!r}. Vectors of {config.model!r} "
            "cannot be compared with the stored vectors. Either the model or its revision is "
            "different, or the setting images.max_side_px or images.bands has changed. Give "
            "the folder of the table's model with --set image_embed.model=…, or the revision of "
            "the table's model with --set image_embed.revision=…"
        )
    return make_image_embedder(config, found)


def make_table_embedder(
    table: str, by: EmbeddedBy, embed: EmbedConfig | None = None, named: str | None = None
) -> Embedder:
    """Load the model that embedded the descriptions of a table.

    The arguments are the same as for `find_table_embedder`.

    Raises:
        TableError: the model is not the one that the table records.
        ModelError: the model cannot be found or cannot be loaded.
    """
    return make_embedder(*find_table_embedder(table, by, embed, named))


def find_table_embedder(
    table: str, by: EmbeddedBy, embed: EmbedConfig | None = None, named: str | None = None
) -> tuple[EmbedConfig, ModelIdentity]:
    """Find the model that embedded the descriptions of a table.

    Args:
        table: the address of the table, which is used in error messages.
        by: the entry in which the table records the model.
        embed: how to run the model. The settings ``model`` and ``revision`` are ignored.
        named: the current name or folder of the table's model. It is needed only if the model is no
            longer available under the recorded name.

    Raises:
        TableError: the model is not the one that the table records.
        ModelError: the model cannot be found.
    """
    config = (embed or EmbedConfig()).model_copy(
        update={
            "model": named or by.model,
            # The recorded revision is only valid for the recorded name. If the caller gives a
            # different name, the fingerprint shows whether this model is the model of the table.
            "revision": None if named else by.revision or None,
        }
    )
    found = embed_model(config)
    if embedding_fingerprint(found) != by.fingerprint:
        raise TableError(
            f"{table} was embedded with {by.model!r}, but {config.model!r} is now a different "
            "model: give the folder of the table's model with --embedding-model"
        )
    return config, found
