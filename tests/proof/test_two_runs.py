"""Test two concurrent runs on one table, and a holder that is paused longer than its lease."""

from __future__ import annotations

import os
import random
import signal
import time
from pathlib import Path

import pytest

from tests.archives import images, write_archive
from tests.proof.commands import command
from tests.proof.kill_matrix import RUN_S, make_scene, rows_of, run_to_its_end

NUM_PAIRS = int(os.environ.get("SKYTEXT_NUM_PAIRS", "50"))
NUM_PAUSES = 5
OPTIONS = ["--model", "fake:delay_s=0.05", "--embedding-model", "fake", "--commit-images", "16"]
OPTIONS += ["--set", "job.unit_images=8", "--set", "job.lease_s=2"]


@pytest.mark.proof
@pytest.mark.timeout(7200)
def test_only_one_of_two_concurrent_runs_does_the_work(tmp_path: Path) -> None:
    root = write_archive(tmp_path / "aerial", {"0.tar": images(0, 30), "1.tar": images(100, 30)})
    scene = make_scene(tmp_path, str(root), OPTIONS, str(tmp_path / "whole"), whole_rows=True)
    rng = random.Random(4)
    for pair in range(NUM_PAIRS):
        call = scene.call(str(tmp_path / f"table-{pair}"))
        with command(tmp_path, *call) as one:
            # The second run often starts at the same time. Sometimes the first run has already
            # ended.
            time.sleep(rng.choice([0, 0, 0.05, rng.uniform(0, 1), rng.uniform(0, scene.run_s)]))
            with command(tmp_path, *call) as two:
                statuses = [one.finish(RUN_S), two.finish(RUN_S)]
                messages = one.err + two.err
        assert sorted(statuses) in ([0, 0], [0, 1]), messages
        assert sorted(statuses) == [0, 0] or "is held by skytext caption" in messages
        after = rows_of(str(tmp_path / f"table-{pair}"), scene.compare)
        assert after == scene.reference


@pytest.mark.proof
@pytest.mark.timeout(3600)
def test_a_holder_that_wakes_up_late_commits_nothing_more(tmp_path: Path) -> None:
    root = write_archive(tmp_path / "aerial", {f"{i}.tar": images(100 * i, 60) for i in range(3)})
    scene = make_scene(tmp_path, str(root), OPTIONS, str(tmp_path / "whole"), whole_rows=True)
    rng = random.Random(5)
    for pause in range(NUM_PAUSES):
        table = str(tmp_path / f"table-{pause}")
        with command(tmp_path, *scene.call(table)) as sleeper:
            time.sleep(rng.uniform(0.5, scene.run_s * 0.8))
            # Only the driver is paused, as by a debugger or by swapping. Its workers continue.
            os.kill(sleeper.process.pid, signal.SIGSTOP)
            done = sleeper.process.poll() is not None
            run_to_its_end(scene, table)
            after = rows_of(table, [*scene.compare, "unit_id"])
            os.kill(sleeper.process.pid, signal.SIGCONT)
            status = sleeper.finish(RUN_S)
        assert status == (0 if done else 1), sleeper.err
        # A driver that is paused while Ray starts reports that Ray did not start in time.
        messages = ("expired", "is held by", "cannot start a local Ray")
        assert done or any(words in sleeper.err for words in messages), sleeper.err
        # All rows are still the rows of the run that took over the table.
        assert rows_of(table, [*scene.compare, "unit_id"]) == after
        assert {i: {n: row[n] for n in scene.compare} for i, row in after.items()} == {
            i: {n: row[n] for n in scene.compare} for i, row in scene.reference.items()
        }
