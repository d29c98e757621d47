"""Where a page of hits ended: an opaque text that knows its version and its question."""

from __future__ import annotations

import base64
import binascii
import json
import math
from dataclasses import asdict, dataclass

from skytext.errors import CallError, ConfigError
from skytext.search.request import SearchRequest

_FORM = 1


@dataclass(frozen=True, slots=True)
class Cursor:
    """The end of a page.

    Attributes:
        version: of the table; row ids and scores are those of one version.
        question: `SearchRequest.fingerprint`, and of the settings that ranked.
        offset: hits so far.
        score: of the last one.
        row_id: of the last one.
        scale: what scores are relative to; see `skytext.search.ranking_inputs.Ranking`.
    """

    version: int
    question: str
    offset: int
    score: float
    row_id: int
    scale: tuple[tuple[float, ...], ...] | None = None

    def encode(self) -> str:
        """Return the text that `decode` reads."""
        said = json.dumps([_FORM, *asdict(self).values()], separators=(",", ":"))
        return base64.urlsafe_b64encode(said.encode()).decode().rstrip("=")

    @classmethod
    def decode(cls, text: str) -> Cursor:
        """Read a cursor.

        Raises:
            ConfigError: it is none.
        """
        try:
            said = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
            form, version, question, offset, score, row_id, scale = json.loads(said)
            if form != _FORM:
                raise ValueError(form)
            cursor = cls(
                int(version),
                str(question),
                int(offset),
                float(score),
                int(row_id),
                None if scale is None else _lists(scale),
            )
            if cursor.offset < 1 or cursor.row_id < 0 or not math.isfinite(cursor.score):
                raise ValueError("out of range")
            return cursor
        except (binascii.Error, ValueError, TypeError, OverflowError, RecursionError) as error:
            raise _not_ours() from error

    def check_scale(self, num_lists: int, num_values: int) -> None:
        """Refuse a cursor whose `scale` is none of its search.

        Raises:
            ConfigError: somebody has changed it.
        """
        if self.scale is not None and list(map(len, self.scale)) != [num_values] * num_lists:
            raise _not_ours()

    @classmethod
    def of_request(cls, request: SearchRequest, version: int, question: str) -> Cursor | None:
        """Return a request's cursor; None where it has none.

        Raises:
            CallError: it is of another version or of another search.
        """
        if request.cursor is None:
            return None
        cursor = cls.decode(request.cursor)
        if cursor.version != version:
            raise CallError(
                f"the cursor is of table version {cursor.version}, the search of {version}: search "
                f"version {cursor.version}, or start again without the cursor"
            )
        if cursor.question != question:
            raise CallError(
                "the cursor is of another search: repeat the search with all its options, or start "
                "again without the cursor"
            )
        return cursor


def cursor_version(text: str) -> int:
    """Return the table version that a cursor is of.

    Raises:
        ConfigError: it is no cursor.
    """
    return Cursor.decode(text).version


def _not_ours() -> ConfigError:
    return ConfigError("the cursor is none of ours: pass on next_cursor of a result as it is")


def _lists(values: object) -> tuple[tuple[float, ...], ...]:
    if not isinstance(values, list):
        raise TypeError(values)
    return tuple(map(_floats, values))


def _floats(values: object) -> tuple[float, ...]:
    if not isinstance(values, list):
        raise TypeError(values)
    floats = tuple(map(float, values))
    if not all(map(math.isfinite, floats)):
        raise ValueError("out of range")
    return floats
