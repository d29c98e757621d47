"""Which images a search looks at: typed conditions, their JSON, and the language of ``--where``.

A condition holds before the search: what it does not let through is never scored. It compiles to
a filter text in which every name is one of ours and every literal is written by us; nobody's text
reaches the table's own language. Logic is SQL's: a comparison with something that is not there is
neither true nor false, so a null never matches, negated or not. Metadata has no schema: a value is
compared with values of its own kind only, and one of another kind counts as not there. Only true
and false also mean the numbers 1 and 0, which many writers put in their place.
"""

from __future__ import annotations

import datetime as dt
import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal, NamedTuple, TypeAlias, TypeGuard

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    StrictBool,
    StrictFloat,
    StrictInt,
    StrictStr,
    TypeAdapter,
    ValidationError,
    model_validator,
)

from skytext.errors import ConfigError

MAX_TEXT_CHARS = 10_000
MAX_CONDITIONS = 100
MAX_VALUES = 1_000
MAX_DEPTH = 16
"""How deep conditions may stand in each other: the table's own parser gives up at about 50."""

Kind: TypeAlias = Literal["number", "text", "time", "boolean"]
Value: TypeAlias = StrictBool | StrictInt | StrictFloat | StrictStr


@dataclass(frozen=True, slots=True)
class Column:
    """A column of the table, or a field of its metadata.

    Attributes:
        name: as people write it.
        sql: the expression that stands for it; a JSON text for metadata.
        kind: of its values; None for metadata, where each value has its own.
    """

    name: str
    sql: str
    kind: Kind | None


class Need(NamedTuple):
    """What a condition must find somewhere in the table to make sense.

    Attributes:
        name: the column.
        kind: the kind of value that it is compared with; None where any will do.
        sql: true of the rows that have it.
    """

    name: str
    kind: Kind | None
    sql: str


def _columns() -> dict[str, Column]:
    found = [Column(name, name, "time") for name in ("datetime", "created_at")]
    found += [Column("gsd", "gsd", "number")]
    found += [
        Column(f"bbox.{side}", f"bbox.{side}", "number")
        for side in ("west", "south", "east", "north")
    ]
    # Lance takes a literal for a whole-number column only if it is one that fits.
    found += [
        Column(name, f"cast({name} as double)", "number")
        for name in ("width_px", "height_px", "byte_length", "num_variants")
    ]
    found += [
        Column(name, name, "text")
        for name in (
            "collection",
            "archive",
            "shard",
            "member",
            "uri",
            "format",
            "image_id",
            "content_sha256",
            "caption_model",
            "prompt_id",
            "run_id",
        )
    ]
    return {column.name: column for column in found}


COLUMNS = _columns()
"""What can be filtered on, besides ``bbox intersects`` and ``metadata.…``."""

# Each level is a call within a call for Lance, which overflows its stack at about 45.
_MAX_SEGMENTS = 16
_SEGMENT = r'(?:[\w:\-]+|"(?:[^"]|"")*")'
_FIELD = re.compile(rf"[^\W\d][\w:\-]*(?:\.{_SEGMENT})*")


def find_column(name: str) -> Column:
    """Return the column of a name such as ``gsd``, ``bbox.west`` or ``metadata."a b".c``.

    Raises:
        ConfigError: there is no such column.
    """
    if name in COLUMNS:
        return COLUMNS[name]
    if name == "bbox":
        raise ConfigError("bbox is filtered with: bbox intersects (west, south, east, north)")
    if name == "metadata":
        raise ConfigError("metadata is filtered by field: metadata.NAME")
    if not _FIELD.fullmatch(name) or not name.startswith("metadata."):
        raise ConfigError(
            f"there is no column {_shown(name)} to filter on; there are {', '.join(COLUMNS)}, "
            "bbox intersects (west, south, east, north), and metadata.NAME for what the source said"
        )
    segments = re.findall(rf"\.({_SEGMENT})", name)
    if len(segments) > _MAX_SEGMENTS:
        raise ConfigError(
            f"{_shown(name)} goes {len(segments)} levels into metadata: at most {_MAX_SEGMENTS}"
        )
    sql = "metadata"
    for segment in segments:
        key = segment[1:-1].replace('""', '"') if segment.startswith('"') else segment
        sql = f"json_get({sql}, {_text(key)})"
    return Column(name, f"json_extract({sql}, '$')", None)


