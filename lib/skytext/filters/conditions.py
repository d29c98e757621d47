"""Typed conditions. A filter is a condition.

Conditions are applied before the search, so images that do not match are not scored. A condition is
compiled to a filter string for Lance. This module validates or escapes every name and every value
in this string. So text from a user is never interpreted as filter syntax.

As in SQL, a comparison with a missing value is neither true nor false. So if a value is missing,
the image does not match the comparison, and does not match the negated comparison. Metadata has no
schema. So a comparison uses only metadata values of the same kind. Values of another kind are
treated as missing. There is one exception. A comparison with true also matches the number 1, and a
comparison with false also matches the number 0, because many sources write these numbers.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Literal, TypeAlias

from pydantic import Field, StrictStr, model_validator

from skytext.errors import ConfigError
from skytext.filters.base import BaseCondition
from skytext.filters.columns import Column, Need, find_column
from skytext.filters.literals import (
    BOOLEANS,
    Kind,
    Value,
    joined,
    json_text,
    kind_of,
    literal,
    moment_literal,
    parse_time,
    text_literal,
)
from skytext.filters.spatial import HAS_BBOX, Intersects, Rows, Spatial

MAX_CONDITIONS = 100
MAX_GEOMETRIES = 8
"""Maximum number of geometries. Each geometry is compared with all rows in its bounding box."""
MAX_VALUES = 1_000
MAX_PATTERN_CHARS = 200
MAX_DEPTH = 16
"""Maximum number of nested levels of conditions. Lance's parser fails at about 50 levels."""

CompareOp: TypeAlias = Literal["=", "!=", "<", "<=", ">", ">="]
_OPPOSITE: Mapping[CompareOp, CompareOp] = {
    "=": "!=",
    "!=": "=",
    "<": ">=",
    ">=": "<",
    "<=": ">",
    ">": "<=",
}


class Compare(BaseCondition):
    """A comparison of a column with a value: ``gsd < 1`` or ``metadata.sensor = 'S2'``.

    A time is an ISO 8601 string. A time without a time zone is in UTC. A date means the whole day.
    For example, ``datetime <= '2024-01-31'`` includes the end of this day. ``ignore_case`` is
    allowed only if the value is a text.
    """

    op: CompareOp
    field: str
    value: Value
    ignore_case: bool = False

    @model_validator(mode="after")
    def _check(self) -> Compare:
        _check_values(self.field, [self.value], ignore_case=self.ignore_case)
        if isinstance(self.value, bool) and self.op not in ("=", "!="):
            raise ConfigError(f"{self.op} cannot compare true and false. Use = or !=")
        return self

    def _sql(self, *, negated: bool) -> str:
        op = _OPPOSITE[self.op] if negated else self.op
        column = find_column(self.field)
        if self.ignore_case:
            return _in_lower_case(column, op, [self.value])
        if column.kind == "time":
            return _compare_time(column, op, str(self.value))
        if column.kind is not None:
            return _guarded(column.sql, op, literal(self.value))
        if isinstance(self.value, bool):
            wanted = self.value if op == "=" else not self.value
            return f"{column.sql} IN ({BOOLEANS[wanted]})"
        if isinstance(self.value, str):
            # Compare the JSON strings without their closing quotes. In the sort order, a quote
            # comes after a space. So with the closing quotes, "a" would come after "a b".
            text = text_literal(json_text(self.value)[:-1])
            return f"({_has(column, 'text')} AND left({column.sql}, -1) {op} {text})"
        return _guarded(_number(column), op, literal(self.value))

    def _needs(self, *, negated: bool) -> Iterator[Need]:
        yield _need(self.field, self.value)


class OneOf(BaseCondition):
    """A test whether a value is in a list: ``collection in ('naip', 'sentinel-2')``."""

    op: Literal["in"] = "in"
    field: str
    values: Annotated[tuple[Value, ...], Field(min_length=1, max_length=MAX_VALUES)]
    ignore_case: bool = False

    @model_validator(mode="after")
    def _check(self) -> OneOf:
        _check_values(self.field, self.values, ignore_case=self.ignore_case)
        if find_column(self.field).kind == "time":
            raise ConfigError(f"{self.field} cannot be compared with a list. Use <, <=, >, >= or =")
        return self

    def _sql(self, *, negated: bool) -> str:
        column = find_column(self.field)
        inside = "NOT IN" if negated else "IN"
        if self.ignore_case:
            return _in_lower_case(column, inside, self.values)
        if column.kind is not None:
            return _guarded(column.sql, inside, f"({', '.join(map(literal, self.values))})")
        if isinstance(self.values[0], (bool, str)):
            kind = kind_of(self.values[0])
            texts = ", ".join(
                BOOLEANS[value] if isinstance(value, bool) else text_literal(json_text(value))
                for value in self.values
            )
            return f"({_has(column, kind)} AND {column.sql} {inside} ({texts}))"
        return _guarded(_number(column), inside, f"({', '.join(map(literal, self.values))})")

    def _needs(self, *, negated: bool) -> Iterator[Need]:
        yield _need(self.field, self.values[0])


