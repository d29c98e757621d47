"""Compute the resources of a cluster, and the number of actors that fit on its nodes.

Ray is not needed.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

# Ray rounds resources to four decimal places, so that five times 0.2 GPUs are one GPU.
_DIGITS = 4


@dataclass(frozen=True, slots=True)
class Resources:
    """Resources of a node, a cluster or a plan."""

    num_cpus: float
    num_gpus: float

    @classmethod
    def of(cls, found: Mapping[str, float]) -> Resources:
        """Make resources from a mapping with Ray's names, which are ``CPU`` and ``GPU``."""
        return cls(float(found.get("CPU", 0)), float(found.get("GPU", 0)))

    def fits(self, other: Resources) -> bool:
        """Return whether ``other`` has at least these resources."""
        return self.num_cpus <= other.num_cpus and self.num_gpus <= other.num_gpus

    def room_for(self, one: Resources) -> int:
        """Return how many actors fit on these resources at the same time.

        Args:
            one: the resources that each actor needs. The number of CPUs must be greater than 0.
        """
        room = self.num_cpus / one.num_cpus
        if one.num_gpus:
            room = min(room, self.num_gpus / one.num_gpus)
        return math.floor(round(room, _DIGITS))

    def __str__(self) -> str:
        return f"{self.num_cpus:g} CPUs and {self.num_gpus:g} GPUs"


@dataclass(frozen=True, slots=True)
class Nodes:
    """The nodes of a cluster, grouped by node type.

    Attributes:
        kinds: for each node type, the resources of one node and the number of nodes.
    """

    kinds: tuple[tuple[Resources, int], ...]

    @property
    def total(self) -> Resources:
        """The sum of the resources of all nodes."""
        return Resources(
            sum(node.num_cpus * count for node, count in self.kinds),
            sum(node.num_gpus * count for node, count in self.kinds),
        )

    def room_for(self, one: Resources) -> int:
        """Return how many actors fit on all nodes at the same time.

        An actor cannot use the resources of two nodes.

        Args:
            one: the resources that each actor needs.
        """
        return sum(count * node.room_for(one) for node, count in self.kinds)
