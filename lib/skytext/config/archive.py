"""Settings of the archive: how shards are read."""

from __future__ import annotations

from pydantic import Field, NonNegativeFloat

from skytext.config.section import Section


class SourcesConfig(Section):
    """How shards are read."""

    image_column: str | None = Field(
        None,
        description="Parquet column that holds the images; null: the one that looks like it.",
    )
    retry_s: NonNegativeFloat = Field(
        120.0,
        description="For how long a request that the store does not answer is repeated; after "
        "that the shard stays unread, and the next run reads it.",
    )
