"""The budget of all runs of one command."""

from __future__ import annotations

import time
from dataclasses import dataclass, field


@dataclass(eq=False)
class Budget:
    """Number of images and time; shared by consecutive runs.

    Attributes:
        max_images: images to describe or embed; None for all. Images already in the engines at the
            limit are finished too. Failed images do not count.
        max_s: seconds from the start; None for no limit.
        num_images: images done so far.
        reserved: share of the limits that is kept for later runs of the command, 0 to 1.
    """

    max_images: int | None = None
    max_s: float | None = None
    num_images: int = 0
    reserved: float = 0.0
    _started: float = field(default_factory=time.monotonic)

    def spend(self, num_images: int) -> None:
        """Add finished images."""
        self.num_images += num_images

    @property
    def is_limited(self) -> bool:
        """Whether there is any limit."""
        return self.max_images is not None or self.max_s is not None

    @property
    def is_spent(self) -> bool:
        """Whether no more work may start."""
        share = 1 - self.reserved
        if self.max_images is not None and self.num_images >= share * self.max_images:
            return True
        return self.max_s is not None and time.monotonic() - self._started >= share * self.max_s


NO_BUDGET = Budget()
