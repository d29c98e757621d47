"""Test that a command can be repeated after a kill of any process at any moment.

The repeated command gives one row per image.
"""

from __future__ import annotations

import os
import random
import uuid
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest

from tests.archive.formats.tars import Entry
from tests.archives import bad_images, images, upload, write_archive
from tests.proof.kill_matrix import (
    Scene,
    Tally,
    kill_once,
    make_scene,
    table_of,
    targets_in_turn,
)

NUM_KILLS = int(os.environ.get("SKYTEXT_NUM_KILLS", "90"))
NUM_VLLM_KILLS = int(os.environ.get("SKYTEXT_NUM_VLLM_KILLS", "10"))
COMMIT_IMAGES = 64
FAKES = ["--model", "fake:delay_s=0.1", "--embedding-model", "fake"]
# As with the default settings, a commit has slightly more images than are in flight.
FAKES += ["--commit-images", str(COMMIT_IMAGES)]
FAKES += ["--set", "job.unit_images=8", "--set", "job.units_in_flight=2"]
NUM_SHARDS, IMAGES_PER_SHARD = 4, 40


def archive(folder: Path) -> Path:
    bad: list[Entry] = [(name, data) for name, (data, _) in bad_images().items()]
    shards = {
        f"{i}.tar": images(1000 * i, IMAGES_PER_SHARD) + (bad if i == 1 else [])
        for i in range(NUM_SHARDS)
    }
    return write_archive(folder / "aerial", shards)


def kill_and_compare(
    scene: Scene, tables: str, where: str, num_kills: int, seed: int
) -> dict[tuple[str, str], Tally]:
    rng = random.Random(seed)
    tallies: dict[tuple[str, str], Tally] = defaultdict(Tally)
    for target in targets_in_turn(num_kills, rng):
        table = f"{tables}/{uuid.uuid4().hex}"
        kill_once(scene, table, target, rng, tallies[target, where])
        print(table_of(tallies), flush=True)  # noqa: T201  (the proof is to be seen)
    return tallies


def violations(tallies: dict[tuple[str, str], Tally]) -> list[str]:
    found = [violation for tally in tallies.values() for violation in tally.violations]
    # The model repeats at most the work of one commit.
    found += [
        f"{tally.max_repeated} answers repeated"
        for tally in tallies.values()
        if tally.max_repeated > COMMIT_IMAGES
    ]
    return found + ["committed images captioned again"] * sum(t.num_again for t in tallies.values())


@pytest.mark.proof
@pytest.mark.timeout(7200)
def test_kills_of_any_process_lose_nothing_on_a_disk(tmp_path: Path) -> None:
    scene = make_scene(
        tmp_path, str(archive(tmp_path)), FAKES, str(tmp_path / "whole"), whole_rows=True
    )
    tallies = kill_and_compare(scene, str(tmp_path), "disk", NUM_KILLS // 2, seed=1)
    assert violations(tallies) == []


@pytest.mark.proof
@pytest.mark.timeout(7200)
def test_kills_of_any_process_lose_nothing_in_a_store(tmp_path: Path, s3: Any) -> None:
    source = upload(s3, archive(tmp_path), "archive", "aerial")
    s3.create_bucket(Bucket="tables")
    scene = make_scene(tmp_path, source, FAKES, "s3://tables/whole", whole_rows=True)
    tallies = kill_and_compare(scene, "s3://tables", "s3", NUM_KILLS - NUM_KILLS // 2, seed=2)
    assert violations(tallies) == []


@pytest.mark.proof
@pytest.mark.vllm
@pytest.mark.timeout(3600)
def test_kills_of_any_process_lose_nothing_with_real_models(tmp_path: Path) -> None:
    root = write_archive(tmp_path / "aerial", {"0.tar": images(0, 64), "1.tar": images(100, 64)})
    options = ["--commit-images", "32", "--set", "job.unit_images=8", "--num-variants", "2"]
    scene = make_scene(tmp_path, str(root), options, str(tmp_path / "whole"), whole_rows=False)
    tallies = kill_and_compare(scene, str(tmp_path), "vllm", NUM_VLLM_KILLS, seed=3)
    assert violations(tallies) == []