class Like(BaseCondition):
    """A test whether a text matches a pattern.

    ``%`` matches any text, and ``_`` matches any character. To match the characters %, _ and \\
    themselves, write ``\\%``, ``\\_`` and ``\\\\``.
    """

    op: Literal["like"] = "like"
    field: str
    pattern: StrictStr
    ignore_case: bool = False

    @model_validator(mode="after")
    def _check(self) -> Like:
        _check_values(self.field, [self.pattern], ignore_case=True)
        if re.fullmatch(r"(?:[^\\]|\\[\\%_])*", self.pattern, re.DOTALL) is None:
            raise ConfigError(r"in a pattern, \ must be followed by %, _ or \, e.g. 'S2\_%'")
        if len(self.pattern) > MAX_PATTERN_CHARS:
            raise ConfigError(f"a pattern has at most {MAX_PATTERN_CHARS} characters")
        return self

    def _sql(self, *, negated: bool) -> str:
        column = find_column(self.field)
        pattern = self.pattern.lower() if self.ignore_case else self.pattern
        text = f"lower({column.sql})" if self.ignore_case else column.sql
        if column.kind is None:
            negation = "NOT " if negated else ""
            matches = f"regexp_like({text}, {text_literal(_regex(pattern))})"
            return f"({_has(column, 'text')} AND {negation}{matches})"
        word = "NOT LIKE" if negated else "LIKE"
        return f"({text} IS NOT NULL AND {text} {word} {text_literal(pattern)})"

    def _needs(self, *, negated: bool) -> Iterator[Need]:
        yield _need(self.field, self.pattern)


class IsNull(BaseCondition):
    """A test whether a value is missing: ``gsd is null``. For the opposite test, use `Not`."""

    op: Literal["is null"] = "is null"
    field: str

    @model_validator(mode="after")
    def _check(self) -> IsNull:
        if self.field != "bbox":
            find_column(self.field)
        return self

    def _sql(self, *, negated: bool) -> str:
        if self.field == "bbox":
            return HAS_BBOX if negated else "bbox.west IS NULL"
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


class _Many(BaseCondition):
    conditions: Annotated[tuple[Condition, ...], Field(min_length=1)]

    def parts(self) -> Sequence[Condition]:
        return self.conditions

    def _all_needs(self, *, negated: bool, one_is_enough: bool) -> Iterator[Need]:
        # The condition "gsd < 1 or gsd is null" does not need the field gsd. If no image has a gsd,
        # all images match.
        nulls = {part._null(negated=negated) for part in self.conditions if one_is_enough}
        for part in self.conditions:
            for need in part._needs(negated=negated):
                if need.name not in nulls:
                    yield need

    def _joined(self, word: str, negated: bool) -> str:
        parts = [condition._sql(negated=negated) for condition in self.conditions]
        return parts[0] if len(parts) == 1 else f"({f' {word} '.join(parts)})"


class And(_Many):
    """A condition that is true if all conditions in ``conditions`` are true."""

    op: Literal["and"] = "and"

    def _sql(self, *, negated: bool) -> str:
        return self._joined("OR" if negated else "AND", negated)

    def _needs(self, *, negated: bool) -> Iterator[Need]:
        yield from self._all_needs(negated=negated, one_is_enough=negated)


class Or(_Many):
    """A condition that is true if at least one condition in ``conditions`` is true."""

    op: Literal["or"] = "or"

    def _sql(self, *, negated: bool) -> str:
        return self._joined("AND" if negated else "OR", negated)

    def _needs(self, *, negated: bool) -> Iterator[Need]:
        yield from self._all_needs(negated=negated, one_is_enough=not negated)


class Not(BaseCondition):
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
    Compare | OneOf | Like | IsNull | Intersects | Spatial | Rows | And | Or | Not,
    Field(discriminator="op"),
]

for _model in (_Many, And, Or, Not):
    _model.model_rebuild()


