"""Test that no row is lost or repeated if several processes change a table at the same time.

The processes commit, index, merge, withdraw and clean up.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import random
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import pytest

from skytext.config.index import IndexConfig
from skytext.errors import SkytextError
from skytext.table.clean_up import clean_held_table, clean_up
from skytext.table.commits.claim import hold
from skytext.table.commits.stage_rows import forget_records, read_records, staged_unit_ids
from skytext.table.commits.withdraw_rows import withdraw_rows
from skytext.table.compaction import merge_small_fragments
from skytext.table.images_dataset import ImagesTable
from skytext.table.indexes.refresh_indexes import refresh_indexes
from skytext.table.location import TableLocation
from skytext.table.versions.promote_rollback import promote
from tests.table.rows import committer, good_row, make_table, stage

NUM_ROUNDS = int(os.environ.get("SKYTEXT_NUM_ROUNDS", "20"))
NUM_PROCESSES = int(os.environ.get("SKYTEXT_NUM_PROCESSES", "8"))
ROWS, FIRST = 20, 200
# An index build or a merge may still read versions that are younger than this limit.
KEEP_DAYS = 60 / 86400
ROUND_S = 300.0


def commit_or_withdraw(where: TableLocation, rng: random.Random, log: Path) -> None:
    """Add rows, or withdraw some rows. Append the committed changes to the log."""
    with hold(where, uuid.uuid4().hex, "proof", lease_s=5) as claim:
        table = ImagesTable.open(where)
        if rng.random() < 0.7:
            names = [f"{uuid.uuid4().hex}.jpg" for _ in range(ROWS)]
            unit = stage(where, [good_row(name) for name in names])
            claim.check()
            committer(where).commit([unit])
            forget_records(where, [unit])
            record = {"added": [good_row(name)["image_id"] for name in names]}
        else:
            ids = table.dataset.to_table(columns=["image_id"], filter="status = 'ok'")
            some = rng.sample(ids.column(0).to_pylist(), 3)
            withdraw_rows(table, some, uuid.uuid4().hex, "gone", claim.check)
            record = {"withdrawn": some}
        with log.open("a") as file:
            file.write(json.dumps(record) + "\n")
        if rng.random() < 0.3:
            clean_held_table(where, KEEP_DAYS)


def maintain(where: TableLocation, rng: random.Random, log: Path) -> None:
    table, chance = ImagesTable.open(where), rng.random()
    if chance < 0.4:
        refresh_indexes(table, IndexConfig(vector="never"))
    elif chance < 0.6:
        merge_small_fragments(table)
    elif chance < 0.8:
        promote(where)
    else:
        clean_up(where, keep_days=KEEP_DAYS)


def work(uri: str, seed: int, log: Path) -> None:
    rng, where = random.Random(seed), TableLocation.parse(uri)
    for _ in range(3):
        try:
            rng.choice([commit_or_withdraw, maintain])(where, rng, log)
        except SkytextError as error:
            # Another process holds the table, or committed first. Nothing is changed.
            if error.exit_status != 1:
                raise
        time.sleep(rng.random() / 5)


@pytest.fixture(params=["disk", "s3"])
def where(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[TableLocation]:
    if request.param == "disk":
        yield TableLocation.parse(str(tmp_path / "table"))
        return
    request.getfixturevalue("s3_settings")
    request.getfixturevalue("s3").create_bucket(Bucket="writers")
    yield TableLocation.parse("s3://writers/table")


@pytest.mark.proof
@pytest.mark.timeout(3600 * 4)
def test_no_row_is_lost_double_or_back(where: TableLocation, tmp_path: Path) -> None:
    first = [good_row(f"{i:06d}.jpg") for i in range(FIRST)]
    make_table(where, first)
    forget_records(where, read_records(where, staged_unit_ids(where)))
    log = tmp_path / "log"
    log.touch()
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(NUM_PROCESSES, mp_context=spawn) as pool:
        for number in range(NUM_ROUNDS):
            seeds = [1000 * number + i for i in range(NUM_PROCESSES)]
            jobs = [pool.submit(work, where.uri, seed, log) for seed in seeds]
            for job in jobs:
                job.result(ROUND_S)
            check(where, log, {row["image_id"] for row in first}, number)
    rows = ImagesTable.open(where).num_rows()
    print(f"{NUM_ROUNDS} rounds, {rows} rows", flush=True)  # noqa: T201


def check(where: TableLocation, log: Path, first: set[str], number: int) -> None:
    """Check that the table contains the first images and all committed changes."""
    record = [json.loads(line) for line in log.read_text().splitlines()]
    present = first | {image_id for one in record for image_id in one.get("added", ())}
    withdrawn = {image_id for one in record for image_id in one.get("withdrawn", ())}
    rows = ImagesTable.open(where).dataset.to_table(columns=["image_id", "status"]).to_pylist()
    assert len(rows) == len({row["image_id"] for row in rows}), f"round {number}: double"
    assert {row["image_id"] for row in rows} == present, f"round {number}: lost"
    gone = {row["image_id"] for row in rows if row["status"] == "withdrawn"}
    assert gone == withdrawn, f"round {number}: back"
