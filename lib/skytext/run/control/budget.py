"""The budget that all runs of one command share."""

from __future__ import annotations

import time
from dataclasses import dataclass, field


@dataclass(eq=False)
class Budget:
    """A limit for the number of images and a limit for the time. Consecutive runs share the limits.

    Attributes:
        max_images: maximum number of images to describe or embed; None for no limit. When the limit
            is reached, the engines still finish the images that they have received. Failed images
            are not counted.
        max_s: maximum number of seconds since this object was created; None for no limit.
        num_images: number of images that the runs have finished without a failure.
        reserved: share of both limits that the current run must not use, from 0 to 1. This share is
            reserved for later runs of the command.
    """

    max_images: int | None = None
    max_s: float | None = None
    num_images: int = 0
    reserved: float = 0.0
    _started: float = field(default_factory=time.monotonic)

    def spend(self, num_images: int) -> None:
        """Add ``num_images`` to the number of finished images."""
        self.num_images += num_images

    @property
    def is_limited(self) -> bool:
        """Whether the number of images or the time is limited."""
        return self.max_images is not None or self.max_s is not None

    @property
    def is_spent(self) -> bool:
        """Whether a limit is reached. No more work may then start."""
        share = 1 - self.reserved
        if self.max_images is not None and self.num_images >= share * self.max_images:
            return True
        return self.max_s is not None and time.monotonic() - self._started >= share * self.max_s


NO_BUDGET = Budget()
