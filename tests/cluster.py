"""A Ray cluster of a head and two worker nodes with logical GPUs, on this machine.

Each node is a raylet of its own with its own worker processes. Commands join it as a user's do, in
processes of their own, with shards and tables on an S3 server.
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
# Reads Ray's own tables, because the state API needs a dashboard.
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
    """Allow Ray to fork. It executes its own programs at once, which is safe for Lance."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="lance is not fork-safe")
        yield


class Nodes:
    """The cluster for tests.

    Attributes:
        address: what ``--ray-address`` takes.
        workers: the nodes beside the head.
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
        """Remove a worker node in order: the cluster knows it at once."""
        self._cluster.remove_node(self.workers.pop(place), allow_graceful=True)

    def _started_by(self, node: Any) -> list[psutil.Process]:
        (raylet,) = node.all_processes[PROCESS_TYPE_RAYLET]
        return psutil.Process(raylet.process.pid).children(recursive=True)

    def actors(self, place: int) -> list[str]:
        """Return the titles of a worker node's processes, without the running method."""
        titles = []
        for process in self._started_by(self.workers[place]):
            with contextlib.suppress(psutil.Error):
                titles.append((process.cmdline() or [""])[0].partition(".")[0])
        return titles

    def places(self) -> dict[str, set[str]]:
        """Return the nodes on which actors of each class were started, by the class's name."""
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
    """Return the variables with which cluster.yaml starts its nodes."""
    text = (Path(__file__).parents[1] / "cluster.yaml").read_text(encoding="utf-8")
    return dict(re.findall(r"\b(RAY_SERVE_\w+|FORWARDED_ALLOW_IPS)=(\w*)", text))


@contextmanager
def start_cluster(environment: Mapping[str, str]) -> Iterator[Nodes]:
    """Run a cluster during the block; its processes inherit these variables."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in environment.items():
            patch.setenv(name, value)
        nodes = Nodes()
        try:
            yield nodes
        finally:
            nodes.shutdown()
