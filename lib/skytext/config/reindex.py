"""Settings of scheduled re-indexing."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

from pydantic import Field, field_validator

from skytext.config.section import PositiveFloat, PositiveInt, Section

MAX_SHARE = 0.5
"""Of the searches for a canary: the live version needs as many, to be compared with."""

Share = Annotated[float, Field(gt=0, le=MAX_SHARE)]


class ReindexConfig(Section):
    """Budget of one call, and conditions for promoting its result."""

    max_images: PositiveInt | None = Field(
        None,
        description="Greatest number of images to describe or embed in one call. Work in the "
        "engines is still finished. The next call continues. null: all.",
    )
    max_hours: PositiveFloat | None = Field(
        None, description="No further image is started after this many hours; null: no limit."
    )
    backlog_share: float = Field(
        0.2,
        ge=0,
        lt=1,
        description="Share of `max_images` and `max_hours` that new, changed and failed images "
        "leave to stale descriptions and stale vectors of descriptions, while there are any.",
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
    shadow_queries: int = Field(
        200,
        ge=0,
        description="Number of the last different queries of services (`service.log_queries`): the "
        "live version and the new one answer them, and the report has the differences. 0: none.",
    )
    min_overlap: float | None = Field(
        None,
        ge=0,
        le=1,
        description="A version with a smaller mean overlap of the first ten hits with the live "
        "version is not promoted; null: it is only reported. The golden queries count; without "
        "`golden` the queries of services, which users choose.",
    )
    canary: Share | None = Field(
        None,
        description="Share of the searches of running services that a new version answers before "
        "it becomes live; null: it becomes live at once.",
    )
    canary_minutes: PositiveFloat = Field(
        30.0, description="A canary that was not stopped becomes live after this time."
    )
    keep_days: float = Field(
        7.0, ge=0, description="The clean-up keeps versions younger than this."
    )
    report: str | None = Field(
        None,
        description="The folder or bucket address that reports of reindex runs are written to, in "
        "a folder for each table; null: `reports` in the table's folder.",
    )
    webhook: str | None = Field(
        None,
        pattern=r"^https?://\S+$",
        description="An http(s) address that gets a JSON object at the end of each run, whether it "
        "ends well or not; signed where the environment has `SKYTEXT_WEBHOOK_SECRET`.",
    )
    command: str | None = Field(
        None,
        min_length=1,
        description="A command that gets the same object on stdin. No shell: words are split as a "
        "shell splits them.",
    )
    notify_timeout_s: PositiveFloat = Field(
        60.0, description="How long the webhook is tried, and the command."
    )
    keep_reports: PositiveInt = Field(
        100, description="Reports of so many runs are kept; older ones are removed."
    )

    @field_validator("command")
    @classmethod
    def _check_command(cls, value: str | None) -> str | None:
        if value is not None and not shlex.split(value):
            raise ValueError("the command is empty")
        return value
