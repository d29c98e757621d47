"""Settings for reading the shards of an archive."""

from __future__ import annotations

from pydantic import Field, NonNegativeFloat

from skytext.config.section import Section


class SourcesConfig(Section):
    """Settings for reading shards."""

    image_column: str | None = Field(
        None,
        description="Name of the Parquet column with the images. null: the reader finds the "
        "column.",
    )
    retry_s: NonNegativeFloat = Field(
        120.0,
        description="Time in seconds for which a run repeats a request to a store that does not "
        "respond. After this time, the run stops reading the shard. The next run "
        "tries to read the shard again.",
    )
