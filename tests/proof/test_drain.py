"""Test that a cluster drains a node after a notice.

One test drains the driver's node, and another test drains a worker node.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from ray.cluster_utils import Cluster

from skytext.table.location import TableLocation
from skytext.table.runs_dataset import last_runs
from tests.archives import images, write_archive
from tests.cluster import Nodes, start_cluster
from tests.proof.commands import command
from tests.run.control.test_interruption import OPTIONS, START_S, num_committed, wait_for_a_commit

RAY = Path(sys.executable).with_name("ray")
NOTICE_S = 30


# A fork is safe for Lance here, because each new process immediately executes a program of Ray.
pytestmark = pytest.mark.filterwarnings("ignore:lance is not fork-safe")


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    # This is a separate cluster, because a drain of the shared cluster would stop the other tests.
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 2})
    try:
        yield cluster
    finally:
        cluster.shutdown()


def drain(address: str, node_id: str) -> None:
    """Notify a cluster that a node ends in ``NOTICE_S`` seconds."""
    words = [RAY, "drain-node", "--address", address, "--node-id", node_id]
    words += ["--reason", "DRAIN_NODE_REASON_PREEMPTION", "--reason-message", "spot"]
    subprocess.run([*words, "--deadline-remaining-seconds", str(NOTICE_S)], check=True)


@pytest.mark.proof
@pytest.mark.timeout(600, method="thread")
def test_a_node_that_goes_away(tmp_path: Path, cluster: Cluster) -> None:
    root = write_archive(tmp_path / "aerial", {f"{i}.tar": images(60 * i, 60) for i in range(2)})
    table = tmp_path / "table"
    call = ["caption", root, "--table", table, "--model", "fake:delay_s=1", *OPTIONS]
    with command(tmp_path, *call, "--ray-address", cluster.address) as running:
        wait_for_a_commit(running, table)
        drain(cluster.address, cluster.head_node.node_id)
        assert running.finish(START_S) == 130, running.err
        assert "stopped because the cluster removes this node. " in running.err
    left = num_committed(table)
    assert 0 < left < 120
    assert f"{left} images of this run are committed" in running.err
    (run,) = last_runs(TableLocation.parse(str(table)), 9)
    assert run.state == "interrupted"


@pytest.mark.proof
@pytest.mark.timeout(600, method="thread")
def test_a_drained_worker_node_finishes_its_work(tmp_path: Path) -> None:
    root = write_archive(tmp_path / "aerial", {f"{i}.tar": images(60 * i, 60) for i in range(8)})
    table, journal = tmp_path / "table", tmp_path / "journal"
    call = ["caption", root, "--table", table, "--model", f"fake:delay_s=2,journal={journal}"]
    call += ["--num-engines", "4", *OPTIONS]
    with (
        start_cluster({}) as nodes,
        command(tmp_path, *call, "--ray-address", nodes.address) as running,
    ):
        wait_for_a_commit(running, table)
        assert has_captioners(nodes)
        drain(nodes.address, nodes.workers[0].node_id)
        # Ray gives no more work to the actors on this node. The checks below show that their work
        # was finished.
        time.sleep(NOTICE_S)
        assert num_committed(table) < 480
        nodes.kill()
        assert running.finish(START_S) == 0, running.err
    assert num_committed(table) == 480
    digests = journal.read_text().split()
    assert len(digests) == len(set(digests)) == 480


def has_captioners(nodes: Nodes) -> bool:
    return any("CaptionUnits" in title for title in nodes.actors(0))
