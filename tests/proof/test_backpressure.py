"""Test that a slow embedder makes the engines wait.

Therefore a killed driver loses little work.
"""

from __future__ import annotations

import signal
import time
from pathlib import Path

import psutil
import pytest

from skytext.table.commits.stage_rows import read_records, staged_unit_ids
from skytext.table.location import TableLocation
from tests.archives import images, write_archive
from tests.proof.commands import Command, command
from tests.proof.kill_matrix import RUN_S, rows_of
from tests.proof.test_kill_matrix import COMMIT_IMAGES, FAKES

QUIET_S = 10.0
NUM_IMAGES = 300


def embedder_of(running: Command) -> psutil.Process:
    deadline = time.monotonic() + RUN_S
    while time.monotonic() < deadline:
        for process in running.left():
            title = " ".join([process.name(), *process.cmdline()])
            # The embedder must have received its first unit. Ray ends an actor that is stopped in
            # its constructor. Ray Data ignores the limit while no operator has a task.
            if "EmbedUnits" in title and ".submit" in title:
                return process
        assert running.process.poll() is None, running.err
        time.sleep(0.05)
    raise AssertionError("no embedder was started")


def wait_until_quiet(journal: Path) -> int:
    """Wait until no more answers arrive, and return the number of answers."""
    number, since = 0, time.monotonic()
    while time.monotonic() - since < QUIET_S or not number:
        found = len(journal.read_text().splitlines()) if journal.exists() else 0
        if found != number:
            number, since = found, time.monotonic()
        time.sleep(0.2)
    return number


def num_recorded(table: str) -> int:
    """Return the number of images that are staged or committed."""
    where = TableLocation.parse(table)
    units = read_records(where, staged_unit_ids(where))
    return sum(unit.num_rows for unit in units) + len(rows_of(table, ["status"]))


@pytest.mark.proof
@pytest.mark.timeout(600)
def test_engines_are_so_far_ahead_and_no_further(tmp_path: Path) -> None:
    root = write_archive(tmp_path / "aerial", {f"{i}.tar": images(100 * i, 100) for i in range(3)})
    journal, table = tmp_path / "journal", str(tmp_path / "table")
    options = [o.replace("delay_s=0.1", f"delay_s=0.1,journal={journal}") for o in FAKES]
    with command(tmp_path, "caption", root, "--table", table, *options) as running:
        embedder = embedder_of(running)
        embedder.send_signal(signal.SIGSTOP)
        try:
            num_answers = wait_until_quiet(journal)
            assert num_answers - num_recorded(table) <= COMMIT_IMAGES
            assert num_answers < NUM_IMAGES
        finally:
            embedder.send_signal(signal.SIGCONT)
        assert running.finish(RUN_S) == 0, running.err
    assert len(rows_of(table, ["status"])) == NUM_IMAGES
