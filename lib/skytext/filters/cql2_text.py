"""Parse filters in CQL2 text with the package ``cql2``.

The parser of this package is native code. It makes a recursive call for each comparison. So a text
with 4,000 comparisons crashes the process. If there is an error inside parentheses, the parser
reads the content of these parentheses twice. With nested parentheses, the number of reads doubles
with each level. So this module checks the size and the nesting of a text before it calls the
parser.
"""

from __future__ import annotations

import re
from typing import Any

import cql2

from skytext.errors import ConfigError
from skytext.filters.conditions import MAX_CONDITIONS, Condition
from skytext.filters.cql2_json import MistakeError, compile_json
from skytext.filters.literals import literal, shown, text_literal

MAX_TEXT_CHARS = 10_000
MAX_PARENTHESES = 12
"""Maximum number of nested groups in parentheses.

With this number of groups, the parser needs 40 ms to find an error.
"""
_MAX_WORK = 100_000
"""Maximum number of tokens that the parser reads if there is an error. This takes about 0.25 s.

If a token is read several times, it is counted several times.
"""

_TOKEN = re.compile(
    r"""(?P<text>'(?:[^']|'')*')
      | (?P<name>"(?:[^"]|"")*")
      | (?P<number>(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)
      | (?P<word>\w[\w:.]*)
      | (?P<operator>[<>=!]+)
      | (?P<open>\() | (?P<close>\))
      | (?P<arithmetic>[+*/^%-])
      | (?P<comma>,)
      | (?P<space>\s+)
      | (?P<other>.)""",
    re.VERBOSE | re.DOTALL,
)
_KEYWORDS = {"and", "or", "not", "in", "between", "like", "is", "null", "true", "false", "div"}
_EXPECTED = (
    ("Identifier", "a column, a value or '('"),
    ("Expr", "a column, a value or '('"),
    ("EOI", "a comparison (= <> < <= > >= IN LIKE BETWEEN IS NULL), AND, OR or the end"),
)


def parse_filter(text: str) -> Condition:
    """Parse a filter in CQL2 text.

    An example is ``gsd < 1 AND (collection = 'naip' OR metadata.cloud <= 10)``.

    Raises:
        ConfigError: the filter is not valid. The message contains the position of the mistake.
    """
    if len(text) > MAX_TEXT_CHARS:
        raise ConfigError(
            f"the filter is too long: at most {MAX_TEXT_CHARS} characters are possible"
        )
    if not text.strip():
        raise ConfigError("the filter is empty: write a condition such as gsd < 1")
    _measure(text)
    try:
        node = cql2.parse_text(text).to_json()
    except cql2.ParseError as error:
        raise _mistake(text, str(error)) from None
    try:
        return compile_json(node)
    except MistakeError as error:
        raise ConfigError(f"the filter is wrong at {_written(error.node)}: {error}") from None


def _measure(text: str) -> None:
    """Check that the native parser can parse a text quickly and without a crash.

    Raises:
        ConfigError: the text is too long or too deeply nested, or a token is invalid. If a token is
            the cause, the message contains the column of the token.
    """
    opened: list[tuple[int, bool]] = []
    before, num_steps, work, depth = "", 0, 0, 0
    for token in _TOKEN.finditer(text):
        kind, word, column = str(token.lastgroup), token[0], token.start() + 1
        if kind == "space":
            continue
        _check_token(kind, word, column, text[token.end() :])
        if kind == "open":
            is_call = re.fullmatch(r"\w[\w:.]*", before) is not None and before not in _KEYWORDS
            opened.append((column, is_call))
            depth += not is_call
        elif kind == "close":
            if not opened:
                raise _at(column, "this ')' has no matching '('")
            depth -= not opened.pop()[1]
        # The parser makes a recursive call for each operator and for most keywords.
        num_steps += kind == "operator" or word.lower() in _KEYWORDS - {"null", "true", "false"}
        work += 2**depth
        if depth > MAX_PARENTHESES or len(opened) > 2 * MAX_PARENTHESES:
            raise _at(
                column, f"too deep: at most {MAX_PARENTHESES} nested parentheses are possible"
            )
        if num_steps > 4 * MAX_CONDITIONS:
            raise ConfigError(
                f"the filter has too many conditions: at most {MAX_CONDITIONS} are possible"
            )
        if work > _MAX_WORK:
            raise ConfigError(
                "the filter has too many words and symbols inside nested parentheses. Use fewer "
                "levels of parentheses, or shorten the text inside them"
            )
        before = word.lower()
    if opened:
        raise _at(opened[-1][0], "this '(' is not closed")


def _check_token(kind: str, word: str, column: int, rest: str) -> None:
    if kind == "number":
        try:
            literal(float(word))
        except ConfigError as error:
            raise _at(column, str(error)) from None
    if kind == "arithmetic" and not (word in "+-" and re.match(r"[\d.]", rest)):
        raise _at(
            column,
            f"arithmetic ({word}) is not supported. If the name of a column contains {word}, write "
            'the name in double quotes: "metadata.a-b"',
        )
    if kind == "other" and word == "'":
        raise _at(column, "the text that begins here has no closing quote")
    if kind == "other" and word == '"':
        raise _at(column, "the name that begins here has no closing quote")


def _mistake(text: str, message: str) -> ConfigError:
    """Convert the error message of the parser to an error with a message of one line."""
    place = re.search(r"--> (\d+):(\d+)", message)
    line, column = (int(place[1]), int(place[2])) if place else (1, 1)
    start = sum(map(len, text.splitlines(keepends=True)[: line - 1])) + column - 1
    expected = message.partition("expected ")[2]
    words = next(
        (word for name, word in _EXPECTED if re.search(rf"\b{name}\b", expected)), expected
    )
    rest = text[start:].lstrip()
    found = re.match(r"[\w.:]+|\S", rest)
    return _at(start + 1, f"expected {words}, found {found[0][:30] if found else 'the end'}")


def _at(column: int, message: str) -> ConfigError:
    return ConfigError(f"the filter is wrong at column {column}: {message}")


def _written(node: Any) -> str:
    """Return a part of a filter as CQL2 text. A long text is shortened for the error message."""
    if isinstance(node, str):
        # The package ``cql2`` would parse a plain string as a filter.
        return shown(text_literal(node))
    try:
        return shown(cql2.Expr(node).to_text())
    except (cql2.ParseError, cql2.ValidationError, ValueError, TypeError):
        return shown(str(node))
