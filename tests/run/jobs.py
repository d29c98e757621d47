"""Run the whole job with the fake models of the package, and check its table."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from skytext.config.settings import Config, load_config
from skytext.run.caption_run import run_caption
from skytext.run.plans.caption_plan import Stale, plan_caption
from skytext.run.progress import Progress, RunSummary
from skytext.table.images_dataset import ImagesTable
from skytext.table.location import TableLocation
from tests.table.rows import rows_of

# Ray starts when the first test needs it.
ray = pytest.mark.ray
with_ray = pytest.mark.usefixtures("local_ray")


def config(**settings: Any) -> Config:
    """Return a configuration with fake models and small units.

    In the names of ``settings``, two underscores replace a dot.
    """
    small = {
        "caption.model": "fake",
        "embed.model": "fake",
        "job.unit_images": 4,
        "job.commit_images": 8,
    }
    given = {name.replace("__", "."): value for name, value in settings.items()}
    return load_config(None, small | given)


def local_ray_address() -> list[str]:
    """Return the options with which a separate process uses the Ray of the test session."""
    from ray import get_runtime_context

    return ["--ray-address", get_runtime_context().gcs_address]


def caption(
    source: Path | str, table: Path | str, *, stale: Stale | None = None, **settings: Any
) -> tuple[RunSummary, list[tuple[str, int]]]:
    """Run the job.

    Returns:
        The summary, and a list with one tuple for each report of the progress. A tuple contains the
        names of the engines and the number of committed images.
    """
    seen = []

    def watch(progress: Progress) -> None:
        seen.append((",".join(progress.engines), progress.num_committed))

    plan = plan_caption([str(source)], str(table), config(**settings), stale=stale)
    return run_caption(plan, on_progress=watch), seen


def open_table(table: Path | str) -> ImagesTable:
    return ImagesTable.open(TableLocation.parse(str(table)))


def rows(table: Path | str, *columns: str) -> list[dict[str, Any]]:
    return rows_of(open_table(table), *columns)


def check_one_row_an_image(table: Path | str, summary: RunSummary) -> None:
    ids = [row["image_id"] for row in rows(table, "image_id")]
    assert len(ids) == len(set(ids))
    assert summary.num_listed == summary.num_ok + summary.num_failed == len(ids)
    counts = open_table(table).status_counts()
    assert counts == {"ok": summary.num_ok, "failed": summary.num_failed, "withdrawn": 0}


def check_nothing_to_do(again: RunSummary, seen: list[tuple[str, int]], before: RunSummary) -> None:
    assert (again.num_captioned, again.num_newly_failed) == (0, 0)
    assert again.num_skipped == again.num_listed == before.num_listed
    assert (again.num_ok, again.num_failed) == (before.num_ok, before.num_failed)
    assert again.table_version == before.table_version
    assert again.engine_span_s == 0
    assert {engines for engines, _ in seen} <= {""}
