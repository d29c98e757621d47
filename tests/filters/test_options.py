"""Filter options that are invalid or contradict each other are refused."""

from __future__ import annotations

import math
from typing import Any

import pytest

from skytext.errors import ConfigError
from skytext.filters.options import make_filter


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"after": "2024-02-01", "before": "2024-01-01"},
            "after must be earlier than the value of before",
        ),
        (
            {"after": "2024-02-01", "before": "2024-02-01"},
            "after must be earlier than the value of before",
        ),
        ({"after": "soon"}, "'soon' is not a time"),
        ({"gsd_min": 2, "gsd_max": 1}, "minimum gsd must not be above the maximum"),
        ({"gsd_min": math.nan}, "finite numbers"),
        ({"bbox": [1, 2, 3]}, "west, south, east, north"),
        ({"bbox": [0, math.nan, 1, 2]}, "finite numbers"),
        ({"bbox": [0, 5, 1, 2]}, "south must not be above north"),
        ({"intersects": {"type": "Point"}}, "expected a list that is not empty"),
        ({"where": {"op": "s_equals", "args": []}}, "S_EQUALS is not supported"),
    ],
)
def test_contradictions_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make_filter(**options)
