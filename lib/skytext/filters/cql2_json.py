"""Compile filters in CQL2 JSON to typed conditions.

No part of a filter is ignored. If a part is not supported, the error message names this part.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import ValidationError

from skytext.errors import ConfigError
from skytext.filters.columns import SPATIAL_NAMES, find_column
from skytext.filters.conditions import (
    And,
    Compare,
    CompareOp,
    Condition,
    IsNull,
    Like,
    Not,
    OneOf,
    Or,
    check_size,
)
from skytext.filters.literals import Value, is_date, shown
from skytext.filters.spatial import Intersects, Spatial
from skytext.geo.shapes import PlaceError, check_geojson

_MAX_NESTING = 64
_FLIPPED: Mapping[str, CompareOp] = {
    "=": "=",
    "<>": "!=",
    "<": ">",
    "<=": ">=",
    ">": "<",
    ">=": "<=",
}
_COMPARE: Mapping[str, CompareOp] = {op: "!=" if op == "<>" else op for op in _FLIPPED}  # type: ignore[misc]
_ARITHMETIC = ("+", "-", "*", "/", "^", "%", "div")
Place = tuple[str | int, ...]


class MistakeError(ConfigError):
    """A part of a filter is invalid.

    Attributes:
        place: path of the invalid part in the filter, as keys and indexes.
        node: the invalid part.
    """

    def __init__(self, message: str, place: Place, node: Any) -> None:
        super().__init__(message)
        self.place = place
        self.node = node


@dataclass(frozen=True, slots=True)
class _Property:
    name: str
    ignore_case: bool = False


@dataclass(frozen=True, slots=True)
class _Literal:
    """A value. ``is_time`` is True if the filter contains the value as a date or a timestamp."""

    value: Value
    is_time: bool = False
    ignore_case: bool = False


def filter_from_json(value: object) -> Condition:
    """Compile CQL2 JSON, for example ``{"op": "<", "args": [{"property": "gsd"}, 1]}``.

    Raises:
        ConfigError: the filter is not valid. The message contains the position of the mistake.
    """
    try:
        return compile_json(value)
    except MistakeError as error:
        place = ".".join(map(str, error.place))
        raise ConfigError(f"the filter is wrong{place and f' at {place}'}: {error}") from None


def compile_json(value: object) -> Condition:
    """Compile parsed CQL2 JSON.

    Raises:
        MistakeError: a part of the filter is invalid.
        ConfigError: the filter is too large.
    """
    _check_nesting(value)
    condition = _condition(value, ())
    check_size(condition)
    return condition


def _check_nesting(value: object) -> None:
    waiting = [(value, 1)]
    while waiting:
        some, depth = waiting.pop()
        if depth > _MAX_NESTING:
            raise ConfigError(
                f"the filter is too deep: at most {_MAX_NESTING} levels of JSON are possible"
            )
        if isinstance(some, Mapping):
            waiting += [(inner, depth + 1) for inner in some.values()]
        elif isinstance(some, (list, tuple)):
            waiting += [(inner, depth + 1) for inner in some]


def _condition(node: Any, place: Place) -> Condition:
    if not isinstance(node, Mapping) or "op" not in node:
        hint = ""
        if isinstance(node, Mapping) and "property" in node:
            hint = f"; to test a flag, write {node['property']} = true"
        raise MistakeError(f"expected a condition, such as gsd < 1{hint}", place, node)
    op, args = node["op"], node.get("args")
    compiler = _COMPILERS.get(op) if isinstance(op, str) else None
    if compiler is None:
        raise MistakeError(_unsupported(op), (*place, "op"), node)
    unknown = sorted(map(str, set(node) - {"op", "args"}))
    if unknown:
        raise MistakeError(
            f"{op} has an unknown key {shown(unknown[0])}. Only the keys op and args are possible",
            place,
            node,
        )
    if not isinstance(args, (list, tuple)):
        raise MistakeError("args must be a list", (*place, "args"), node)
    return _made(lambda: compiler(op, args, (*place, "args")), place, node)


def _made(make: Callable[[], Condition], place: Place, node: Any) -> Condition:
    """Call ``make``. If it raises an error, add the position to the error."""
    try:
        return make()
    except MistakeError:
        raise
    except PlaceError as error:
        raise MistakeError(str(error), (*place, *error.place), node) from None
    except ConfigError as error:
        raise MistakeError(str(error), place, node) from None
    except ValidationError as error:
        raise MistakeError(error.errors(include_url=False)[0]["msg"], place, node) from None


def _unsupported(op: Any) -> str:
    supported = ", ".join(name if name == "isNull" else name.upper() for name in _COMPILERS)
    if op in _ARITHMETIC:
        return f"arithmetic ({op}) is not supported. The supported operators are {supported}"
    name = shown(str(op).upper())[1:-1]
    return f"{name} is not supported. The supported operators are {supported}, CASEI"


def _counted(op: str, args: Any, wanted: int, place: Place) -> Any:
    if len(args) != wanted:
        raise MistakeError(
            f"{op.upper()} takes {wanted} arguments (given: {len(args)})",
            place,
            {"op": op, "args": args},
        )
    return args


def _group(op: str, args: Any, place: Place) -> Condition:
    if not args:
        raise MistakeError(f"{op} needs at least 1 condition", place, {"op": op, "args": args})
    parts = tuple(_condition(arg, (*place, i)) for i, arg in enumerate(args))
    return And(conditions=parts) if op == "and" else Or(conditions=parts)


def _negation(op: str, args: Any, place: Place) -> Condition:
    (arg,) = _counted(op, args, 1, place)
    return Not(condition=_condition(arg, (*place, 0)))


def _comparison(op: str, args: Any, place: Place) -> Condition:
    left, right = (_operand(arg, (*place, i)) for i, arg in enumerate(_counted(op, args, 2, place)))
    if isinstance(left, _Property) and isinstance(right, _Literal):
        return _compare(left, _COMPARE[op], right)
    if isinstance(left, _Literal) and isinstance(right, _Property):
        return _compare(right, _FLIPPED[op], left)
    if isinstance(left, _Property) and isinstance(right, _Property):
        find_column(left.name)
        raise ConfigError(
            f"{right.name} without single quotes is the name of a column, and two columns cannot "
            "be compared. Write text in single quotes, as in 'naip'"
        )
    raise ConfigError("two values cannot be compared: one side must be a column, as in gsd < 1")


def _compare(left: _Property, op: CompareOp, right: _Literal) -> Condition:
    _check_pair(left, right)
    return Compare(op=op, field=left.name, value=right.value, ignore_case=left.ignore_case)


def _check_pair(left: _Property, right: _Literal) -> None:
    kind = find_column(left.name).kind
    if right.is_time and kind != "time":
        raise ConfigError(
            f"{left.name} is not a time: use TIMESTAMP and DATE only with a time column"
        )
    if left.ignore_case != right.ignore_case:
        raise ConfigError(f"CASEI is needed on both sides: CASEI({left.name}) = CASEI('text')")


def _between(op: str, args: Any, place: Place) -> Condition:
    name, low, high = _counted(op, args, 3, place)
    field = _property(name, (*place, 0))
    return And(
        conditions=(
            _compare(field, ">=", _value(low, (*place, 1))),
            _compare(field, "<=", _value(high, (*place, 2))),
        )
    )


def _one_of(op: str, args: Any, place: Place) -> Condition:
    name, listed = _counted(op, args, 2, place)
    field = _property(name, (*place, 0))
    if not isinstance(listed, (list, tuple)):
        raise MistakeError("IN takes a list of values", (*place, 1), listed)
    values = [_value(one, (*place, 1, i)) for i, one in enumerate(listed)]
    for value in values:
        _check_pair(field, value)
    return OneOf(
        field=field.name, values=tuple(v.value for v in values), ignore_case=field.ignore_case
    )


def _like(op: str, args: Any, place: Place) -> Condition:
    name, pattern = _counted(op, args, 2, place)
    field, text = _property(name, (*place, 0)), _value(pattern, (*place, 1))
    _check_pair(field, text)
    if not isinstance(text.value, str):
        raise MistakeError(
            "LIKE takes a pattern in single quotes, as in 'S2%'", (*place, 1), pattern
        )
    return Like(field=field.name, pattern=text.value, ignore_case=field.ignore_case)


def _is_null(op: str, args: Any, place: Place) -> Condition:
    (name,) = _counted(op, args, 1, place)
    field = _property(name, (*place, 0))
    return IsNull(field="bbox" if field.name in SPATIAL_NAMES else field.name)


def _spatial(op: str, args: Any, place: Place) -> Condition:
    name, other = _counted(op, args, 2, place)
    if _property(name, (*place, 0)).name not in SPATIAL_NAMES:
        raise MistakeError(
            f"{op.upper()} needs a location as its first argument. "
            f"Example: {op.upper()}(geometry, BBOX(3, 51, 5, 53))",
            (*place, 0),
            name,
        )
    if isinstance(other, Mapping) and set(other) == {"bbox"}:
        return _made(lambda: _in_box(op, other["bbox"]), (*place, 1), other)
    return _made(lambda: in_geometry(op, other), (*place, 1), other)


def _in_box(op: str, numbers: Any) -> Condition:
    if not isinstance(numbers, (list, tuple)) or len(numbers) not in (4, 6):
        raise ConfigError("a BBOX must have four numbers: west, south, east, north")
    west, south, east, north = numbers if len(numbers) == 4 else (*numbers[:2], *numbers[3:5])
    box = Intersects(bbox=(west, south, east, north))
    if op == "s_intersects":
        return box
    east = east + 360 if west > east else east
    ring = [[west, south], [east, south], [east, north], [west, north], [west, south]]
    return in_geometry(op, {"type": "Polygon", "coordinates": [ring]})


def in_geometry(op: str, value: object) -> Condition:
    """Return a spatial condition on the footprint of an image.

    Args:
        op: ``s_intersects`` if the footprint must intersect the geometry, ``s_within`` if the
            footprint must be within the geometry.
        value: a GeoJSON geometry.

    Raises:
        ConfigError: ``value`` is not a valid geometry.
    """
    geometry = check_geojson(value)
    how: Literal["s_intersects", "s_within"] = "s_within" if op == "s_within" else "s_intersects"
    found = Spatial(op=how, geometry=json.dumps(geometry))
    box = found.shape().box
    return found if box is None or how == "s_within" else Intersects(bbox=box)


def _temporal(op: str, args: Any, place: Place) -> Condition:
    name, other = _counted(op, args, 2, place)
    field = _property(name, (*place, 0))
    if find_column(field.name).kind != "time":
        value = "INTERVAL('2024-01-01', '2024-02-01')" if op == "t_during" else "DATE('2024-01-01')"
        raise ConfigError(
            f"{op.upper()} needs a field that contains times, but {field.name!r} does not contain "
            f"times. Example: {op.upper()}(datetime, {value})"
        )
    if op != "t_during":
        return _compare(field, ">" if op == "t_after" else "<", _value(other, (*place, 1)))
    ends = other.get("interval") if isinstance(other, Mapping) and len(other) == 1 else None
    if not isinstance(ends, (list, tuple)) or len(ends) != 2:
        raise MistakeError(
            "T_DURING needs an interval as its second argument. "
            "Example: T_DURING(datetime, INTERVAL('2024-01-01', '2024-02-01'))",
            (*place, 1),
            other,
        )
    return _during(field, *(_end(end, (*place, 1, "interval", i)) for i, end in enumerate(ends)))


def _end(value: Any, place: Place) -> str | None:
    """Return the start or the end of an interval, or None if this end of the interval is open."""
    if value == "..":
        return None
    if isinstance(value, str):
        return value
    return str(_value(value, place).value)


def _during(field: _Property, start: str | None, end: str | None) -> Condition:
    # The start and the end of an interval can be a day or a moment. If it is a day, the interval
    # includes this day. If it is a moment, the interval does not include this moment.
    found: list[Condition] = []
    if start is not None:
        found.append(Compare(op=">=" if is_date(start) else ">", field=field.name, value=start))
    if end is not None:
        found.append(Compare(op="<=" if is_date(end) else "<", field=field.name, value=end))
    if not found:
        return Not(condition=IsNull(field=field.name))
    return And(conditions=tuple(found))


def _operand(node: Any, place: Place) -> _Property | _Literal:
    if isinstance(node, (bool, int, float, str)):
        return _Literal(node)
    if not isinstance(node, Mapping):
        raise MistakeError("expected a column or a value", place, node)
    if set(node) == {"property"} and isinstance(node["property"], str):
        return _Property(node["property"])
    if node.get("op") == "casei" and set(node) == {"op", "args"}:
        return _without_case(node, place)
    for name in ("date", "timestamp"):
        if set(node) == {name}:
            return _instant(name, node[name], place)
    if "op" in node:
        raise MistakeError(_unsupported(node["op"]), (*place, "op"), node)
    raise MistakeError("expected a column or a value", place, node)


def _without_case(node: Any, place: Place) -> _Property | _Literal:
    args = node["args"]
    if not isinstance(args, (list, tuple)) or len(args) != 1:
        raise MistakeError("CASEI takes one argument", place, node)
    inner = _operand(args[0], (*place, "args", 0))
    if isinstance(inner, _Property):
        return _Property(inner.name, ignore_case=True)
    if not isinstance(inner.value, str) or inner.is_time:
        raise MistakeError("CASEI can be used only with text", place, node)
    return _Literal(inner.value, ignore_case=True)


def _instant(name: str, text: Any, place: Place) -> _Literal:
    if not isinstance(text, str) or is_date(text) != (name == "date"):
        example = "DATE('2024-05-31')" if name == "date" else "TIMESTAMP('2024-05-31T12:00:00Z')"
        raise MistakeError(f"{name} must be written as in {example}", place, {name: text})
    return _Literal(text, is_time=True)


def _property(node: Any, place: Place) -> _Property:
    found = _operand(node, place)
    if not isinstance(found, _Property):
        raise MistakeError("expected a column first, and the value after it", place, node)
    return found


def _value(node: Any, place: Place) -> _Literal:
    found = _operand(node, place)
    if not isinstance(found, _Literal):
        raise MistakeError(
            "expected a value: write text in single quotes, as in 'naip'", place, node
        )
    return found


_COMPILERS: Mapping[str, Callable[[str, Any, Place], Condition]] = {
    "and": _group,
    "or": _group,
    "not": _negation,
    **dict.fromkeys(_FLIPPED, _comparison),
    "in": _one_of,
    "between": _between,
    "like": _like,
    "isNull": _is_null,
    "s_intersects": _spatial,
    "s_within": _spatial,
    "t_after": _temporal,
    "t_before": _temporal,
    "t_during": _temporal,
}