class _Condition(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    def sql(self) -> str:
        """Return the filter text."""
        return self._sql(negated=False)

    def needs(self) -> Iterator[Need]:
        """Yield what the table must have: nothing where a null is asked for."""
        yield from self._needs(negated=False)

    def parts(self) -> Sequence[Condition]:
        """Return the conditions that this one is made of."""
        return ()

    def _sql(self, *, negated: bool) -> str:
        # Negations are carried inwards to the comparisons: no null matches one of those either.
        raise NotImplementedError

    def _needs(self, *, negated: bool) -> Iterator[Need]:
        raise NotImplementedError

    def _null(self, *, negated: bool) -> str | None:
        """Return the field of which a null is asked for, and nothing else."""
        return None


# As Lance writes the JSON values that mean them.
_BOOLEANS = {True: "'true', '1', '1.0'", False: "'false', '0', '0.0'"}

CompareOp: TypeAlias = Literal["=", "!=", "<", "<=", ">", ">="]
_OPPOSITE: Mapping[CompareOp, CompareOp] = {
    "=": "!=",
    "!=": "=",
    "<": ">=",
    ">=": "<",
    "<=": ">",
    ">": "<=",
}


class Compare(_Condition):
    """A column against a value, e.g. ``gsd < 1`` or ``metadata.sensor = 'S2'``.

    A time is an ISO 8601 text, UTC where it names no zone. A date stands for its whole day:
    ``datetime <= '2024-01-31'`` includes the evening.
    """

    op: CompareOp
    field: str
    value: Value

    @model_validator(mode="after")
    def _check(self) -> Compare:
        _check_values(self.field, [self.value])
        if isinstance(self.value, bool) and self.op not in ("=", "!="):
            raise ConfigError(f"{self.op} does not order true and false: use = or !=")
        return self

    def _sql(self, *, negated: bool) -> str:
        op = _OPPOSITE[self.op] if negated else self.op
        column = find_column(self.field)
        if column.kind == "time":
            return _compare_time(column, op, str(self.value))
        if column.kind is not None:
            return _guarded(column.sql, op, _literal(self.value))
        if isinstance(self.value, bool):
            wanted = self.value if op == "=" else not self.value
            return f"{column.sql} IN ({_BOOLEANS[wanted]})"
        if isinstance(self.value, str):
            # Without the closing quote, which would come after the text's first blank.
            literal = _text(_json(self.value)[:-1])
            return f"({_has(column, 'text')} AND left({column.sql}, -1) {op} {literal})"
        return _guarded(_number(column), op, _literal(self.value))

    def _needs(self, *, negated: bool) -> Iterator[Need]:
        yield _need(self.field, self.value)


class OneOf(_Condition):
    """A column is one of some values, e.g. ``collection in ('naip', 'sentinel-2')``."""

    op: Literal["in"] = "in"
    field: str
    values: Annotated[tuple[Value, ...], Field(min_length=1, max_length=MAX_VALUES)]

    @model_validator(mode="after")
    def _check(self) -> OneOf:
        _check_values(self.field, self.values)
        if find_column(self.field).kind == "time":
            raise ConfigError(f"{self.field} is compared with < <= > >= or =, not with a list")
        return self

    def _sql(self, *, negated: bool) -> str:
        column = find_column(self.field)
        inside = "NOT IN" if negated else "IN"
        if column.kind is not None:
            return _guarded(column.sql, inside, f"({', '.join(map(_literal, self.values))})")
        if isinstance(self.values[0], (bool, str)):
            kind = _kind(self.values[0])
            texts = ", ".join(
                _BOOLEANS[value] if isinstance(value, bool) else _text(_json(value))
                for value in self.values
            )
            return f"({_has(column, kind)} AND {column.sql} {inside} ({texts}))"
        return _guarded(_number(column), inside, f"({', '.join(map(_literal, self.values))})")

    def _needs(self, *, negated: bool) -> Iterator[Need]:
        yield _need(self.field, self.values[0])


class IsNull(_Condition):
    """The source said nothing: ``gsd is null``. The opposite is `Not` of it."""

    op: Literal["is null"] = "is null"
    field: str

    @model_validator(mode="after")
    def _check(self) -> IsNull:
        if self.field != "bbox":
            find_column(self.field)
        return self

    def _sql(self, *, negated: bool) -> str:
        if self.field == "bbox":
            return f"bbox.west IS {'NOT ' if negated else ''}NULL"
        column = find_column(self.field)
        if column.kind is not None:
            return f"{column.sql} IS {'NOT ' if negated else ''}NULL"
        if negated:
            return f"({column.sql} IS NOT NULL AND {column.sql} != 'null')"
        return f"({column.sql} IS NULL OR {column.sql} = 'null')"

    def _needs(self, *, negated: bool) -> Iterator[Need]:
        if negated:
            yield Need(self.field, None, self._sql(negated=True))

    def _null(self, *, negated: bool) -> str | None:
        return None if negated else self.field


class Intersects(_Condition):
    """The image's ``bbox`` and this one have a point in common; edges that touch do.

    West, south, east, north in degrees. West > east crosses the antimeridian, in this box as in the
    images'; longitudes 180 and -180 are the same place.
    """

    op: Literal["intersects"] = "intersects"
    bbox: tuple[float, float, float, float]

    @model_validator(mode="after")
    def _check(self) -> Intersects:
        west, south, east, north = self.bbox
        shown = ", ".join(f"{number:g}" for number in self.bbox)
        if not all(map(math.isfinite, self.bbox)):
            raise ConfigError(f"a bbox is made of finite numbers (given: {shown})")
        if not (-90 <= south <= 90 and -90 <= north <= 90):
            raise ConfigError(
                f"latitudes must be -90 to 90 (given: south {south:g}, north {north:g}); a bbox is "
                "west, south, east, north"
            )
        if south > north:
            raise ConfigError(
                f"south must not be above north (given: south {south:g}, north {north:g}); a bbox "
                "is west, south, east, north"
            )
        if not (-180 <= west <= 180 and -180 <= east <= 180):
            raise ConfigError(
                f"longitudes must be -180 to 180 (given: west {west:g}, east {east:g}); across the "
                "antimeridian west is above east: 170, -20, -170, 20"
            )
        return self

    def _sql(self, *, negated: bool) -> str:
        west, south, east, north = map(_literal, self.bbox)
        crosses, plain = "bbox.west > bbox.east", "bbox.west <= bbox.east"
        if negated:
            left, right = f"bbox.west > {east}", f"bbox.east < {west}"
            if self.bbox[0] > self.bbox[2]:
                apart = f"({plain} AND {left} AND {right})"
            else:
                apart = f"(({plain} AND ({left} OR {right})) OR ({crosses} AND {left} AND {right}))"
                if self.bbox[2] == 180:
                    apart = f"({apart} AND bbox.west != -180.0)"
                if self.bbox[0] == -180:
                    apart = f"({apart} AND bbox.east != 180.0)"
            return f"(bbox.south > {north} OR bbox.north < {south} OR {apart})"
        left, right = f"bbox.west <= {east}", f"bbox.east >= {west}"
        if self.bbox[0] > self.bbox[2]:
            meets = f"{crosses} OR {left} OR {right}"
        else:
            meets = f"({left} AND {right}) OR ({crosses} AND ({left} OR {right}))"
            if self.bbox[2] == 180:
                meets += " OR bbox.west = -180.0"
            if self.bbox[0] == -180:
                meets += " OR bbox.east = 180.0"
        return f"(bbox.south <= {north} AND bbox.north >= {south} AND ({meets}))"

    def _needs(self, *, negated: bool) -> Iterator[Need]:
        yield Need("bbox", None, "bbox.west IS NOT NULL")


class _Many(_Condition):
    conditions: Annotated[tuple[Condition, ...], Field(min_length=1)]

    def parts(self) -> Sequence[Condition]:
        return self.conditions

    def _all_needs(self, *, negated: bool, one_is_enough: bool) -> Iterator[Need]:
        # gsd < 1 or gsd is null: where no image has a gsd, all of them match.
        nulls = {part._null(negated=negated) for part in self.conditions if one_is_enough}
        for part in self.conditions:
            for need in part._needs(negated=negated):
                if need.name not in nulls:
                    yield need

    def _joined(self, word: str, negated: bool) -> str:
        parts = [condition._sql(negated=negated) for condition in self.conditions]
        return parts[0] if len(parts) == 1 else f"({f' {word} '.join(parts)})"


class And(_Many):
    """All of some conditions."""

    op: Literal["and"] = "and"

    def _sql(self, *, negated: bool) -> str:
        return self._joined("OR" if negated else "AND", negated)

    def _needs(self, *, negated: bool) -> Iterator[Need]:
        yield from self._all_needs(negated=negated, one_is_enough=negated)


class Or(_Many):
    """At least one of some conditions."""

    op: Literal["or"] = "or"

    def _sql(self, *, negated: bool) -> str:
        return self._joined("AND" if negated else "OR", negated)

    def _needs(self, *, negated: bool) -> Iterator[Need]:
        yield from self._all_needs(negated=negated, one_is_enough=not negated)


class Not(_Condition):
    """The opposite of a condition."""

    op: Literal["not"] = "not"
    condition: Condition

    def _sql(self, *, negated: bool) -> str:
        return self.condition._sql(negated=not negated)

    def parts(self) -> Sequence[Condition]:  # noqa: D102
        return (self.condition,)

    def _needs(self, *, negated: bool) -> Iterator[Need]:
        yield from self.condition._needs(negated=not negated)

    def _null(self, *, negated: bool) -> str | None:
        return self.condition._null(negated=not negated)


Condition: TypeAlias = Annotated[
    Compare | OneOf | IsNull | Intersects | And | Or | Not, Field(discriminator="op")
]

for _model in (_Many, And, Or, Not):
    _model.model_rebuild()
_ADAPTER: TypeAdapter[Condition] = TypeAdapter(Condition)


def condition_from_json(value: object) -> Condition:
    """Read a condition from parsed JSON, e.g. ``{"op": "<", "field": "gsd", "value": 1}``.

    Raises:
        ConfigError: it is none, or it cannot be meant.
    """
    try:
        condition = _ADAPTER.validate_python(value)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(map(str, first["loc"])) or "filter"
        raise ConfigError(f"the filter is wrong at {where}: {first['msg']}") from error
    check_size(condition)
    return condition


def check_size(condition: Condition) -> None:
    """Refuse a condition that is too large to be a person's.

    Raises:
        ConfigError: too many conditions, or too deep in each other.
    """
    waiting = [(condition, 1)]
    num_conditions = 0
    while waiting:
        some, depth = waiting.pop()
        num_conditions += 1
        if depth > MAX_DEPTH:
            raise ConfigError(f"the filter is too deep: at most {MAX_DEPTH} levels")
        if num_conditions > MAX_CONDITIONS:
            raise ConfigError(f"the filter has too many conditions: at most {MAX_CONDITIONS}")
        waiting += [(part, depth + 1) for part in some.parts()]


def parse_time(text: str) -> tuple[dt.datetime, dt.datetime | None]:
    """Return the moment of an ISO 8601 text, in UTC, and for a date alone the day's last one.

    The last is a microsecond before the next day, as fine as the table's times are: after
    9999-12-31 there is no next day.

    Raises:
        ConfigError: it is none.
    """
    try:
        if re.fullmatch(r"\d{4}-\d\d-\d\d", text):
            day = dt.date.fromisoformat(text)
            last = dt.datetime.combine(day, dt.time.max, dt.UTC)
            return dt.datetime.combine(day, dt.time.min, dt.UTC), last
        if not re.match(r"\d{4}-\d\d-\d\d[Tt ]", text):
            raise ConfigError(
                f"{_shown(text)} is no time: write 2024-05-31 or 2024-05-31T12:00:00Z"
            )
        moment = dt.datetime.fromisoformat(text.replace("z", "Z"))
        zoned = moment.replace(tzinfo=dt.UTC) if moment.tzinfo is None else moment
        return zoned.astimezone(dt.UTC), None
    except (ValueError, OverflowError) as error:
        raise ConfigError(f"{_shown(text)} is no time: {error}") from error


def _guarded(left: str, op: str, right: str) -> str:
    """Return a comparison that no null passes, whatever an optimizer makes of it.

    Lance 14 takes ``x NOT IN (1) OR x NOT IN (2)`` for true, of nulls too.
    """
    compared = f"{left} {op} {right}"
    return f"({left} IS NOT NULL AND {compared})" if op in ("!=", "NOT IN") else compared


def _compare_time(column: Column, op: CompareOp, text: str) -> str:
    start, end = parse_time(text)
    first = _moment(start)
    if end is None:
        return f"{column.sql} {op} {first}"
    last = _moment(end)
    if op == "=":
        return f"({column.sql} >= {first} AND {column.sql} <= {last})"
    if op == "!=":
        return f"({column.sql} < {first} OR {column.sql} > {last})"
    if op in ("<=", ">"):
        return f"{column.sql} {op} {last}"
    return f"{column.sql} {op} {first}"


def _check_values(field: str, values: Sequence[Value]) -> None:
    column = find_column(field)
    kinds = {_kind(value) for value in values}
    for value in values:
        if _is_number(value):
            _literal(value)
        elif isinstance(value, str):
            _text(value)
    if len(kinds) > 1:
        raise ConfigError(f"the values for {field} must be of one kind, not {_and(sorted(kinds))}")
    (kind,) = kinds
    if column.kind == "time":
        if kind != "text":
            raise ConfigError(f"{field} is a time: compare it with text such as '2024-05-31'")
        for value in values:
            parse_time(str(value))
    elif column.kind is not None and kind != column.kind:
        example = "'text' in single quotes" if column.kind == "text" else "a number without quotes"
        raise ConfigError(f"{field} is a {column.kind} column: compare it with {example}")


def _kind(value: Value) -> Kind:
    if isinstance(value, bool):
        return "boolean"
    return "text" if isinstance(value, str) else "number"


def _is_number(value: Value) -> TypeGuard[int | float]:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _need(field: str, value: Value) -> Need:
    column = find_column(field)
    if column.kind is not None:
        return Need(field, None, f"{column.sql} IS NOT NULL")
    kind = _kind(value)
    return Need(field, kind, _has(column, kind))


def _has(column: Column, kind: Kind) -> str:
    """Return the test whether a metadata field is of a kind: `json_extract` gives its JSON text."""
    if kind == "text":
        return f"left({column.sql}, 1) = '\"'"
    if kind == "boolean":
        return f"{column.sql} IN ({_BOOLEANS[True]}, {_BOOLEANS[False]})"
    return f"{_number(column)} IS NOT NULL"


def _number(column: Column) -> str:
    # json_get_float would take '5' and true for numbers, and fail on a list.
    return f"try_cast({column.sql} as double)"


def _literal(value: Value) -> str:
    if isinstance(value, str):
        return _text(value)
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        raise ConfigError(f"a filter compares with finite numbers (given: {number:g})")
    return repr(number)


def _text(value: str) -> str:
    """Return a literal: only the quote itself means something inside one."""
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise ConfigError(f"{value!r} is no valid Unicode text") from error
    return "'" + value.replace("'", "''") + "'"


def _json(value: Value) -> str:
    # As Lance writes it back: everything as it is but quotes, backslashes and control characters.
    return json.dumps(value, ensure_ascii=False)


def _moment(moment: dt.datetime) -> str:
    return f"timestamp '{moment.replace(tzinfo=None).isoformat(timespec='microseconds')}Z'"


def _shown(text: str) -> str:
    return repr(text if len(text) <= 60 else f"{text[:59]}…")


def _and(words: Sequence[Any]) -> str:
    return " and ".join(map(str, words))
