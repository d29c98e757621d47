"""Test the gauges of freshness in the form that Prometheus reads."""

from __future__ import annotations

import datetime as dt
import re
import time
from pathlib import Path

from skytext.service.served_tables import TableSet
from skytext.service.telemetry.freshness import FreshnessGauges
from skytext.service.telemetry.metrics import LocalMeter
from skytext.table.freshness import note_success
from skytext.table.images_dataset import ImagesTable
from skytext.table.versions.promote_rollback import promote
from tests.table.rows import committer, good_rows, location, make_table, stage


def values(meter: LocalMeter) -> dict[str, float]:
    pattern = r'^skytext_(\w+){table="table"} (\S+)$'
    return {name: float(value) for name, value in re.findall(pattern, meter.text(), re.MULTILINE)}


def test_gauges_follow_the_table(tmp_path: Path) -> None:
    where, meter = location(tmp_path / "table"), LocalMeter()
    table = make_table(where, good_rows(0, 3))
    promote(where)
    gauges = FreshnessGauges(TableSet.parse([where.uri]), meter, 0.01)
    gauges.measure("table")
    assert values(meter)["oldest_unsearchable_seconds"] == 0
    assert values(meter)["reindex_success_timestamp_seconds"] == 0
    assert values(meter)["table_bytes"] > 1000
    hour_ago = dt.datetime.now(dt.UTC) - dt.timedelta(hours=1)
    writer = committer(where, table.text_column)
    writer.commit([stage(where, good_rows(10, 1, created_at=hour_ago))])
    note_success(where)
    gauges.start()
    try:
        deadline = time.monotonic() + 30
        while values(meter)["reindex_success_timestamp_seconds"] == 0:
            assert time.monotonic() < deadline
            time.sleep(0.02)
    finally:
        gauges.stop()
        gauges.join(30)
    assert not gauges.is_alive()
    found = values(meter)
    assert 3600 <= found["oldest_unsearchable_seconds"] < 3700
    assert abs(found["reindex_success_timestamp_seconds"] - time.time()) < 60
    assert found["table_versions"] == len(ImagesTable.open(where).dataset.versions())


def test_an_unreachable_table_is_retried_and_does_not_delay_others(tmp_path: Path) -> None:
    where, meter = location(tmp_path / "table"), LocalMeter()
    tables = TableSet.parse([str(tmp_path / "never there"), where.uri])
    gauges = FreshnessGauges(tables, meter, 0.01)
    gauges.start()
    time.sleep(0.2)
    assert gauges.is_alive()
    make_table(where, good_rows(0, 3))
    deadline = time.monotonic() + 30
    while "table_bytes" not in values(meter):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    gauges.stop()
    gauges.join(30)
