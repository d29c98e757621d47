"""Settings of scheduled re-indexing."""

from __future__ import annotations

from pydantic import Field

from skytext.config.section import PositiveFloat, PositiveInt, Section


class ReindexConfig(Section):
    """Budget of one call, and conditions for promoting its result."""

    max_images: PositiveInt | None = Field(
        None,
        description="Maximum images to describe or embed per call. Images in the engines at the "
        "limit are finished too. The next call continues. null: no limit.",
    )
    max_hours: PositiveFloat | None = Field(
        None, description="Hours after which no further image is started; null: no limit."
    )
    max_withdrawn: float = Field(
        0.05,
        ge=0,
        le=1,
        description="If more than this share of an archive's images is missing from its listing, "
        "the listing is treated as broken: the call ends and nothing is withdrawn.",
    )
    max_failure_rate: float = Field(
        0.05, ge=0, le=1, description="A larger share of failed rows prevents the promotion."
    )
    keep_days: float = Field(
        7.0, ge=0, description="The clean-up keeps versions younger than this."
    )
