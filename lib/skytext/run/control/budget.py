"""How much the runs of one command may do."""

from __future__ import annotations

import time
from dataclasses import dataclass, field


@dataclass(eq=False)
class Budget:
    """Images and time; shared by runs that follow one another.

    Attributes:
        max_images: images that may be described or embedded; None for all. What engines have in
            work when they are reached is finished, too.
        max_s: seconds from the start; None for no limit.
        num_images: done so far.
    """

    max_images: int | None = None
    max_s: float | None = None
    num_images: int = 0
    _started: float = field(default_factory=time.monotonic)

    def spend(self, num_images: int) -> None:
        """Count images that were done."""
        self.num_images += num_images

    @property
    def is_spent(self) -> bool:
        """Whether nothing more is to be begun."""
        if self.max_images is not None and self.num_images >= self.max_images:
            return True
        return self.max_s is not None and time.monotonic() - self._started >= self.max_s


NO_BUDGET = Budget()
