"""Convert a filter to a condition. The filter can have any supported format."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from skytext.filters.conditions import Condition
from skytext.filters.cql2_json import filter_from_json
from skytext.filters.cql2_text import parse_filter


def read_filter(given: str | Mapping[str, Any] | Condition) -> Condition:
    """Convert CQL2 text or parsed CQL2 JSON to a condition. A condition is returned unchanged.

    Raises:
        ConfigError: the filter is not valid.
    """
    if isinstance(given, str):
        return parse_filter(given)
    return filter_from_json(given) if isinstance(given, Mapping) else given