def check_size(condition: Condition) -> None:
    """Check that a condition is not too large.

    Raises:
        ConfigError: there are too many conditions or geometries, or the conditions are nested too
            deeply.
    """
    waiting: list[tuple[BaseCondition, int]] = [(condition, 1)]
    num_conditions = num_geometries = 0
    while waiting:
        some, depth = waiting.pop()
        num_conditions += 1
        num_geometries += isinstance(some, Spatial)
        if depth > MAX_DEPTH:
            raise ConfigError(f"the filter is too deep: at most {MAX_DEPTH} levels are possible")
        if num_conditions > MAX_CONDITIONS:
            raise ConfigError(
                f"the filter has too many conditions: at most {MAX_CONDITIONS} are possible"
            )
        if num_geometries > MAX_GEOMETRIES:
            raise ConfigError(
                f"the filter has too many geometries: at most {MAX_GEOMETRIES} are possible, not "
                "counting boxes. Join polygons into one MULTIPOLYGON"
            )
        waiting += [(part, depth + 1) for part in some.parts()]


def _guarded(left: str, op: str, right: str) -> str:
    """Return a comparison as a Lance filter that never matches null.

    The filter needs an additional test for null, because Lance 14 simplifies some filters. For
    example, Lance replaces ``x NOT IN (1) OR x NOT IN (2)`` by true, which also matches null.
    """
    compared = f"{left} {op} {right}"
    return f"({left} IS NOT NULL AND {compared})" if op in ("!=", "NOT IN") else compared


def _in_lower_case(column: Column, op: str, values: Sequence[Value]) -> str:
    """Return a case-insensitive comparison of a text column with one value or with a list."""
    there, left = f"{column.sql} IS NOT NULL", f"lower({column.sql})"
    texts = [str(value) for value in values]
    if column.kind is None:
        # The value of a metadata field is a JSON string. Compare it without the closing quote.
        there, left = _has(column, "text"), f"left({left}, -1)"
        texts = [json_text(text)[:-1] for text in texts]
    right = ", ".join(f"lower({text_literal(text)})" for text in texts)
    return f"({there} AND {left} {op} {f'({right})' if op.endswith('IN') else right})"


# Regular expression for one character in a JSON string.
_CHARACTER = r"""(?:[^"\\]|\\u[0-9a-f]{4}|\\[^u])"""


def _regex(pattern: str) -> str:
    """Convert the pattern of a `Like` to a regular expression that matches JSON strings."""
    found = []
    for word in re.findall(r"\\?.", pattern, re.DOTALL):
        if word in ("%", "_"):
            found.append(f"{_CHARACTER}*" if word == "%" else _CHARACTER)
        else:
            found.append(re.escape(json_text(word[-1])[1:-1]))
    return f'^"{"".join(found)}"$'


def _compare_time(column: Column, op: CompareOp, text: str) -> str:
    start, end = parse_time(text)
    first = moment_literal(start)
    if end is None:
        return f"{column.sql} {op} {first}"
    last = moment_literal(end)
    if op == "=":
        return f"({column.sql} >= {first} AND {column.sql} <= {last})"
    if op == "!=":
        return f"({column.sql} < {first} OR {column.sql} > {last})"
    if op in ("<=", ">"):
        return f"{column.sql} {op} {last}"
    return f"{column.sql} {op} {first}"


def _check_values(field: str, values: Sequence[Value], *, ignore_case: bool) -> None:
    column = find_column(field)
    kinds = {kind_of(value) for value in values}
    if ignore_case and (column.kind not in (None, "text") or kinds != {"text"}):
        raise ConfigError(
            f"LIKE and CASEI can compare only text, but {field} or its value is not text"
        )
    for value in values:
        if not isinstance(value, bool):
            literal(value)
    if len(kinds) > 1:
        raise ConfigError(
            f"the values for {field} must be of one kind, not {joined(sorted(kinds))}"
        )
    (kind,) = kinds
    if column.kind == "time":
        if kind != "text":
            raise ConfigError(f"{field} is a time: compare it with text such as '2024-05-31'")
        for value in values:
            parse_time(str(value))
    elif column.kind is not None and kind != column.kind:
        example = "'text' in single quotes" if column.kind == "text" else "a number without quotes"
        raise ConfigError(f"{field} is a {column.kind} column: compare it with {example}")


def _need(field: str, value: Value) -> Need:
    column = find_column(field)
    if column.kind is not None:
        return Need(field, None, f"{column.sql} IS NOT NULL")
    kind = kind_of(value)
    return Need(field, kind, _has(column, kind))


def _has(column: Column, kind: Kind) -> str:
    """Return a Lance expression that is true if a metadata field has a value of ``kind``."""
    if kind == "text":
        return f"left({column.sql}, 1) = '\"'"
    if kind == "boolean":
        return f"{column.sql} IN ({BOOLEANS[True]}, {BOOLEANS[False]})"
    return f"{_number(column)} IS NOT NULL"


def _number(column: Column) -> str:
    # json_get_float is not used, because it accepts '5' and true as numbers, and fails if the value
    # is a list.
    return f"try_cast({column.sql} as double)"
