"""Test a change of the prompt and of the embedding model with many kills.

Only stale work is repeated.
"""

from __future__ import annotations

import json
import random
import shutil
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from skytext.config.embedding import EmbedConfig
from skytext.table.commits.stage_rows import staged_unit_ids
from skytext.table.images_dataset import ImagesTable
from skytext.table.location import TableLocation
from tests.archives import images, write_archive
from tests.proof.commands import command
from tests.table.rows import rows_of

NUM_IMAGES, NUM_KILLS, RUN_S, CLEAN_UP_S = 96, 8, 240, 90
# A killed engine actor may have five units of eight images in progress.
IN_WORK = 5 * 8


def rows(table: Path) -> dict[str, dict[str, Any]]:
    opened = ImagesTable.open(TableLocation.parse(str(table)))
    found = rows_of(opened, "image_id", "captions", "vectors", "caption_fingerprint", "unit_id")
    assert len({row["image_id"] for row in found}) == len(found)
    return {row["image_id"]: row for row in found}


@pytest.mark.proof
@pytest.mark.timeout(2400)
def test_kills_during_a_change_of_models_lose_no_work(tmp_path: Path) -> None:
    rng = random.Random(7)
    shards = {f"{i}.tar": images(24 * i, 24) for i in range(4)}
    root = write_archive(tmp_path / "aerial", shards)
    table, undisturbed = tmp_path / "table", tmp_path / "undisturbed"
    small = ["--set", "job.unit_images=8", "--set", "job.commit_images=24"]
    small += ["--set", "image_embed.unit_images=8"]
    first = ["caption", root, "--table", table, "--model", "fake", "--embedding-model", "fake"]
    with command(tmp_path, *map(str, first), *small) as running:
        assert running.finish(RUN_S) == 0, running.err
    shutil.copytree(table, undisturbed)
    before = rows(table)
    journal = tmp_path / "journal"

    def change(where: Path, model: str) -> list[str]:
        called = ["caption", root, "--table", where, "--model", model, "--stale", "all", "--json"]
        called += ["--embedding-model", EmbedConfig().model, "--set", "caption.num_variants=2"]
        return [*map(str, called), *small]

    with command(tmp_path, *change(undisturbed, "fake")) as running:
        assert running.finish(RUN_S) == 0, running.err
    call = change(table, f"fake:delay_s=0.3,journal={journal}")
    for _ in range(NUM_KILLS):
        with command(tmp_path, *call) as running:
            time.sleep(rng.uniform(3, 25))
            if running.process.poll() is not None:
                break
            running.kill()
            assert running.wait_for_the_rest(CLEAN_UP_S) == []
        now = rows(table)
        assert now.keys() == before.keys()
    with command(tmp_path, *call) as running:
        assert running.finish(RUN_S) == 0, running.err
        summary = json.loads(running.out)
    assert (summary["num_ok"], summary["num_stale"]) == (NUM_IMAGES, 0)
    after, expected = rows(table), rows(undisturbed)
    assert after.keys() == expected.keys() == before.keys()
    # The options of a fake model, such as the journal, are part of the name of the model.
    (ours,) = {row["caption_fingerprint"] for row in after.values()}
    assert ours not in {row["caption_fingerprint"] for row in before.values()}
    for image_id, row in expected.items():
        assert after[image_id]["captions"] == row["captions"]
        got, wanted = (np.array(one["vectors"], np.float32) for one in (after[image_id], row))
        # Other texts in a batch change the padding, so the last bits differ.
        np.testing.assert_allclose(got, wanted, atol=2e-2)
    opened = ImagesTable.open(TableLocation.parse(str(table)))
    assert len(opened.columns) == 1
    assert staged_unit_ids(opened.location) == []
    asked = Counter(journal.read_text().split())
    assert len(asked) == NUM_IMAGES
    assert asked.total() <= NUM_IMAGES + NUM_KILLS * IN_WORK
