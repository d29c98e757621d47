"""Run a Ray cluster on this machine. It has a head node and two worker nodes with logical GPUs.

Each node is a separate raylet with its own worker processes. Commands connect to the cluster from
separate processes, like the commands of a user. Shards and tables are on an S3 server.
"""

from __future__ import annotations

import contextlib
import json
import re
import subprocess
import sys
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest
from ray._private.ray_constants import PROCESS_TYPE_RAYLET
from ray.cluster_utils import Cluster

_NODE: dict[str, Any] = {"num_cpus": 4, "object_store_memory": 100 * 2**20}
# This program reads the internal tables of Ray, because the state API needs a dashboard.
_PLACES = """
import json, sys
import ray
from ray._private.state import state
ray.init(address=sys.argv[1], log_to_driver=False, logging_level="ERROR")
print("PLACES", json.dumps([
    [actor["ActorClassName"], actor["Address"]["NodeID"]]
    for status in ("ALIVE", "DEAD") for actor in state.actor_table(None, None, status).values()
]))
"""


@contextmanager
def _forks() -> Iterator[None]:
    """Allow Ray to fork.

    A fork is safe for Lance here, because each new process immediately executes a program of Ray.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="lance is not fork-safe")
        yield


class Nodes:
    """The cluster for tests.

    Attributes:
        address: address of the cluster for the option ``--ray-address``.
        workers: the worker nodes.
    """

    def __init__(self, num_workers: int = 2) -> None:
        with _forks():
            self._cluster = Cluster(
                initialize_head=True,
                head_node_args=_NODE | {"num_gpus": 0, "include_dashboard": False},
            )
        self.address = self._cluster.address
        self.workers: list[Any] = []
        for _ in range(num_workers):
            self.add()

    def add(self, num_gpus: int = 2) -> Any:
        """Add a worker node."""
        with _forks():
            node = self._cluster.add_node(**_NODE, num_gpus=num_gpus)
        self.workers.append(node)
        return node

    def kill(self, place: int = 0) -> None:
        """End all processes of a worker node with SIGKILL."""
        node = self.workers.pop(place)
        started = self._started_by(node)
        self._cluster.remove_node(node, allow_graceful=False)
        for process in started:
            with contextlib.suppress(psutil.Error):
                process.kill()

    def remove(self, place: int) -> None:
        """Remove a worker node gracefully, so that the cluster is informed immediately."""
        self._cluster.remove_node(self.workers.pop(place), allow_graceful=True)

    def _started_by(self, node: Any) -> list[psutil.Process]:
        (raylet,) = node.all_processes[PROCESS_TYPE_RAYLET]
        return psutil.Process(raylet.process.pid).children(recursive=True)

    def actors(self, place: int) -> list[str]:
        """Return the titles of the processes of a worker node.

        The name of the running method is removed from each title.
        """
        titles = []
        for process in self._started_by(self.workers[place]):
            with contextlib.suppress(psutil.Error):
                titles.append((process.cmdline() or [""])[0].partition(".")[0])
        return titles

    def places(self) -> dict[str, set[str]]:
        """Return the nodes on which actors were started.

        Each key is the name of an actor class. Each value contains the ids of the nodes.
        """
        done = subprocess.run(
            [sys.executable, "-c", _PLACES, self.address],
            capture_output=True,
            text=True,
            check=True,
        )
        (line,) = (line for line in done.stdout.splitlines() if line.startswith("PLACES "))
        found: dict[str, set[str]] = {}
        for name, node_id in json.loads(line.removeprefix("PLACES ")):
            found.setdefault(name, set()).add(node_id)
        return found

    def shutdown(self) -> None:
        """End all nodes."""
        self._cluster.shutdown()


def serve_settings() -> dict[str, str]:
    """Return the environment variables that cluster.yaml sets when it starts its nodes."""
    text = (Path(__file__).parents[1] / "cluster.yaml").read_text(encoding="utf-8")
    return dict(re.findall(r"\b(RAY_SERVE_\w+|FORWARDED_ALLOW_IPS)=(\w*)", text))


@contextmanager
def start_cluster(environment: Mapping[str, str]) -> Iterator[Nodes]:
    """Run a cluster during the block. Its processes inherit the variables of ``environment``."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in environment.items():
            patch.setenv(name, value)
        nodes = Nodes()
        try:
            yield nodes
        finally:
            nodes.shutdown()
