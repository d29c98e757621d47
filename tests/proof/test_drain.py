"""A cluster that takes the driver's node away: what is done is kept, and the run says so."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from ray.cluster_utils import Cluster

from skytext.table.location import TableLocation
from skytext.table.runs_dataset import last_runs
from tests.archives import images, write_archive
from tests.proof.commands import command
from tests.run.control.test_interruption import OPTIONS, START_S, num_committed, wait_for_a_commit

RAY = Path(sys.executable).with_name("ray")


# Ray forks only to execute its own programs right away.
pytestmark = pytest.mark.filterwarnings("ignore:lance is not fork-safe")


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    # A node of its own: draining the one that the tests share would end them all.
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 2})
    try:
        yield cluster
    finally:
        cluster.shutdown()


@pytest.mark.proof
@pytest.mark.timeout(600, method="thread")
def test_a_node_that_goes_away(tmp_path: Path, cluster: Cluster) -> None:
    root = write_archive(tmp_path / "aerial", {f"{i}.tar": images(60 * i, 60) for i in range(2)})
    table = tmp_path / "table"
    call = ["caption", root, "--table", table, "--model", "fake:delay_s=1", *OPTIONS]
    with command(tmp_path, *call, "--ray-address", cluster.address) as running:
        wait_for_a_commit(running, table)
        drain = [RAY, "drain-node", "--address", cluster.address]
        drain += ["--node-id", cluster.head_node.node_id]
        drain += ["--reason", "DRAIN_NODE_REASON_PREEMPTION", "--reason-message", "spot"]
        subprocess.run([*drain, "--deadline-remaining-seconds", "30"], check=True)
        assert running.finish(START_S) == 130, running.err
        assert "the cluster takes this node away; " in running.err
    left = num_committed(table)
    assert 0 < left < 120
    assert f"{left} images of this run are committed" in running.err
    (run,) = last_runs(TableLocation.parse(str(table)), 9)
    assert run.state == "interrupted"
