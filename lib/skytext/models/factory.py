"""Build the captioner and the embedder that a configuration names."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from skytext.captions.captioner import Captioner
from skytext.captions.prompts import Prompt
from skytext.config.captioning import CaptionConfig
from skytext.config.embedding import EmbedConfig, ImageEmbedConfig
from skytext.config.pixels import ImageConfig
from skytext.errors import TableError
from skytext.models.checkpoints import ModelIdentity, embed_model, image_model
from skytext.models.fakes.embedders import FakeEmbedder, FakeImageEmbedder
from skytext.models.fakes.engine import FakeEngine
from skytext.models.fakes.options import FakeOptions
from skytext.models.fingerprints import embedding_fingerprint, image_embedding_fingerprint
from skytext.models.image_embedder import ClipEmbedder, ImageEmbedder
from skytext.models.text_embedder import Embedder, SentenceEmbedder
from skytext.models.vllm.processes import EngineProcesses

CaptionerFactory = Callable[
    [CaptionConfig, ModelIdentity, Prompt, EngineProcesses | None], Captioner
]
"""Starts an engine and returns its captioner, as `make_captioner` does."""


def make_captioner(
    config: CaptionConfig,
    model: ModelIdentity,
    prompt: Prompt,
    processes: EngineProcesses | None = None,
) -> Captioner:
    """Start an engine and return its captioner.

    Args:
        config: what to run and how.
        model: the checkpoint.
        prompt: what is asked.
        processes: where to note the engine's processes; None where nobody else has to end them.

    Raises:
        ModelError: the checkpoint cannot be served.
        ConfigError: options that the engine does not know.
        JobError: it was not up in time.
    """
    if model.is_fake:
        options = FakeOptions.parse(model.name)
        return Captioner(FakeEngine(options, processes, config.engine.start_timeout_s), config)
    # Imported here: vLLM takes seconds, and a fake must work where it is not installed.
    from skytext.models.vllm.engine import VllmEngine

    return Captioner(VllmEngine(config, model.here(), prompt, processes), config)


def make_embedder(config: EmbedConfig, model: ModelIdentity) -> Embedder:
    """Load an embedder.

    Raises:
        ModelError: the model cannot be loaded.
    """
    if model.is_fake:
        return FakeEmbedder()
    return SentenceEmbedder(config, model.here())


def make_image_embedder(config: ImageEmbedConfig, model: ModelIdentity) -> ImageEmbedder:
    """Load a model that embeds images.

    Raises:
        ModelError: the model cannot be loaded, or does not embed images and text.
        ConfigError: options that the fake does not know.
    """
    if model.is_fake:
        return FakeImageEmbedder(FakeOptions.parse(model.name))
    return ClipEmbedder(config, model)


class EmbeddedBy(Protocol):
    """What a table says of the model that it was embedded with: its name and what tells it."""

    @property
    def model(self) -> str:
        """The model's name."""

    @property
    def revision(self) -> str:
        """The hub commit, or empty."""

    @property
    def fingerprint(self) -> str:
        """Of the model, its prompts and the text layout."""


def make_table_image_embedder(
    table: str,
    by: EmbeddedBy,
    *,
    config: ImageEmbedConfig | None = None,
    images: ImageConfig | None = None,
) -> ImageEmbedder:
    """Load the model that a table's images were embedded with, and no other.

    Args:
        table: its address, for people.
        by: the model, as the table has it.
        config: how the model runs; ``model``, where set, is where the table's model is now.
        images: the pixels that the model saw.

    Raises:
        TableError: the model is another than the table's own.
        ModelError: the model cannot be loaded.
    """
    config = config or ImageEmbedConfig()
    if config.model is None:
        config = config.model_copy(update={"model": by.model, "revision": by.revision or None})
    found = image_model(config)
    if image_embedding_fingerprint(found, images or ImageConfig()) != by.fingerprint:
        raise TableError(
            f"the images of {table} were embedded with {by.model!r}, and {config.model!r} is not "
            "that model, or images.max_side_px is another: name its folder or revision with --set "
            "image_embed.model=…"
        )
    return make_image_embedder(config, found)


def make_table_embedder(
    table: str, by: EmbeddedBy, embed: EmbedConfig | None = None, named: str | None = None
) -> Embedder:
    """Load the embedder that a table was embedded with, and no other.

    Args:
        table: its address, for people.
        by: the model, as the table has it.
        embed: how the model runs; which one it is, the table says.
        named: where the table's model is now, if its name no longer leads to it.

    Raises:
        TableError: the model is another than the table's own.
        ModelError: the model cannot be loaded.
    """
    config = (embed or EmbedConfig()).model_copy(
        update={
            "model": named or by.model,
            # A model that was named is taken as it is; the fingerprint tells whether it fits.
            "revision": None if named else by.revision or None,
        }
    )
    found = embed_model(config)
    if embedding_fingerprint(found) != by.fingerprint:
        raise TableError(
            f"{table} was embedded with {by.model!r}, and {config.model!r} is not that "
            "model: name its folder or revision with --embedding-model"
        )
    return make_embedder(config, found)
