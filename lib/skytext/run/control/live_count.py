"""Record whether an engine of a run has started, and how many images the engines have described.

The number includes images in units that are not finished, because a slow machine needs minutes for
a unit. Each engine writes its own count to the key-value store of Ray's control service. No actor
adds the counts, because an actor would need an additional process.
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
_NEVER = float("-inf")


@dataclass(slots=True)
class LiveCount:
    """The number of described images. The actor of each engine has a copy of this object.

    Each copy counts only the images of its own engine.

    Attributes:
        run_id: id of the run.
    """

    run_id: str
    _num_images: int = field(default=0, init=False)
    _written_at: float = field(default=_NEVER, init=False)

    async def begin(self) -> None:
        """Record that the engine of this actor is starting. Further calls do nothing."""
        if self._written_at == _NEVER:
            self._written_at = time.monotonic()
            await asyncio.to_thread(self._write)

    def has_begun(self) -> bool:
        """Return whether an engine of the run has started."""
        return bool(_internal_kv_list(self._prefix))

    async def add(self) -> None:
        """Add one image to the count. The count is written at most once a second."""
        self._num_images += 1
        now = time.monotonic()
        if now - self._written_at >= _WRITE_EVERY_S:
            self._written_at = now
            await asyncio.to_thread(self._write)

    def read(self) -> int:
        """Return the sum of the counts that all engines have written.

        Each count is about one second old.
        """
        values = [_internal_kv_get(key) for key in _internal_kv_list(self._prefix)]
        return sum(int(value) for value in values if value)

    def delete(self) -> None:
        """Delete the counts of all engines. Call this method at the end of the run."""
        _internal_kv_del(self._prefix, del_by_prefix=True)

    def _write(self) -> None:
        key = f"{self._prefix}{ray.get_runtime_context().get_actor_id()}"
        # The count is only displayed, so an error of Ray must not make an image fail.
        with contextlib.suppress(RayError):
            _internal_kv_put(key, str(self._num_images), overwrite=True)

    @property
    def _prefix(self) -> str:
        return f"skytext-described/{self.run_id}/"
