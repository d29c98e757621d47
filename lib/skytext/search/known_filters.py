"""Refuse a filter on a field that no image has."""

from __future__ import annotations

from collections.abc import Mapping

from skytext.errors import CallError
from skytext.filters.conditions import Condition
from skytext.table.queries.known_fields import KnownFields

_NAMES_SHOWN = 50
_KINDS = {
    "number": "a number",
    "text": "text (write numbers without quotes)",
    "boolean": "true or false",
    "time": "a time",
}


def check_filter(where: Condition, fields: Mapping[str, KnownFields]) -> None:
    """Refuse a filter on a field that no image has.

    Args:
        where: the filter.
        fields: of each searched table, by its address.

    Raises:
        CallError: no image of any table has a field that the filter needs.
    """
    for need in where.needs():
        if any(known.has(need) for known in fields.values()):
            continue
        kind = "" if need.kind is None else f" as {_KINDS[need.kind]}"
        message = f"no image of {' or '.join(fields)} has {need.name}{kind}"
        if need.name.startswith("metadata."):
            names = sorted({name for known in fields.values() for name in known.metadata_names()})
            there = ", ".join(names[:_NAMES_SHOWN]) if names else "nothing"
            message += f" (its metadata: {there}{', …' * (len(names) > _NAMES_SHOWN)})"
        raise CallError(message)
