"""Test runs during which worker nodes are killed at random.

Each run finishes without help, and its table is correct.
"""

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
# The number of a run is the seed of this run.
FIRST_RUN = int(os.environ.get("SKYTEXT_FIRST_RUN", "0"))
KILLS_A_RUN, VLLM_KILLS = 10, 5
NUM_SHARDS, IMAGES_PER_SHARD = 10, 120
# If no unit finishes for this time although there is work, the run hangs.
QUIET_S, START_S = 60.0, 60.0
RUN_S = 900.0
# The limits are for one vLLM engine on two cores that also do other work.
VLLM_START_S, VLLM_RUN_S = 240.0, 2400.0
NUM_SCENES = 300
FAKES = ["--model", "fake:delay_s=2", "--embedding-model", "fake", "--num-engines", "2:4"]
FAKES += ["--set", "job.unit_images=8", "--set", "caption.engine.max_num_seqs=20"]
FAKES += ["--set", "job.commit_interval_s=5"]


@pytest.fixture
def nodes(s3_settings: dict[str, str]) -> Iterator[Nodes]:
    with start_cluster(s3_settings) as nodes:
        yield nodes


def watch(
    running: Command,
    nodes: Nodes,
    table: str,
    moments: list[float],
    rng: random.Random,
    *,
    start_s: float = START_S,
    run_s: float = RUN_S,
    in_rows: bool = False,
) -> dict[str, dict[str, Any]]:
    """Kill nodes at these moments, and return the rows before the last kill.

    Args:
        running: the command.
        nodes: the nodes on which the command runs.
        table: the table that the command writes.
        moments: times of the kills in seconds from now, in ascending order. This function removes
            the times that have passed.
        rng: random generator that selects the nodes.
        start_s: time limit for the start of an engine, in seconds.
        run_s: time limit for the run, in seconds.
        in_rows: whether the moments are numbers of committed rows instead of times.
    """
    started, before = time.monotonic(), {}
    rows, quiet_since = 0, time.monotonic() + start_s
    while running.process.poll() is None:
        now = time.monotonic()
        assert now - started < run_s, running.err
        found = len(rows_of(table, ["unit_id"]))
        if found != rows:
            rows, quiet_since = found, now
        assert now - quiet_since < QUIET_S + start_s, f"nothing moves at {rows} rows: {running.err}"
        if moments and (rows if in_rows else now - started) >= moments[0]:
            moments.pop(0)
            before = rows_of(table, ["unit_id"])
            nodes.kill(rng.randrange(len(nodes.workers)))
            # Add a new node, so that at least one node is left after the next kill.
            if rng.random() < 0.7 or len(nodes.workers) < 2:
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
        rng, table = random.Random(number), f"s3://nodes/run-{number}"
        moments = sorted(rng.uniform(5, 10 + 8 * KILLS_A_RUN) for _ in range(KILLS_A_RUN))
        num_planned = len(moments)
        started = time.monotonic()
        with command(tmp_path, *scene.call(table)) as running:
            before = watch(running, nodes, table, moments, rng)
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
    write_shards(tmp_path / "scenes", num_images=NUM_SCENES, images_per_shard=100, seed=1)
    source = upload(s3, tmp_path / "scenes", "nodes", "scenes")
    table, rng = "s3://nodes/real", random.Random(0)
    words = ["caption", source, "--table", table, "--num-engines", "2", "--json"]
    words += ["--gpus-per-engine", "2", "--set", "job.unit_images=8"]
    words += ["--set", "job.commit_interval_s=2", "--ray-address", nodes.address]
    # With times in seconds, nodes would be killed before their engines start, or never.
    moments = [NUM_SCENES * (i + 0.1) / VLLM_KILLS for i in range(VLLM_KILLS)]
    started = time.monotonic()
    with command(tmp_path, *words) as running:
        limits = {"start_s": VLLM_START_S, "run_s": VLLM_RUN_S}
        before = watch(running, nodes, table, moments, rng, in_rows=True, **limits)
        assert running.process.returncode == 0, running.err
    print(  # noqa: T201  (the proof is to be seen)
        f"real engines: {VLLM_KILLS - len(moments)} kills, {time.monotonic() - started:.0f} s",
        flush=True,
    )
    assert moments == []
    found = rows_of(table, ["status", "unit_id"])
    assert len(found) == NUM_SCENES
    assert {row["status"] for row in found.values()} == {"ok"}
    assert {i: found[i]["unit_id"] for i in before} == {i: before[i]["unit_id"] for i in before}
