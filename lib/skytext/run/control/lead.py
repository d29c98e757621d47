"""How far the engines may be ahead of what is staged.

What is described and not yet staged is lost with the driver. Where the embedder or the store is
slower than the engines it would pile up between them, as Ray Data holds operators back by bytes
only, and descriptions are small. So a unit is let into an engine only while at most so many images
are on the way from there to their record.
"""

from __future__ import annotations

import asyncio
from typing import Any

import ray

from skytext.config.settings import Config


class Lead:
    """Counts the images between the engines and their records; an actor of the run.

    A unit that is tried again, as Ray does when a worker dies, counts once; one whose record is
    there already counts no more.

    Args:
        max_images: images that may be on their way at once; a unit larger than that goes alone.
    """

    def __init__(self, max_images: int) -> None:
        self._max_images = max_images
        self._ahead: dict[str, int] = {}
        self._settled: set[str] = set()
        self._changed = asyncio.Condition()

    async def admit(self, unit_id: str, num_images: int) -> None:
        """Wait until a unit may go into an engine."""
        async with self._changed:
            await self._changed.wait_for(lambda: self._fits(unit_id, num_images))
            if unit_id not in self._settled:
                self._ahead[unit_id] = num_images

    async def settle(self, unit_id: str) -> None:
        """Say that a unit's record is there."""
        async with self._changed:
            self._settled.add(unit_id)
            self._ahead.pop(unit_id, None)
            self._changed.notify_all()

    def _fits(self, unit_id: str, num_images: int) -> bool:
        if unit_id in self._settled or unit_id in self._ahead or not self._ahead:
            return True
        return sum(self._ahead.values()) + num_images <= self._max_images


def start_lead(config: Config) -> Any:
    """Start the actor of a run; it ends with the last handle to it.

    A commit interval's images may be ahead, or as many as keep all engines at work.
    """
    engines, job = config.caption.engine.num_engines, config.job
    at_work = engines * (job.units_in_flight + 1) * job.unit_images
    actor = ray.remote(num_cpus=0, max_restarts=-1, max_task_retries=-1)(Lead)
    # All units that wait do so inside the actor, each in a call of its own.
    waiting = 2 * engines * (job.units_in_flight + 2)
    return actor.options(max_concurrency=waiting + 8).remote(max(job.commit_images, at_work))
