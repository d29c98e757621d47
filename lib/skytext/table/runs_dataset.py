"""The ``runs`` data set: the configuration, counts, timings and versions of each run."""

from __future__ import annotations

import datetime as dt
import json
from dataclasses import dataclass, field
from typing import Any

import lance
import pyarrow as pa

from skytext.table.images_dataset import open_dataset
from skytext.table.location import RUNS, TableLocation
from skytext.table.schema import RUNS as RUNS_SCHEMA
from skytext.table.store.store_retry import again


@dataclass(frozen=True, slots=True)
class RunRecord:
    """One row of the ``runs`` data set."""

    run_id: str
    command: str
    state: str
    started_at: dt.datetime
    ended_at: dt.datetime | None = None
    config: dict[str, Any] = field(default_factory=dict)
    counts: dict[str, Any] = field(default_factory=dict)
    timings_s: dict[str, Any] = field(default_factory=dict)
    versions: dict[str, Any] = field(default_factory=dict)
    table_version: int | None = None


_CAPTIONING = ("caption", "retry-failed")
_JSON_FIELDS = ("config", "counts", "timings_s", "versions")


@again
def record_run(location: TableLocation, run: RunRecord) -> None:
    """Append a record of a run.

    If a retry appends a record twice, readers ignore one of the two records.
    """
    row = {name: getattr(run, name) for name in RUNS_SCHEMA.names}
    row |= {name: json.dumps(row[name], sort_keys=True) for name in _JSON_FIELDS}
    lance.write_dataset(
        pa.Table.from_pylist([row], schema=RUNS_SCHEMA),
        location.dataset_uri(RUNS),
        mode="append",
        storage_options=location.short_lived_options(RUNS),
    )


def last_runs(location: TableLocation, limit: int = 1000) -> list[RunRecord]:
    """Return the latest runs, newest first.

    A run writes one record when it starts and one record when it ends. For each run, the later of
    these two records is returned. If a run has not written the second record, its state is
    ``started``.
    """
    dataset = open_dataset(location, RUNS)
    if dataset is None:
        return []
    found: dict[str, RunRecord] = {}
    for row in dataset.to_table().to_pylist():
        run = RunRecord(**{**row, **{name: json.loads(row[name]) for name in _JSON_FIELDS}})
        if run.run_id not in found or run.ended_at is not None:
            found[run.run_id] = run
    return sorted(found.values(), key=lambda run: run.started_at, reverse=True)[:limit]


def caption_settings(location: TableLocation) -> dict[str, Any]:
    """Return the settings of a table's last captioning run; empty if there was no such run."""
    for run in last_runs(location):
        if run.command in _CAPTIONING:
            return {name: value for name, value in run.config.items() if name != "sources"}
    return {}


def caption_bands(location: TableLocation) -> dict[str, Any]:
    """Return the image bands that the last captioning run of a table used, as settings.

    The result is empty if the run did not set the bands. Other commands that decode images use this
    setting as their default. This applies to images of the table, and to an image that is compared
    with the table.
    """
    bands = caption_settings(location).get("images", {}).get("bands")
    return {} if bands is None else {"images": {"bands": bands}}
