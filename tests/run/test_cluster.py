"""The commands on a head and two worker nodes with logical GPUs, shards and tables on S3."""

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
    # Shards alone: `tests/table/test_store_faults.py` has the requests of tables.
    pattern=r"aerial/.*\.tar",
    max_in_a_row=2,
)
FAKES = ["--embedding-model", "fake", "--set", "job.unit_images=8", "--json"]


@dataclass
class Place:
    """A cluster, and a bucket that it reaches through a proxy."""

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
        """Run a command on the cluster to its end; return what it printed."""
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


def test_every_command_runs_on_gpu_nodes(place: Place) -> None:
    """The last one waits for a node that is added by hand."""
    bad = [(name, data) for name, (data, _) in bad_images().items()]
    archive = place.archive("aerial", {"0.tar": images(0, 30), "1.tar": [*images(30, 10), *bad]})
    table = place.table("t")
    engines = ["--model", "fake", "--num-engines", "1:2"]
    summary = place.run("caption", archive, "--table", table, *engines, *FAKES, "--verify-all")
    assert (summary["num_ok"], summary["num_failed"]) == (40, 3)
    quick = ["--vector", "always", "--set", "index.recall_queries=8"]
    assert place.run("index", table, *quick, "--json")["recall_at_10"] >= 0.98
    gpus = ["--set", "image_embed.num_gpus_per_actor=1"]
    embedded = place.run("embed-images", table, "--model", "fake", *gpus, "--json")
    assert embedded["num_with_vector"] == 40
    words = ["retry-failed", table, "--set", "caption.engine.num_gpus_per_engine=4", "--json"]
    words += ["--set", "job.wait_for_nodes_s=120", "--ray-address", place.nodes.address]
    with command(place.folder, *words) as running:
        wait_for_line("waiting up to 120 s for nodes", running)
        added = place.nodes.add(num_gpus=4)
        try:
            assert running.finish(RUN_S) == 0, running.err
        finally:
            place.nodes.remove(-1)
    assert json.loads(running.out)["num_newly_failed"] == 3
    assert statuses(table) == {"ok": 40, "failed": 3}
    assert ImagesTable.open(TableLocation.parse(table)).image_column is not None
    place.archive("aerial", {"2.tar": images(50, 5)})
    words = ["reindex", archive, "--table", table, *engines, *FAKES, *gpus, "--json"]
    night = place.run(
        *words, "--set", "reindex.max_failure_rate=0.1", "--set", "job.max_attempts=2"
    )
    assert (night["runs"]["new"]["num_captioned"], night["was_promoted"]) == (5, True)
    assert statuses(table) == {"ok": 45, "failed": 3}
    where = place.nodes.places()
    gpu_nodes = {node.node_id for node in place.nodes.workers}
    (captioners,) = (nodes for name, nodes in where.items() if "CaptionUnits" in name)
    (embedders,) = (nodes for name, nodes in where.items() if "StageVectors" in name)
    assert added.node_id in captioners
    assert captioners <= gpu_nodes | {added.node_id}
    assert embedders <= gpu_nodes
    assert where["PoolActor"] >= gpu_nodes


def test_a_lost_node_and_a_faulty_store_cost_time_and_nothing_else(place: Place) -> None:
    shards = {f"{i}.tar": images(40 * i, 40) for i in range(4)}
    archive, table = place.archive("aerial", shards), place.table("t")
    journal = place.folder / "journal"
    words = ["caption", archive, "--table", table, "--num-engines", "4", *FAKES]
    words += ["--model", f"fake:delay_s=0.5,journal={journal}", "--set", "job.commit_interval_s=2"]
    words += ["--set", "caption.engine.max_num_seqs=20", "--ray-address", place.nodes.address]
    place.proxy.faults = FAULTS
    with command(place.folder, *words) as running:
        wait_for_answers(journal, 40, running)
        place.nodes.kill()
        place.nodes.add()
        assert running.finish(RUN_S) == 0, running.err
        # Ray says of a lost node what its log said last; stdout is for the answer alone.
        assert json.loads(running.out)["num_ok"] == 160
    assert place.proxy.num_faults > 0
    assert statuses(table) == {"ok": 160}
