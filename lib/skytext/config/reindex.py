"""Settings of scheduled re-indexing."""

from __future__ import annotations

from pydantic import Field

from skytext.config.section import PositiveFloat, PositiveInt, Section


class ReindexConfig(Section):
    """What a night may do, and what must hold before its result is served."""

    max_images: PositiveInt | None = Field(
        None,
        description="Greatest number of images to describe or embed in one call. Work in the "
        "engines is still finished. The next call continues. null: all.",
    )
    max_hours: PositiveFloat | None = Field(
        None, description="No further image is started after this many hours; null: no limit."
    )
    max_withdrawn: float = Field(
        0.05,
        ge=0,
        le=1,
        description="If a larger share of an archive's images is missing from its listing, the "
        "call ends and nothing is withdrawn, because the listing is probably "
        "incomplete.",
    )
    max_failure_rate: float = Field(
        0.05,
        ge=0,
        le=1,
        description="A version with a larger share of failed rows is not promoted.",
    )
    keep_days: float = Field(
        7.0, ge=0, description="The clean-up keeps versions younger than this."
    )
