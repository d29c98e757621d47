"""Convert typed conditions to CQL2 JSON."""

from __future__ import annotations

import json
from typing import Any

from skytext.filters.conditions import And, Compare, Condition, IsNull, Like, Not, OneOf, Or
from skytext.filters.spatial import Intersects, Spatial


def to_json(condition: Condition) -> dict[str, Any]:
    """Convert a condition to CQL2 JSON. `filter_from_json` does the opposite."""
    match condition:
        case Compare(op=op, field=field, value=value, ignore_case=ignore_case):
            name = "<>" if op == "!=" else op
            return _call(name, _column(field, ignore_case), _value(value, ignore_case))
        case OneOf(field=field, values=values, ignore_case=ignore_case):
            listed = [_value(value, ignore_case) for value in values]
            return _call("in", _column(field, ignore_case), listed)
        case Like(field=field, pattern=pattern, ignore_case=ignore_case):
            return _call("like", _column(field, ignore_case), _value(pattern, ignore_case))
        case IsNull(field=field):
            return _call("isNull", _column(field))
        case Intersects(bbox=box):
            return _call("s_intersects", _column("geometry"), {"bbox": list(box)})
        case Spatial(op=op, geometry=geometry):
            return _call(op, _column("geometry"), json.loads(geometry))
        case And(conditions=parts):
            return _call("and", *map(to_json, parts))
        case Or(conditions=parts):
            return _call("or", *map(to_json, parts))
        case Not(condition=part):
            return _call("not", to_json(part))
    raise TypeError(f"not a condition of a user's filter: {condition!r:.100}")


def _call(op: str, *args: Any) -> dict[str, Any]:
    return {"op": op, "args": list(args)}


def _column(field: str, ignore_case: bool = False) -> dict[str, Any]:
    operand = {"property": field}
    return _call("casei", operand) if ignore_case else operand


def _value(value: Any, ignore_case: bool) -> Any:
    return _call("casei", value) if ignore_case else value
