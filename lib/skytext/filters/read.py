"""Read a filter in whatever form it is given."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from skytext.filters.conditions import Condition
from skytext.filters.cql2_json import filter_from_json
from skytext.filters.cql2_text import parse_filter


def read_filter(given: str | Mapping[str, Any] | Condition) -> Condition:
    """Return a filter from CQL2 text, parsed CQL2 JSON, or a condition, which is returned.

    Raises:
        ConfigError: it is malformed, or has no meaning.
    """
    if isinstance(given, str):
        return parse_filter(given)
    return filter_from_json(given) if isinstance(given, Mapping) else given
