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
from tests.faulty_proxy import Answer, Faults, FaultyProxy, Request, Send
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
SLOW_DOWN = Answer(503, {}, b"<?xml version='1.0'?><Error><Code>SlowDown</Code></Error>")
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
    proxy.faults, proxy.breach = Faults(), None


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
    summary = place.run("caption", archive, "--table", table, *engines, *FAKES, "--verify-all")
    assert (summary["num_ok"], summary["num_failed"]) == (40, 3)
    quick = ["--vector", "always", "--set", "index.recall_queries=8"]
    assert place.run("index", table, *quick, "--json")["recall_at_10"] >= 0.98
    again = place.run("retry-failed", table, "--json")
    assert again["num_newly_failed"] == 3
    gpus = ["--set", "image_embed.num_gpus_per_actor=1"]
    embedded = place.run("embed-images", table, "--model", "fake", *gpus, "--json")
    assert embedded["num_with_vector"] == 40
    assert statuses(table) == {"ok": 40, "failed": 3}
    assert ImagesTable.open(TableLocation.parse(table)).image_column is not None
    place.archive("aerial", {"2.tar": images(50, 5)})
    words = ["reindex", archive, "--table", table, *engines, *FAKES, "--json"]
    night = place.run(
        *words, "--set", "reindex.max_failure_rate=0.1", "--set", "job.max_attempts=2"
    )
    assert (night["runs"]["new"]["num_captioned"], night["was_promoted"]) == (5, True)
    assert statuses(table) == {"ok": 45, "failed": 3}
    where = place.nodes.places()
    gpu_nodes = {node.node_id for node in place.nodes.workers}
    (captioners,) = (nodes for name, nodes in where.items() if "CaptionUnits" in name)
    (embedders,) = (nodes for name, nodes in where.items() if "StageVectors" in name)
    assert captioners <= gpu_nodes
    assert embedders <= gpu_nodes
    assert where["PoolActor"] >= gpu_nodes


def test_a_lost_node_and_a_faulty_store_cost_time_and_nothing_else(place: Place) -> None:
    shards = {f"{i}.tar": images(60 * i, 60) for i in range(4)}
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
        assert json.loads(running.out)["num_ok"] == 240
    assert place.proxy.num_faults > 0
    assert statuses(table) == {"ok": 240}


def test_a_shard_that_a_store_does_not_give_leaves_no_hole(place: Place) -> None:
    """The store answers no request for bytes behind the first megabyte of one shard."""
    with_sidecars = [
        entry
        for name, data in images(40, 20)
        for entry in ((name, data), (name.replace(".jpg", ".json"), {"gsd": 1}))
    ]
    padded = [*with_sidecars, ("pad.bin", bytes(3 << 20)), *images(60, 20)]
    archive = place.archive("aerial", {"0.tar": images(0, 40), "1.tar": padded})
    words = ["caption", archive, "--table", place.table("t"), "--model", "fake", *FAKES]
    words += ["--set", "sources.retry_s=1", "--ray-address", place.nodes.address]

    def refuses_the_rest(request: Request, send: Send) -> Answer:
        is_rest = not (request.header("Range") or "bytes=0-").startswith("bytes=0-")
        return SLOW_DOWN if "1.tar" in request.path and is_rest else send(request)

    place.proxy.breach = refuses_the_rest
    with command(place.folder, *words) as running:
        assert running.finish(RUN_S) == 1, running.err
    summary = json.loads(running.out)
    assert (summary["num_unread"], list(summary["unread"])) == (1, ["1.tar"])
    assert (summary["num_ok"], summary["num_failed"]) == (40, 0)
    assert "1 shard not read to the end" in running.err
    assert "answered SlowDown" in running.err
    # Another sidecar of the last image before the fault may be behind it.
    assert statuses(place.table("t")) == {"ok": 59}
    place.proxy.breach = None
    with command(place.folder, *words) as running:
        assert running.finish(RUN_S) == 0, running.err
    summary = json.loads(running.out)
    assert (summary["num_unread"], summary["num_ok"], summary["num_captioned"]) == (0, 80, 21)
    assert statuses(place.table("t")) == {"ok": 80}


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
