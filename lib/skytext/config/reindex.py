"""Settings for scheduled runs of the command `reindex`."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

from pydantic import Field, field_validator

from skytext.config.section import PositiveFloat, PositiveInt, Section

MAX_SHARE = 0.5
"""Maximum share of the searches that a canary may receive.

The live version must receive at least as many searches as the canary, so that the two versions can
be compared.
"""

Share = Annotated[float, Field(gt=0, le=MAX_SHARE)]


class ReindexConfig(Section):
    """Limits for one run of `reindex`, and conditions for promoting the new version."""

    max_images: PositiveInt | None = Field(
        None,
        description="Maximum number of images that one run of `reindex` describes or embeds. "
        "When the limit is reached, the engines still finish the images that they "
        "have already received. The next run of `reindex` processes the remaining images. "
        "null: no limit.",
    )
    max_hours: PositiveFloat | None = Field(
        None,
        description="Maximum time of one run of `reindex`, in hours. After this time, the engines "
        "get no more images. null: no limit.",
    )
    backlog_share: float = Field(
        0.2,
        ge=0,
        lt=1,
        description="Share of `max_images` and `max_hours` that is reserved for stale "
        "descriptions and for stale description vectors. New, changed and failed "
        "images are processed first, but they cannot use the reserved share. If "
        "nothing is stale, nothing is reserved.",
    )
    max_withdrawn: float = Field(
        0.05,
        ge=0,
        le=1,
        description="Maximum share of an archive's images that may be missing from the listing "
        "of the archive. If more images are missing, the listing is probably "
        "incomplete. The run then ends, and no image is withdrawn.",
    )
    max_failure_rate: float = Field(
        0.05,
        ge=0,
        le=1,
        description="Maximum share of failed rows. A version with a larger share is not promoted.",
    )
    golden: Path | None = Field(
        None,
        description="Path of a file with golden queries, in the same format as for `evaluate "
        "--golden`. The golden queries are run on the live version and on the new "
        "version, and the results are compared. null: there are no golden queries.",
    )
    max_golden_drop: float = Field(
        0.0,
        ge=0,
        le=1,
        description="Maximum decrease of the share of golden queries that find an expected image, "
        "from the live version to the new version. If the decrease is larger, the new version "
        "is not promoted.",
    )
    shadow_queries: int = Field(
        200,
        ge=0,
        description="Number of logged queries that are run on the live version and on the new "
        "version. The latest different queries of the services are used (see "
        "`service.log_queries`). The report shows how the results differ. 0: no "
        "logged queries are run.",
    )
    min_overlap: float | None = Field(
        None,
        ge=0,
        le=1,
        description="Minimum mean overlap between the first ten hits of the new version and the "
        "first ten hits of the live version. A version with a smaller overlap is not "
        "promoted. The overlap is measured with the golden queries. If `golden` is "
        "not set, it is measured with the logged queries of users. null: the overlap "
        "is only reported.",
    )
    canary: Share | None = Field(
        None,
        description="Share of the searches that running services send to a new version (the "
        "canary) before this version becomes live. null: the new version becomes "
        "live immediately.",
    )
    canary_minutes: PositiveFloat = Field(
        30.0,
        description="Duration of a canary in minutes. After this time, the canary becomes live "
        "if it was not stopped.",
    )
    keep_days: float = Field(
        7.0,
        ge=0,
        description="Number of days for which old versions are kept. The clean-up deletes only "
        "versions that are older than this number of days.",
    )
    report: str | None = Field(
        None,
        description="Folder or bucket address to which the reports of `reindex` are written. "
        "Each table has its own folder there. null: the folder `reports` in the "
        "table's folder.",
    )
    webhook: str | None = Field(
        None,
        pattern=r"^https?://\S+$",
        description="HTTP or HTTPS address to which a JSON object is sent at the end of each "
        "run, also if the run failed. The request is signed if the environment "
        "variable `SKYTEXT_WEBHOOK_SECRET` is set.",
    )
    command: str | None = Field(
        None,
        min_length=1,
        description="Command that is started at the end of each run. On stdin, the command "
        "receives the same JSON object as `webhook`. The command is split into words in the same "
        "way as in a shell, but no shell is started.",
    )
    notify_timeout_s: PositiveFloat = Field(
        60.0,
        description="Maximum time for all attempts to call the webhook. The attempts to run the "
        "command have the same maximum time.",
    )
    keep_reports: PositiveInt = Field(
        100, description="Number of runs whose reports are kept. Reports of older runs are deleted."
    )

    @field_validator("command")
    @classmethod
    def _check_command(cls, value: str | None) -> str | None:
        if value is not None and not shlex.split(value):
            raise ValueError("the command is empty")
        return value
