"""Test the commands on a cluster of a head node and two worker nodes with logical GPUs.

Shards and tables are on S3.
"""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from skytext.table.images_dataset import ImagesTable
from skytext.table.location import TableLocation
from tests.archives import bad_images, images, upload, write_archive
from tests.cluster import Nodes
from tests.faulty_proxy import Faults, FaultyProxy
from tests.proof.commands import Command, command

pytestmark = [pytest.mark.ray, pytest.mark.timeout(500)]

RUN_S = 240.0
FAULTS = Faults(
    seed=5,
    reset=0.2,
    truncate=0.1,
    server_error=0.1,
    slow_down=0.1,
    # Only requests for shards fail. `tests/table/test_store_faults.py` tests the requests for
    # tables.
    pattern=r"aerial/.*\.tar",
    max_in_a_row=2,
)
FAKES = ["--embedding-model", "fake", "--set", "job.unit_images=8", "--json"]


@dataclass
class Place:
    """A cluster, and a bucket to which the cluster connects through a proxy."""

    nodes: Nodes
    proxy: FaultyProxy
    s3: Any
    folder: Path
    bucket: str

    def archive(self, name: str, shards: dict[str, Any]) -> str:
        root = write_archive(self.folder / name, shards)
        return upload(self.s3, Path(root), self.bucket, name)

    def table(self, name: str) -> str:
        return f"s3://{self.bucket}/{name}"

    def run(self, *words: object) -> dict[str, Any]:
        """Run a command on the cluster to its end, and return the JSON output of the command."""
        with command(self.folder, *words, "--ray-address", self.nodes.address) as running:
            assert running.finish(RUN_S) == 0, running.err
            return dict(json.loads(running.out))


@pytest.fixture
def place(
    cluster: Nodes,
    proxy: FaultyProxy,
    s3: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Place]:
    bucket = f"cluster-{tmp_path.name.replace('_', '-').lower()}"[:60].rstrip("-")
    monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.url)
    yield Place(cluster, proxy, s3, tmp_path, bucket)
    proxy.faults = Faults()


def statuses(table: str) -> Counter[str]:
    found = ImagesTable.open(TableLocation.parse(table)).dataset.to_table(
        columns=["image_id", "status"]
    )
    ids = found.column("image_id").to_pylist()
    assert len(ids) == len(set(ids))
    return Counter(found.column("status").to_pylist())


def wait_for_line(line: str, running: Command) -> None:
    deadline = time.monotonic() + RUN_S
    while line not in running.err:
        assert running.process.poll() is None, running.err
        assert time.monotonic() < deadline
        time.sleep(0.1)


def wait_for_answers(journal: Path, number: int, running: Command) -> None:
    deadline = time.monotonic() + RUN_S
    while not journal.exists() or len(journal.read_text().splitlines()) < number:
        assert running.process.poll() is None, running.err
        assert time.monotonic() < deadline, "the engines gave no answers"
        time.sleep(0.1)


def test_a_lost_node_costs_only_time_and_every_stage_runs_on_gpu_nodes(place: Place) -> None:
    """The store fails, and a node is killed during the run.

    The command ``retry-failed`` waits until a node is added.
    """
    nodes = place.nodes
    shards: dict[str, Any] = {f"{i}.tar": images(40 * i, 40) for i in range(4)}
    shards["bad.tar"] = [(name, data) for name, (data, _) in bad_images().items()]
    archive, table = place.archive("aerial", shards), place.table("t")
    journal, at = place.folder / "journal", ["--ray-address", nodes.address]
    gpu_nodes = {node.node_id for node in nodes.workers}
    words = ["caption", archive, "--table", table, "--num-engines", "4", *FAKES, *at]
    model = ["--model", f"fake:delay_s=0.5,journal={journal}"]
    words += [
        *model,
        "--set",
        "job.commit_interval_s=2",
        "--set",
        "caption.engine.max_num_seqs=20",
        "--verify-all",
    ]
    place.proxy.faults = FAULTS
    with command(place.folder, *words) as running:
        wait_for_answers(journal, 40, running)
        nodes.kill()
        nodes.add()
        assert running.finish(RUN_S) == 0, running.err
        # Ray prints the last log lines of a lost node to stderr. stdout has only the summary.
        summary = json.loads(running.out)
    assert (summary["num_ok"], summary["num_failed"]) == (160, 3)
    assert place.proxy.num_faults > 0
    assert statuses(table) == {"ok": 160, "failed": 3}
    place.proxy.faults = Faults()

    words = ["retry-failed", table, "--set", "caption.engine.num_gpus_per_engine=4", "--json", *at]
    words += ["--set", "caption.engine.num_engines=1", "--set", "embed.num_actors=1"]
    with command(place.folder, *words, "--set", "job.wait_for_nodes_s=120") as running:
        wait_for_line("waiting up to 120 s for nodes", running)
        added = nodes.add(num_gpus=4)
        try:
            assert running.finish(RUN_S) == 0, running.err
        finally:
            nodes.remove(-1)
    assert json.loads(running.out)["num_newly_failed"] == 3

    place.archive("aerial", {"new.tar": images(200, 5)})
    words = ["reindex", archive, "--table", table, *model, "--num-engines", "1:2"]
    words += ["--set", "reindex.max_failure_rate=0.1", "--set", "job.max_attempts=2"]
    words += ["--set", "image_embed.model=fake", "--set", "image_embed.num_gpus_per_actor=1"]
    words += ["--set", "index.vector=always", "--set", "index.recall_queries=8"]
    night = place.run(*words, *FAKES)
    assert (night["runs"]["new"]["num_captioned"], night["was_promoted"]) == (5, True)
    assert statuses(table) == {"ok": 165, "failed": 3}
    opened = ImagesTable.open(TableLocation.parse(table))
    assert opened.image_column is not None
    assert opened.dataset.count_rows(f"{opened.image_column.name} IS NOT NULL") == 165
    gpu_nodes |= {node.node_id for node in nodes.workers}
    where = nodes.places()
    (captioners,) = (found for name, found in where.items() if "CaptionUnits" in name)
    (embedders,) = (found for name, found in where.items() if "StageVectors" in name)
    assert added.node_id in captioners
    assert captioners <= gpu_nodes | {added.node_id}
    assert embedders <= gpu_nodes
    assert where["PoolActor"]  # Tasks built the index.
