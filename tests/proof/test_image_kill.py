"""Test that a later run of `embed-images` finishes the work of a killed run.

The run may be killed at any moment. No staged image is embedded again.
"""

from __future__ import annotations

import json
import random
import time
from collections import Counter
from pathlib import Path

import pytest

from skytext.table.commits.stage_rows import staged_unit_ids
from skytext.table.images_dataset import ImagesTable
from skytext.table.location import TableLocation
from tests.archives import images, write_archive
from tests.proof.commands import command
from tests.table.rows import rows_of

NUM_KILLS, NUM_IMAGES, UNIT_IMAGES = 6, 240, 4
RUN_S, CLEAN_UP_S = 180, 60


def vectors(where: TableLocation) -> dict[str, list[float]]:
    """Return the vectors that are committed."""
    table = ImagesTable.open(where)
    if table.image_column is None:
        return {}
    rows = rows_of(
        table, "image_id", "image_vector", filter=f"{table.image_column.name} IS NOT NULL"
    )
    return {row["image_id"]: row["image_vector"] for row in rows}


@pytest.mark.proof
@pytest.mark.timeout(1200)
def test_a_killed_driver_loses_only_unstaged_work(tmp_path: Path) -> None:
    rng = random.Random(2)
    root = write_archive(tmp_path / "aerial", {"a.tar": images(0, NUM_IMAGES)})
    where = TableLocation.parse(str(tmp_path / "table"))
    fakes = ["--model", "fake", "--embedding-model", "fake"]
    with command(tmp_path, "caption", root, "--table", where.uri, *fakes) as running:
        assert running.finish(RUN_S) == 0, running.err
    journal = tmp_path / "journal"
    call = ["embed-images", where.uri, "--json", "--model", f"fake:delay_s=0.15,journal={journal}"]
    call += ["--set", f"image_embed.unit_images={UNIT_IMAGES}"]
    call += ["--set", "image_embed.commit_images=20"]
    before = vectors(where)
    for kill in range(NUM_KILLS):
        with command(tmp_path, *call) as running:
            if kill % 2:
                time.sleep(rng.uniform(0.5, 10))
            else:
                deadline = time.monotonic() + RUN_S
                # A fragment is committed when its last image is done. Before that, its units are
                # only staged.
                while len(vectors(where)) <= len(before) and not staged_unit_ids(where):
                    assert running.process.poll() is None, running.err
                    assert time.monotonic() < deadline, "nothing was embedded"
                    time.sleep(0.05)
                time.sleep(rng.uniform(0, 2))
            assert running.process.poll() is None, running.err
            running.kill()
            assert running.wait_for_the_rest(CLEAN_UP_S) == []
        after = vectors(where)
        assert before.items() <= after.items()
        before = after
    assert len(before) < NUM_IMAGES
    assert before or staged_unit_ids(where)
    with command(tmp_path, *call) as running:
        assert running.finish(RUN_S) == 0, running.err
        summary = json.loads(running.out)
    assert summary["num_with_vector"] == summary["num_ok"] == NUM_IMAGES
    assert len(vectors(where)) == NUM_IMAGES
    assert before.items() <= vectors(where).items()
    assert staged_unit_ids(where) == []
    # A kill loses only the current work of the actor.
    asked = Counter(journal.read_text().split())
    assert len(asked) == NUM_IMAGES
    assert asked.total() <= NUM_IMAGES + NUM_KILLS * UNIT_IMAGES
