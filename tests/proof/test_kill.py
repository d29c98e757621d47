"""Test that no committed row is lost or repeated if the driver is killed at any moment."""

from __future__ import annotations

import datetime as dt
import json
import random
import time
from pathlib import Path

import pytest

from skytext.table.images_dataset import ImagesTable
from skytext.table.location import TableLocation
from tests.archive.formats.tars import Entry
from tests.archives import bad_images, images, write_archive
from tests.proof.commands import Command, command

NUM_KILLS = 5
NUM_SHARDS, IMAGES_PER_SHARD = 4, 100
# Two units of four images are processed at the same time, with 0.25 s per image. Therefore the
# whole archive takes longer than all the kills.
OPTIONS = ["--model", "fake:delay_s=0.25", "--embedding-model", "fake", "--json"]
OPTIONS += ["--commit-images", "8", "--set", "job.unit_images=4", "--set", "job.units_in_flight=2"]
RUN_S, CLEAN_UP_S = 180, 60


def committed(where: TableLocation) -> dict[str, dt.datetime]:
    """Return the creation time of each image's row. Check that no image has two rows."""
    table = ImagesTable.find(where)
    if table is None:
        return {}
    rows = table.dataset.to_table(columns=["image_id", "created_at"]).to_pylist()
    found = {row["image_id"]: row["created_at"] for row in rows}
    assert len(found) == len(rows)
    return found


def wait_for_a_commit(running: Command, where: TableLocation, before: int) -> None:
    deadline = time.monotonic() + RUN_S
    while len(committed(where)) <= before:
        assert running.process.poll() is None, running.err
        assert time.monotonic() < deadline, "nothing was committed"
        time.sleep(0.05)


@pytest.mark.proof
@pytest.mark.timeout(1200)
def test_a_killed_driver_loses_only_uncommitted_work(tmp_path: Path) -> None:
    rng = random.Random(1)
    bad: list[Entry] = [(name, data) for name, (data, _) in bad_images().items()]
    shards = {
        f"{i}.tar": images(1000 * i, IMAGES_PER_SHARD) + (bad if i == 1 else [])
        for i in range(NUM_SHARDS)
    }
    root = write_archive(tmp_path / "aerial", shards)
    num_images = NUM_SHARDS * IMAGES_PER_SHARD
    where = TableLocation.parse(str(tmp_path / "table"))
    call = ["caption", root, "--table", where.uri, *OPTIONS]
    before: dict[str, dt.datetime] = {}
    progress = []
    for kill in range(NUM_KILLS):
        with command(tmp_path, *call) as running:
            if kill % 2:
                # The kill may happen at any moment, even while the driver and Ray start.
                time.sleep(rng.uniform(0.5, 12))
            else:
                # The kill happens during the work, at any time between two commits.
                wait_for_a_commit(running, where, len(before))
                time.sleep(rng.uniform(0, 1))
            assert running.process.poll() is None, running.err
            running.kill()
            left = running.wait_for_the_rest(CLEAN_UP_S)
            assert left == [], "these outlive a driver that was killed"
        after = committed(where)
        # Committed rows are unchanged, so their images were not described again.
        assert before.items() <= after.items()
        before = after
        progress.append(len(after))
    assert 0 < progress[-1] < num_images, progress

    with command(tmp_path, *call) as running:
        assert running.finish(RUN_S) == 0, running.err
        summary = json.loads(running.out)
    whole = committed(where)
    assert before.items() <= whole.items()
    assert len(whole) == summary["num_listed"] == num_images + len(bad)
    assert (summary["num_ok"], summary["num_failed"]) == (num_images, len(bad))
    assert summary["num_skipped"] == progress[-1]
    assert summary["num_captioned"] + summary["num_newly_failed"] == len(whole) - progress[-1]

    with command(tmp_path, *call) as running:
        assert running.finish(RUN_S) == 0, running.err
        again = json.loads(running.out)
    assert (again["num_captioned"], again["num_newly_failed"]) == (0, 0)
    assert again["num_listed"] == again["num_skipped"] == summary["num_listed"]
    assert again["table_version"] == summary["table_version"]
    assert committed(where) == whole
