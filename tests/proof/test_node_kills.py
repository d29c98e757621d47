"""Worker nodes are killed at random. Each run finishes without help, with the right table."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from skytext.demo.shards import write_shards
from tests.archives import images, upload, write_archive
from tests.cluster import Nodes, start_cluster
from tests.proof.commands import Command, command
from tests.proof.kill_matrix import make_scene, rows_of

NUM_RUNS = int(os.environ.get("SKYTEXT_NUM_RUNS", "10"))
# Each run's number is its seed.
FIRST_RUN = int(os.environ.get("SKYTEXT_FIRST_RUN", "0"))
KILLS_A_RUN, VLLM_KILLS = 10, 5
NUM_SHARDS, IMAGES_PER_SHARD = 10, 120
# No unit finished for so long, while there is work, is a hang.
QUIET_S, START_S = 60.0, 60.0
RUN_S = 900.0
FAKES = ["--model", "fake:delay_s=2", "--embedding-model", "fake", "--num-engines", "2:4"]
FAKES += ["--set", "job.unit_images=8", "--set", "caption.engine.max_num_seqs=20"]
FAKES += ["--set", "job.commit_interval_s=5"]


@pytest.fixture
def nodes(s3_settings: dict[str, str]) -> Iterator[Nodes]:
    with start_cluster(s3_settings) as nodes:
        yield nodes


def watch(
    running: Command, nodes: Nodes, table: str, moments: list[float], luck: random.Random
) -> dict[str, dict[str, Any]]:
    """Kill nodes at these moments; return the rows that were there before the last kill."""
    started, before = time.monotonic(), {}
    rows, quiet_since = 0, time.monotonic() + START_S
    while running.process.poll() is None:
        now = time.monotonic()
        assert now - started < RUN_S, running.err
        found = len(rows_of(table, ["unit_id"]))
        if found != rows:
            rows, quiet_since = found, now
        assert now - quiet_since < QUIET_S + START_S, f"nothing moves at {rows} rows: {running.err}"
        if moments and now - started >= moments[0]:
            moments.pop(0)
            before = rows_of(table, ["unit_id"])
            nodes.kill(luck.randrange(len(nodes.workers)))
            # Replaced at once, later, or with the next kill: one node is always left.
            if luck.random() < 0.7 or len(nodes.workers) < 2:
                nodes.add()
        time.sleep(0.5)
    while len(nodes.workers) < 2:
        nodes.add()
    return before


@pytest.mark.proof
@pytest.mark.timeout(3600 * 3)
def test_ten_kills_a_run_end_exactly_right(nodes: Nodes, s3: Any, tmp_path: Path) -> None:
    shards = {f"{i:02d}.tar": images(1000 * i, IMAGES_PER_SHARD) for i in range(NUM_SHARDS)}
    source = upload(s3, Path(write_archive(tmp_path / "aerial", shards)), "nodes", "aerial")
    options = [*FAKES, "--ray-address", nodes.address]
    scene = make_scene(tmp_path, source, options, "s3://nodes/whole", whole_rows=True)
    for number in range(FIRST_RUN, FIRST_RUN + NUM_RUNS):
        luck, table = random.Random(number), f"s3://nodes/run-{number}"
        moments = sorted(luck.uniform(5, 10 + 8 * KILLS_A_RUN) for _ in range(KILLS_A_RUN))
        num_planned = len(moments)
        started = time.monotonic()
        with command(tmp_path, *scene.call(table)) as running:
            before = watch(running, nodes, table, moments, luck)
            assert running.process.returncode == 0, running.err
        after = rows_of(table, [*scene.compare, "unit_id"])
        assert after.keys() == scene.reference.keys()
        for image_id, row in scene.reference.items():
            assert {name: after[image_id][name] for name in row} == row
        again = sum(after[i]["unit_id"] != row["unit_id"] for i, row in before.items())
        print(  # noqa: T201  (the proof is to be seen)
            f"run {number}: {num_planned - len(moments)} kills, {again} committed images "
            f"described again, {time.monotonic() - started:.0f} s (undisturbed "
            f"{scene.run_s:.0f} s)",
            flush=True,
        )
        assert again == 0


@pytest.mark.proof
@pytest.mark.vllm
@pytest.mark.timeout(3600)
def test_nodes_with_real_engines_are_lost(nodes: Nodes, s3: Any, tmp_path: Path) -> None:
    write_shards(tmp_path / "scenes", num_images=160, images_per_shard=40, seed=1)
    source = upload(s3, tmp_path / "scenes", "nodes", "scenes")
    table, luck = "s3://nodes/real", random.Random(0)
    words = ["caption", source, "--table", table, "--num-engines", "2", "--json"]
    words += ["--gpus-per-engine", "2", "--set", "job.unit_images=8"]
    words += ["--set", "job.commit_interval_s=5", "--ray-address", nodes.address]
    moments = [60.0 * (i + 1) for i in range(VLLM_KILLS)]
    with command(tmp_path, *words) as running:
        watch(running, nodes, table, moments, luck)
        assert running.process.returncode == 0, running.err
    found = rows_of(table, ["status"])
    assert len(found) == 160
    assert {row["status"] for row in found.values()} == {"ok"}
