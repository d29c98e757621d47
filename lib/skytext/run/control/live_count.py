"""The number of images that the engines of a run have described.

The number includes images of units that are not finished, because a unit takes minutes on a slow
machine. Each engine writes its count to the key-value store of Ray's control service. An actor for
the sum would need one more process.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from dataclasses import dataclass, field

import ray
from ray.exceptions import RayError
from ray.experimental.internal_kv import (
    _internal_kv_del,
    _internal_kv_get,
    _internal_kv_list,
    _internal_kv_put,
)

_WRITE_EVERY_S = 1.0


@dataclass(slots=True)
class LiveCount:
    """The count of a run. Each engine's actor has a copy and counts its own images.

    Attributes:
        run_id: the run.
    """

    run_id: str
    _num_images: int = field(default=0, init=False)
    _written_at: float = field(default=float("-inf"), init=False)

    async def add(self) -> None:
        """Count an image. The count is written at most once a second."""
        self._num_images += 1
        now = time.monotonic()
        if now - self._written_at >= _WRITE_EVERY_S:
            self._written_at = now
            await asyncio.to_thread(self._write)

    def read(self) -> int:
        """Return the sum of the counts of all engines. Each count is about one second old."""
        values = [_internal_kv_get(key) for key in _internal_kv_list(self._prefix)]
        return sum(int(value) for value in values if value)

    def delete(self) -> None:
        """Delete the counts at the end of the run."""
        _internal_kv_del(self._prefix, del_by_prefix=True)

    def _write(self) -> None:
        key = f"{self._prefix}{ray.get_runtime_context().get_actor_id()}"
        # The count is only displayed, so an error of Ray must not make an image fail.
        with contextlib.suppress(RayError):
            _internal_kv_put(key, str(self._num_images), overwrite=True)

    @property
    def _prefix(self) -> str:
        return f"skytext-described/{self.run_id}/"
