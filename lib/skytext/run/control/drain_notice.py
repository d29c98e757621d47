"""Watch for the notice that the cluster will remove the driver's node.

A cluster removes a node when a spot instance ends or when the cluster scales down. If the cluster
removes a node without the driver, Ray Data sends no more work to the actors on this node, and
starts new actors on other nodes. Ray Data does not handle the removal of the driver's node.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import ray
from ray._private import state as ray_state

from skytext.run.control.watcher import watching

_LOOK_EVERY_S = 2.0


@contextmanager
def watch_node(on_notice: Callable[[float | None], None]) -> Iterator[None]:
    """Watch for the notice during the block. Ray must be initialised.

    Args:
        on_notice: called once when the notice arrives, in a separate thread. It receives the number
            of seconds until the node is removed; None if this time is unknown.
    """
    node_id = str(ray.get_runtime_context().get_node_id())

    def look(_: threading.Event) -> bool:
        # Ray has no public function that lists the nodes to be removed. Ray Data and Ray Serve use
        # the same private function.
        draining = ray_state.state.get_draining_nodes()
        if node_id not in draining:
            return True
        on_notice(seconds_left(draining[node_id]))
        return False

    with watching("skytext-drain", lambda: _LOOK_EVERY_S, look):
        yield


def seconds_left(deadline_ms: int) -> float | None:
    """Return the number of seconds until a deadline of Ray; None if there is no deadline.

    Args:
        deadline_ms: the deadline in milliseconds since 1970; 0 if there is no deadline.
    """
    return None if deadline_ms == 0 else max(0.0, deadline_ms / 1000 - time.time())
