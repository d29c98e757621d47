"""Check that the fields in a filter exist in the searched tables."""

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
    """For each field of a filter, check that at least one image has this field.

    Args:
        where: the filter.
        fields: the known fields of each searched table. The keys are the addresses of the tables.

    Raises:
        CallError: the filter uses a field, and no image in any table has this field.
    """
    for need in where.needs():
        if any(known.has(need) for known in fields.values()):
            continue
        kind = "" if need.kind is None else f" as {_KINDS[need.kind]}"
        message = f"no image of {' or '.join(fields)} has the field {need.name}{kind}"
        if need.name.startswith("metadata."):
            names = sorted({name for known in fields.values() for name in known.metadata_names()})
            there = ", ".join(names[:_NAMES_SHOWN]) if names else "nothing"
            message += f" (the metadata fields are: {there}{', …' * (len(names) > _NAMES_SHOWN)})"
        raise CallError(message)
