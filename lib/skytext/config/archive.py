"""Settings for reading the shards of an archive."""

from __future__ import annotations

from pydantic import Field, NonNegativeFloat

from skytext.config.section import Section


class SourcesConfig(Section):
    """How shards are read."""

    image_column: str | None = Field(
        None,
        description="Name of the Parquet column with the images. null: the reader finds the "
        "column.",
    )
    retry_s: NonNegativeFloat = Field(
        120.0,
        description="How long a request is repeated while the store does not respond. After this "
        "time the shard stays unread, and the next run tries to read it again.",
    )
