"""Compare a canary with the live version by the counts and times of their searches."""

from __future__ import annotations

import math

from skytext.config.service import CanaryConfig
from skytext.table.canary import Compared

_DEVIATIONS = 3.0
"""Standard deviations allowed for chance. Comparisons are repeated many times. At two deviations
each of them could stop a good version by chance; at three this is rare."""
_SLOW = 0.05
"""Durations are compared at the live version's 95 % quantile: this share of them is longer."""


def problem_of(found: Compared, limits: CanaryConfig) -> str | None:
    """Return why a canary is worse, or None.

    Args:
        found: the counts of both versions.
        limits: the allowed differences.
    """
    live, canary = found
    if not is_comparable(found, limits):
        return None
    both = f"; live version: {live.described}"
    allowed = live.num_failed / live.num + limits.max_error_increase
    if _at_least(canary.num_failed, canary.num) > allowed:
        return f"{canary.num_failed:,} of {canary.num:,} searches failed{both}"
    slow_s = live.quantile_s(1 - _SLOW) * limits.max_slowdown
    num_slow = canary.num_slower(slow_s)
    if _at_least(num_slow, canary.num) > _SLOW:
        return f"{num_slow:,} of {canary.num:,} searches took more than {slow_s:.2g} s{both}"
    return None


def is_comparable(found: Compared, limits: CanaryConfig) -> bool:
    """Return whether both versions have answered enough searches."""
    return min(found.live.num, found.canary.num) >= limits.min_requests


def _at_least(number: int, total: int) -> float:
    """Return the lower bound of a share, allowing for chance (Wilson's interval)."""
    z2, share = _DEVIATIONS**2, number / total
    centre = share + z2 / (2 * total)
    spread = math.sqrt(share * (1 - share) / total + z2 / (4 * total**2))
    return (centre - _DEVIATIONS * spread) / (1 + z2 / total)
