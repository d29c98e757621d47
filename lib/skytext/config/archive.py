"""Settings of the archive: how shards are read."""

from __future__ import annotations

from pydantic import Field, NonNegativeFloat

from skytext.config.section import Section


class SourcesConfig(Section):
    """How shards are read."""

    image_column: str | None = Field(
        None,
        description="Parquet column with the images; null: found by its name and type.",
    )
    retry_s: NonNegativeFloat = Field(
        120.0,
        description="Seconds during which a failed store request is retried. After that the shard "
        "stays unread, and the next run reads it.",
    )
