"""The language of ``--where``: one rule a line below, read by a LALR parser.

Keywords in any case; text in single quotes, doubled inside; a metadata field whose name is no word
stands in double quotes: ``metadata."cloud cover (%)" < 5``.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import cache
from typing import TypeVar

from lark import Lark, Token, Tree, UnexpectedCharacters, UnexpectedInput, UnexpectedToken
from pydantic import ValidationError

from skytext.errors import ConfigError
from skytext.filters.conditions import (
    MAX_DEPTH,
    MAX_TEXT_CHARS,
    And,
    Compare,
    Condition,
    Intersects,
    IsNull,
    Not,
    OneOf,
    Or,
    Value,
    check_size,
    find_column,
)

_GRAMMAR = r"""
?start: either
?either: both (_OR both)*
?both: unit (_AND unit)*
?unit: _NOT unit                                            -> negation
    | "(" either ")"
    | FIELD OP value                                        -> compare
    | FIELD _IN "(" value ("," value)* ")"                  -> one_of
    | FIELD _NOT _IN "(" value ("," value)* ")"             -> none_of
    | FIELD _IS _NULL                                       -> is_null
    | FIELD _IS _NOT _NULL                                  -> is_not_null
    | FIELD _INTERSECTS "(" NUMBER "," NUMBER "," NUMBER "," NUMBER ")"  -> intersects
?value: NUMBER | TEXT | TRUE | FALSE

OP: "<=" | ">=" | "!=" | "<>" | "=" | "<" | ">"
NUMBER: /[+-]?(?:\d+(?:\.\d*)?|\.\d+)(?:e[+-]?\d+)?(?![\w.])/i
TEXT: /'(?:[^']|'')*'/
_AND.2: /and(?![\w:.\-])/i
_OR.2: /or(?![\w:.\-])/i
_NOT.2: /not(?![\w:.\-])/i
_IN.2: /in(?![\w:.\-])/i
_IS.2: /is(?![\w:.\-])/i
_NULL.2: /null(?![\w:.\-])/i
_INTERSECTS.2: /intersects(?![\w:.\-])/i
TRUE.2: /true(?![\w:.\-])/i
FALSE.2: /false(?![\w:.\-])/i
FIELD: /[^\W\d][\w:\-]*(?:\.(?:[\w:\-]+|"(?:[^"]|"")*"))*/
%ignore /\s+/
"""

# What may come next, in words; the first that fit are said.
_WORDS = (
    ({"NUMBER", "TEXT", "TRUE", "FALSE"}, "a value (a number, 'text', true or false)"),
    ({"NUMBER"}, "a number"),
    ({"FIELD", "LPAR"}, "a column"),
    (
        {"OP", "_IN", "_IS", "_NOT", "_INTERSECTS"},
        "a comparison (= != < <= > >=, in, not in, is null, is not null)",
    ),
    ({"_NULL", "_NOT"}, "'null' or 'not null'"),
    ({"_NULL"}, "'null'"),
    ({"_IN"}, "'in'"),
    ({"LPAR"}, "'('"),
    ({"COMMA"}, "','"),
    ({"RPAR"}, "')'"),
    ({"_AND", "_OR"}, "'and', 'or'"),
    ({"$END"}, "the end"),
)
_T = TypeVar("_T")


def parse(text: str) -> Condition:
    """Read a condition.

    Raises:
        ConfigError: with the column of the mistake.
    """
    if len(text) > MAX_TEXT_CHARS:
        raise ConfigError(f"the filter is too long: at most {MAX_TEXT_CHARS} characters")
    if not text.strip():
        raise ConfigError("the filter is empty: write one such as gsd < 1")
    try:
        return _condition(_parser().parse(text), 1)
    except UnexpectedInput as error:
        raise _mistake(text, error) from None


@cache
def _parser() -> Lark:
    return Lark(_GRAMMAR, parser="lalr")


def _condition(tree: Tree[Token] | Token, depth: int) -> Condition:
    if isinstance(tree, Token):  # no rule ends in a bare token
        raise TypeError(tree)
    if depth > MAX_DEPTH:
        raise ConfigError(f"the filter is too deep: at most {MAX_DEPTH} levels")
    rule = str(tree.data)
    if rule in ("either", "both"):
        parts = tuple(_condition(part, depth + 1) for part in tree.children)
        return Or(conditions=parts) if rule == "either" else And(conditions=parts)
    if rule == "negation":
        return Not(condition=_condition(tree.children[0], depth + 1))
    field, *rest = (child for child in tree.children if isinstance(child, Token))
    name = str(field)
    if rule == "intersects":
        if name != "bbox":
            raise _at(field, "only bbox intersects something")
        west, south, east, north = (float(number) for number in rest)
        return _made(rest[0], lambda: Intersects(bbox=(west, south, east, north)))
    if rule in ("is_null", "is_not_null"):
        empty = _made(field, lambda: IsNull(field=name))
        return empty if rule == "is_null" else Not(condition=empty)
    _made(field, lambda: find_column(name))
    if rule == "compare":
        op = {"<>": "!="}.get(str(rest[0]), str(rest[0]))
        fields = {"op": op, "field": name, "value": _value(rest[1])}
        return _made(rest[1], lambda: Compare.model_validate(fields))
    values = tuple(map(_value, rest))
    listed = _made(rest[0], lambda: OneOf(field=name, values=values))
    return listed if rule == "one_of" else Not(condition=listed)


def _value(token: Token) -> Value:
    if token.type == "TEXT":
        return str(token)[1:-1].replace("''", "'")
    if token.type in ("TRUE", "FALSE"):
        return token.type == "TRUE"
    return float(token)


def _made(token: Token, make: Callable[[], _T]) -> _T:
    """Return what ``make`` makes; what it refuses is said of ``token``."""
    try:
        return make()
    except ConfigError as error:
        raise _at(token, str(error)) from None
    except ValidationError as error:
        raise _at(token, error.errors()[0]["msg"]) from None


def _at(token: Token, message: str) -> ConfigError:
    return ConfigError(f"the filter is wrong at column {(token.start_pos or 0) + 1}: {message}")


def _mistake(text: str, error: UnexpectedInput) -> ConfigError:
    place = len(text.rstrip())
    if isinstance(error, UnexpectedCharacters):
        place = error.pos_in_stream or 0
    elif isinstance(error, UnexpectedToken) and error.token.type != "$END":
        place = error.token.start_pos or 0
    so_far = _parser().parse_interactive(text[:place])
    so_far.exhaust_lexer()
    left: set[str] = so_far.accepts()  # type: ignore[no-untyped-call]
    words = []
    for names, word in _WORDS:
        if names <= left:
            words.append(word)
            left -= names
    rest = text[place:]
    hint = ""
    if rest.startswith("'") and rest.count("'") % 2:
        hint = "; the text that begins here has no closing quote"
    elif rest.startswith('"'):
        hint = "; text stands in single quotes, as in 'naip'"
    return ConfigError(
        f"the filter is wrong at column {place + 1}: expected {' or '.join(words)}, "
        f"found {_found(rest)}{hint}"
    )


def _found(rest: str) -> str:
    match = re.match(r"[\w.:\-+]+|\S", rest)
    if match is None:
        return "the end"
    word = match[0]
    return word if len(word) <= 30 else f"{word[:29]}…"


def parse_filter(text: str) -> Condition:
    """Read a condition such as ``gsd < 1 and (collection = 'naip' or metadata.cloud <= 10)``.

    Raises:
        ConfigError: it is malformed, with the column of the mistake, or has no meaning.
    """
    condition = parse(text)
    check_size(condition)
    return condition
