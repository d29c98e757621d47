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

from skytext.table.images_dataset import IMAGE_VECTOR, ImagesTable
from skytext.table.location import TableLocation
from tests.archives import bad_images, images, upload, write_archive
from tests.cluster import Nodes, start_cluster
from tests.proof.commands import Command, command

pytestmark = [pytest.mark.ray, pytest.mark.timeout(300)]

RUN_S = 150.0
FAKES = ["--embedding-model", "fake", "--set", "job.unit_images=8", "--json"]


@dataclass
class Place:
    """A cluster, and a bucket that its nodes reach."""

    nodes: Nodes
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


@pytest.fixture(scope="session")
def cluster(s3_settings: dict[str, str]) -> Iterator[Nodes]:
    with start_cluster(s3_settings) as nodes:
        yield nodes


@pytest.fixture
def place(cluster: Nodes, s3: Any, tmp_path: Path) -> Place:
    bucket = f"cluster-{tmp_path.name.replace('_', '-').lower()}"[:60].rstrip("-")
    return Place(cluster, s3, tmp_path, bucket)


def statuses(table: str) -> Counter[str]:
    found = ImagesTable.open(TableLocation.parse(table)).dataset.to_table(
        columns=["image_id", "status"]
    )
    ids = found.column("image_id").to_pylist()
    assert len(ids) == len(set(ids))
    return Counter(found.column("status").to_pylist())


def wait_for_answers(journal: Path, number: int, running: Command) -> None:
    deadline = time.monotonic() + RUN_S
    while not journal.exists() or len(journal.read_text().splitlines()) < number:
        assert running.process.poll() is None, running.err
        assert time.monotonic() < deadline, "the engines gave no answers"
        time.sleep(0.1)


def test_every_command_runs_on_gpu_nodes(place: Place) -> None:
    bad = [(name, data) for name, (data, _) in bad_images().items()]
    archive = place.archive("aerial", {"0.tar": images(0, 30), "1.tar": [*images(30, 10), *bad]})
    table = place.table("t")
    engines = ["--model", "fake", "--num-engines", "1:2"]
    summary = place.run("caption", archive, "--table", table, *engines, *FAKES)
    assert (summary["num_ok"], summary["num_failed"]) == (40, 3)
    again = place.run("retry-failed", table, "--json")
    assert again["num_newly_failed"] == 3
    gpus = ["--set", "image_embed.num_gpus_per_actor=1"]
    embedded = place.run("embed-images", table, "--model", "fake", *gpus, "--json")
    assert embedded["num_with_vector"] == 40
    assert statuses(table) == {"ok": 40, "failed": 3}
    assert IMAGE_VECTOR in ImagesTable.open(TableLocation.parse(table)).dataset.schema.names
    where = place.nodes.places()
    gpu_nodes = {node.node_id for node in place.nodes.workers}
    (captioners,) = (nodes for name, nodes in where.items() if "CaptionUnits" in name)
    (embedders,) = (nodes for name, nodes in where.items() if "EmbedImages" in name)
    assert captioners <= gpu_nodes
    assert embedders <= gpu_nodes


def test_a_lost_node_costs_time_and_nothing_else(place: Place) -> None:
    shards = {f"{i}.tar": images(60 * i, 60) for i in range(4)}
    archive, table = place.archive("aerial", shards), place.table("t")
    journal = place.folder / "journal"
    words = ["caption", archive, "--table", table, "--num-engines", "4", *FAKES]
    words += ["--model", f"fake:delay_s=0.5,journal={journal}", "--set", "job.commit_interval_s=2"]
    words += ["--set", "caption.engine.max_num_seqs=20", "--ray-address", place.nodes.address]
    with command(place.folder, *words) as running:
        wait_for_answers(journal, 40, running)
        place.nodes.kill()
        place.nodes.add()
        assert running.finish(RUN_S) == 0, running.err
        # Ray says of a lost node what its log said last; stdout is for the answer alone.
        assert json.loads(running.out)["num_ok"] == 240
    assert statuses(table) == {"ok": 240}


def test_a_run_waits_for_nodes_that_are_added_by_hand(place: Place) -> None:
    archive, table = place.archive("aerial", {"0.tar": images(0, 10)}), place.table("t")
    words = ["caption", archive, "--table", table, "--model", "fake", "--gpus-per-engine", "4"]
    words += [*FAKES, "--set", "job.wait_for_nodes_s=120", "--ray-address", place.nodes.address]
    with command(place.folder, *words) as running:
        deadline = time.monotonic() + RUN_S
        while "waiting up to 120 s for nodes" not in running.err:
            assert running.process.poll() is None, running.err
            assert time.monotonic() < deadline
            time.sleep(0.1)
        place.nodes.add(num_gpus=4)
        try:
            assert running.finish(RUN_S) == 0, running.err
        finally:
            place.nodes.kill(-1)
    assert statuses(table) == {"ok": 10}
