"""What the nodes of a cluster offer, and how many actors they have room for (no Ray)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

# Ray counts resources in ten-thousandths: five times 0.2 GPUs are one GPU.
_DIGITS = 4


@dataclass(frozen=True, slots=True)
class Resources:
    """What a node or a cluster offers, or a plan asks for."""

    num_cpus: float
    num_gpus: float

    @classmethod
    def of(cls, found: Mapping[str, float]) -> Resources:
        """Read resources under Ray's own names, ``CPU`` and ``GPU``."""
        return cls(float(found.get("CPU", 0)), float(found.get("GPU", 0)))

    def fits(self, other: Resources) -> bool:
        """Return whether ``other`` offers at least as much."""
        return self.num_cpus <= other.num_cpus and self.num_gpus <= other.num_gpus

    def room_for(self, one: Resources) -> int:
        """Return how many actors that ask for ``one``, with CPUs, fit at once."""
        room = self.num_cpus / one.num_cpus
        if one.num_gpus:
            room = min(room, self.num_gpus / one.num_gpus)
        return math.floor(round(room, _DIGITS))

    def __str__(self) -> str:
        return f"{self.num_cpus:g} CPUs and {self.num_gpus:g} GPUs"


@dataclass(frozen=True, slots=True)
class Nodes:
    """The nodes of a cluster, by kind.

    Attributes:
        kinds: what one node of a kind offers, and the number of nodes of this kind.
    """

    kinds: tuple[tuple[Resources, int], ...]

    @property
    def total(self) -> Resources:
        """What all nodes offer together."""
        return Resources(
            sum(node.num_cpus * count for node, count in self.kinds),
            sum(node.num_gpus * count for node, count in self.kinds),
        )

    def room_for(self, one: Resources) -> int:
        """Return how many actors fit, each as a whole on one node."""
        return sum(count * node.room_for(one) for node, count in self.kinds)
