"""Compare a canary with the live version by the numbers and durations of their searches."""

from __future__ import annotations

import math

from skytext.config.service import CanaryConfig
from skytext.table.versions.canary import Compared

_DEVIATIONS = 3.0
"""A difference below this number of standard deviations is treated as random. The comparison is
repeated many times. With two deviations, random differences would often stop a good version. With
three deviations this is rare."""
_SLOW = 0.05
"""A search is slow if its duration exceeds the 95 % quantile of the live version's durations,
multiplied by ``max_slowdown``. At most this share of the canary's searches may be slow."""


def problem_of(found: Compared, limits: CanaryConfig) -> str | None:
    """Return why a canary is worse than the live version, or None if it is not worse.

    Args:
        found: the numbers and durations of both versions' searches.
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
    """Return the lower bound of a share's confidence interval (Wilson score interval)."""
    z2, share = _DEVIATIONS**2, number / total
    centre = share + z2 / (2 * total)
    spread = math.sqrt(share * (1 - share) / total + z2 / (4 * total**2))
    return (centre - _DEVIATIONS * spread) / (1 + z2 / total)
