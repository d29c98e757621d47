from __future__ import annotations

import datetime as dt
from pathlib import Path

import lancedb

from skytext.table.runs_dataset import RunRecord, last_runs, record_run
from tests.table.rows import location

NOON = dt.datetime(2026, 1, 1, 12, tzinfo=dt.UTC)


def test_runs_are_returned_newest_first(tmp_path: Path) -> None:
    where = location(tmp_path / "table")
    assert last_runs(where, 5) == []
    runs = [
        RunRecord(
            run_id=f"run{i}",
            command="caption",
            state="done",
            started_at=NOON + dt.timedelta(hours=i),
            ended_at=NOON + dt.timedelta(hours=i, minutes=1),
            config={"archive": None, "caption": {"model": "it's ü"}},
            counts={"num_ok": i},
            timings_s={"duration_s": 1.5},
            versions={"ray": "2.60.0"},
            table_version=i,
        )
        for i in (1, 0, 2)
    ]
    for run in runs:
        record_run(where, run)
    assert last_runs(where, 2) == [runs[2], runs[0]]
    assert lancedb.connect(where.uri).open_table("runs").count_rows() == 3


def test_a_run_that_has_not_ended_is_kept(tmp_path: Path) -> None:
    where = location(tmp_path / "table")
    run = RunRecord("run", "caption", "running", NOON)
    record_run(where, run)
    assert last_runs(where, 9) == [run]
