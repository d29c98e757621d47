"""The cluster's notice that a node is going away: spot capacity that ends, a scale-down.

From the other nodes Ray Data withdraws by itself: it gives an actor on a draining node no more
work and starts it elsewhere. The driver's own node is what nobody else watches.
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
    """Look for the notice while the block runs; Ray must be initialised.

    Args:
        on_notice: called once, in a thread of its own, with the seconds that are left; None where
            no time is named.
    """
    node_id = str(ray.get_runtime_context().get_node_id())

    def look(_: threading.Event) -> bool:
        # Private, and the same that Ray Data and Ray Serve look at: there is no public one.
        draining = ray_state.state.get_draining_nodes()
        if node_id not in draining:
            return True
        on_notice(seconds_left(draining[node_id]))
        return False

    with watching("skytext-drain", lambda: _LOOK_EVERY_S, look):
        yield


def seconds_left(deadline_ms: int) -> float | None:
    """Return the time until a deadline of Ray's, milliseconds since 1970; 0 is none."""
    return None if deadline_ms == 0 else max(0.0, deadline_ms / 1000 - time.time())
