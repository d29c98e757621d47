"""Compare a canary with the live version, to decide whether the canary is worse.

The comparison uses the number of searches, the number of failed searches and their durations.
"""

from __future__ import annotations

import math

from skytext.config.service import CanaryConfig
from skytext.table.versions.canary import Compared

_DEVIATIONS = 3.0
"""A difference below this number of standard deviations is treated as random. The comparison is
repeated many times. If this number were two, random differences would often stop a good canary.
With three, this is rare."""
_SLOW = 0.05
"""The maximum share of slow searches in the canary. To find out whether a search is slow, multiply
``max_slowdown`` by the 95 % quantile of the search durations in the live version. A search is slow
if its duration exceeds this product."""


def problem_of(found: Compared, limits: CanaryConfig) -> str | None:
    """Return the reason why a canary is worse than the live version.

    The result is None if the canary is not worse, or if there are not enough searches to compare.

    Args:
        found: the numbers and the durations of the searches in both versions.
        limits: the allowed differences between the versions.
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
    """Return true if each version has answered enough searches for a comparison."""
    return min(found.live.num, found.canary.num) >= limits.min_requests


def _at_least(number: int, total: int) -> float:
    """Return the lower bound of the confidence interval for the share ``number / total``.

    This is the Wilson score interval.
    """
    z2, share = _DEVIATIONS**2, number / total
    centre = share + z2 / (2 * total)
    spread = math.sqrt(share * (1 - share) / total + z2 / (4 * total**2))
    return (centre - _DEVIATIONS * spread) / (1 + z2 / total)
