"""Convert values to literals for a Lance filter."""

from __future__ import annotations

import datetime as dt
import json
import math
import re
from collections.abc import Sequence
from typing import Any, Literal, TypeAlias

from pydantic import StrictBool, StrictFloat, StrictInt, StrictStr

from skytext.errors import ConfigError

Kind: TypeAlias = Literal["number", "text", "time", "boolean"]
Value: TypeAlias = StrictBool | StrictInt | StrictFloat | StrictStr

# The JSON values that count as true and as false, as literals.
BOOLEANS = {True: "'true', '1', '1.0'", False: "'false', '0', '0.0'"}


def parse_time(text: str) -> tuple[dt.datetime, dt.datetime | None]:
    """Parse an ISO 8601 string.

    Returns:
        For a time, the moment in UTC and None. For a date, the first and the last moment of the day
        in UTC. The last moment is one microsecond before the next day, because times in the table
        have a resolution of one microsecond. The start of the next day is not used, because
        9999-12-31 has no next day.

    Raises:
        ConfigError: the text is not a time.
    """
    try:
        if is_date(text):
            day = dt.date.fromisoformat(text)
            last = dt.datetime.combine(day, dt.time.max, dt.UTC)
            return dt.datetime.combine(day, dt.time.min, dt.UTC), last
        if not re.match(r"\d{4}-\d\d-\d\d[Tt ]", text):
            raise ConfigError(
                f"{shown(text)} is not a time: write 2024-05-31 or 2024-05-31T12:00:00Z"
            )
        moment = dt.datetime.fromisoformat(text.replace("z", "Z"))
        zoned = moment.replace(tzinfo=dt.UTC) if moment.tzinfo is None else moment
        return zoned.astimezone(dt.UTC), None
    except (ValueError, OverflowError) as error:
        raise ConfigError(f"{shown(text)} is not a time: {error}") from error


def is_date(text: str) -> bool:
    """Return whether a text has the form of a date without a time."""
    return re.fullmatch(r"\d{4}-\d\d-\d\d", text) is not None


def kind_of(value: Value) -> Kind:
    """Return the kind of a value."""
    if isinstance(value, bool):
        return "boolean"
    return "text" if isinstance(value, str) else "number"


def literal(value: Value) -> str:
    """Convert a text or a number to a literal.

    Raises:
        ConfigError: the number is not finite, or the text is not valid Unicode.
    """
    if isinstance(value, str):
        return text_literal(value)
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        raise ConfigError(f"the numbers in a filter must be finite numbers (given: {number:g})")
    return repr(number)


def text_literal(value: str) -> str:
    """Convert a text to a literal. Only single quotes are escaped.

    Raises:
        ConfigError: the text is not valid Unicode.
    """
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise ConfigError(f"{value!r} is not valid Unicode text") from error
    return "'" + value.replace("'", "''") + "'"


def json_text(value: Value) -> str:
    """Return a value as JSON, in the form that Lance writes.

    Only quotes, backslashes and control characters are escaped.
    """
    return json.dumps(value, ensure_ascii=False)


def moment_literal(moment: dt.datetime) -> str:
    """Convert a moment in UTC to a literal."""
    return f"timestamp '{moment.replace(tzinfo=None).isoformat(timespec='microseconds')}Z'"


def shown(text: str) -> str:
    """Return a text in quotes for an error message, shortened to at most 60 characters."""
    return repr(text if len(text) <= 60 else f"{text[:59]}…")


def joined(words: Sequence[Any]) -> str:
    """Join words to a string, with ``and`` between the words."""
    return " and ".join(map(str, words))
