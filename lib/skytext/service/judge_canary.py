"""Whether a canary is worse than the live version, from what both have answered."""

from __future__ import annotations

import math

from skytext.config.service import CanaryConfig
from skytext.table.canary import Compared

_DEVIATIONS = 3.0
"""A canary is compared again and again: one good version in a thousand may be stopped each time
at two deviations, far fewer at three."""
_SLOW = 0.05
"""Share of the live version's searches that are slower than the time that is compared."""


def problem_of(found: Compared, limits: CanaryConfig) -> str | None:
    """Return in which way a canary is worse, or None.

    Args:
        found: the searches of both versions.
        limits: how much worse it may be.
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
    """Return what a share is at least, allowing for chance (Wilson's lower bound)."""
    z2, share = _DEVIATIONS**2, number / total
    centre = share + z2 / (2 * total)
    spread = math.sqrt(share * (1 - share) / total + z2 / (4 * total**2))
    return (centre - _DEVIATIONS * spread) / (1 + z2 / total)
