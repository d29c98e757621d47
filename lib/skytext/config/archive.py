"""Settings of the archive: how shards are read."""

from __future__ import annotations

from pydantic import Field

from skytext.config.section import Section


class SourcesConfig(Section):
    """How shards are read."""

    image_column: str | None = Field(
        None,
        description="Parquet column that holds the images; null: the one that looks like it.",
    )
