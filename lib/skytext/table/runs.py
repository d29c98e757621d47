"""The ``runs`` data set: configuration, counts, timings and versions of each run."""

from __future__ import annotations

import datetime as dt
import json
from dataclasses import dataclass, field
from typing import Any

import lance
import pyarrow as pa

from skytext.schema import RUNS as RUNS_SCHEMA
from skytext.table.images import open_dataset
from skytext.table.location import RUNS, TableLocation


@dataclass(frozen=True, slots=True)
class RunRecord:
    """One run, as it stands in ``runs``."""

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


_JSON_FIELDS = ("config", "counts", "timings_s", "versions")


def record_run(location: TableLocation, run: RunRecord) -> None:
    """Append a run's record."""
    row = {name: getattr(run, name) for name in RUNS_SCHEMA.names}
    row |= {name: json.dumps(row[name], sort_keys=True) for name in _JSON_FIELDS}
    lance.write_dataset(
        pa.Table.from_pylist([row], schema=RUNS_SCHEMA),
        location.dataset_uri(RUNS),
        mode="append",
        storage_options=location.storage_options(),
    )


def last_runs(location: TableLocation, limit: int) -> list[RunRecord]:
    """Return the latest runs, the last one first."""
    dataset = open_dataset(location, RUNS)
    if dataset is None:
        return []
    rows = dataset.to_table().sort_by([("started_at", "descending")]).slice(0, limit).to_pylist()
    return [
        RunRecord(**{**row, **{name: json.loads(row[name]) for name in _JSON_FIELDS}})
        for row in rows
    ]
