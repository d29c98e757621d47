"""Settings of scheduled re-indexing."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from skytext.config.section import PositiveFloat, PositiveInt, Section


class ReindexConfig(Section):
    """What a night may do, and what must hold before its result is served."""

    max_images: PositiveInt | None = Field(
        None,
        description="Images described or embedded in one call; what engines have in work then is "
        "finished. The rest waits for the next call. null: all.",
    )
    max_hours: PositiveFloat | None = Field(
        None, description="Hours after which no further image is begun; null: no limit."
    )
    max_withdrawn: float = Field(
        0.05,
        ge=0,
        le=1,
        description="A larger share of an archive's images that are gone from its listing ends the "
        "call: the listing is taken for broken, and nothing is withdrawn.",
    )
    max_failure_rate: float = Field(
        0.05, ge=0, le=1, description="A larger share of failed rows is not promoted."
    )
    golden: Path | None = Field(
        None,
        description="File of golden queries, as `evaluate --golden` takes it: the live version and "
        "the new one answer them, and the answers are compared. null: none.",
    )
    max_golden_drop: float = Field(
        0.0,
        ge=0,
        le=1,
        description="Share of the golden queries that may find their image no more; beyond it the "
        "new version is not promoted.",
    )
    min_overlap: float | None = Field(
        None,
        ge=0,
        le=1,
        description="A smaller mean overlap of the first ten hits of the golden queries is not "
        "promoted; null: it is only reported.",
    )
    keep_days: float = Field(
        7.0, ge=0, description="Versions younger than this are not removed by the clean-up."
    )
