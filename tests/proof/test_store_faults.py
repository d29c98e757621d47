"""Test a store with all kinds of faults, and shards of all formats.

The final table is equal to the table of an undisturbed run.
"""

from __future__ import annotations

import itertools
import random
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.archives import images, upload, write_archive
from tests.faulty_proxy import Faults, FaultyProxy, faulty_proxy
from tests.proof.commands import command
from tests.proof.kill_matrix import RUN_S, Scene, make_scene, rows_of, run_to_its_end

KINDS = ("reset", "truncate", "server_error", "slow_down", "expired")
# Each value is a pattern for the requests with faults, and the byte of the answer with the fault.
PLACES = {
    "the first byte": (r"aerial/(1\.tar|p1\.parquet|one/)", 0),
    "the middle": (r"aerial/(1\.tar|p1\.parquet|one/)", 3_000),
    "the listing": (r"list-type=2.*delimiter", 20),
}
CASES = list(itertools.product(KINDS, PLACES, [True, False]))
FAKES = ["--model", "fake:delay_s=0.1", "--embedding-model", "fake", "--num-engines", "1"]
FAKES += ["--set", "job.unit_images=4", "--set", "sources.retry_s=2"]
# Requests with an expired token are not repeated.
NEVER_RECOVERS = "expired"


def write_parquet(path: Path, start: int) -> None:
    cells = [{"path": name, "bytes": data} for name, data in images(start, 8)]
    pq.write_table(pa.table({"image": cells}), path, row_group_size=4)


@pytest.fixture
def proxy(s3_endpoint: str, s3: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultyProxy]:
    with faulty_proxy(s3_endpoint) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.url)
        yield proxy


def make_archive(folder: Path, s3: Any) -> str:
    """Make an archive with two shards of each format, and return its address.

    Only requests for the second shard of each format have faults.
    """
    root = write_archive(folder / "aerial", {f"{i}.tar": images(8 * i, 8) for i in range(2)})
    for i, name in enumerate(("zero", "one")):
        write_parquet(root / f"p{i}.parquet", 100 + 8 * i)
        write_archive(root / name, dict(images(200 + 8 * i, 8)))
    return upload(s3, root, "faults", "aerial")


def run_with_faults(scene: Scene, table: str, *, is_killed: bool, rng: random.Random) -> int:
    """Run the command while requests have faults, and return the exit status."""
    with command(scene.folder, *scene.call(table)) as running:
        if is_killed:
            time.sleep(rng.uniform(2, scene.run_s))
            running.kill()
        return running.finish(RUN_S)


@pytest.mark.proof
@pytest.mark.timeout(3600 * 2)
def test_every_fault_ends_in_the_right_table(
    proxy: FaultyProxy, s3: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = make_archive(tmp_path, s3)
    scene = make_scene(tmp_path, source, FAKES, "s3://faults/whole", whole_rows=True)
    assert len(scene.reference) == 48
    rng, num_unread = random.Random(1), 0
    for number, (kind, place, recovers) in enumerate(CASES):
        pattern, at_byte = PLACES[place]
        more = {kind: 1.0, "max_in_a_row": 2 if recovers else None}
        proxy.faults = Faults(seed=number, pattern=pattern, at_byte=at_byte, **more)
        table, is_killed = f"s3://faults/table-{number}", number % 3 == 2
        what = f"{kind} at {place}, recovers: {recovers}, killed: {is_killed}"
        status = run_with_faults(scene, table, is_killed=is_killed, rng=rng)
        is_whole = recovers and kind != NEVER_RECOVERS
        if not is_killed:
            assert status == (0 if is_whole else 1), what
            num_unread += status
        rows = rows_of(table, scene.compare)
        assert rows.items() <= scene.reference.items(), what
        assert is_killed or len(rows) >= (48 if is_whole else 24), what
        proxy.faults = Faults()
        run_to_its_end(scene, table)
        assert rows_of(table, scene.compare) == scene.reference, what
    with capsys.disabled():
        sys.stdout.write(f"\n{len(CASES)} faults, {num_unread} runs with unread shards\n")
