"""A cursor: an opaque string that encodes the end of a page of hits.

A cursor is valid only for the same search in the same table versions.
"""

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
    """The end of a page of hits.

    Attributes:
        versions: the version of each table in which the row id and the score are valid.
        question: id of the search: a hash of the request, the mode and the ranking settings.
        offset: number of hits on this page and all earlier pages.
        score: rank score of the last hit.
        row_id: row id of the last hit, as in `skytext.search.several_tables.RowIdSpace`.
        scale: `skytext.search.ranking_inputs.Ranking.scale` of the ranking.
    """

    versions: tuple[int, ...]
    question: str
    offset: int
    score: float
    row_id: int
    scale: tuple[tuple[float, ...], ...] | None = None

    def encode(self) -> str:
        """Return the string that `decode` reads."""
        values = asdict(self)
        if len(self.versions) == 1:
            values["versions"] = self.versions[0]
        payload = json.dumps([_FORM, *values.values()], separators=(",", ":"))
        return base64.urlsafe_b64encode(payload.encode()).decode().rstrip("=")

    @classmethod
    def decode(cls, text: str) -> Cursor:
        """Parse a cursor.

        Raises:
            ConfigError: the text is not a valid cursor.
        """
        try:
            payload = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
            form, versions, question, offset, score, row_id, scale = json.loads(payload)
            if form != _FORM:
                raise ValueError(form)
            cursor = cls(
                tuple(map(int, versions if isinstance(versions, list) else [versions])),
                str(question),
                int(offset),
                float(score),
                int(row_id),
                None if scale is None else _lists(scale),
            )
            if (
                not cursor.versions
                or cursor.offset < 1
                or cursor.row_id < 0
                or not math.isfinite(cursor.score)
            ):
                raise ValueError("out of range")
            return cursor
        except (binascii.Error, ValueError, TypeError, OverflowError, RecursionError) as error:
            raise _not_ours() from error

    def check_scale(self, num_lists: int, num_values: int) -> None:
        """Check that the shape of `scale` fits the search.

        Raises:
            ConfigError: the shape differs, because a client modified the cursor.
        """
        if self.scale is not None and list(map(len, self.scale)) != [num_values] * num_lists:
            raise _not_ours()

    def check_tables(self, num_tables: int) -> None:
        """Check that the cursor is from a search of the same number of tables.

        Raises:
            CallError: the number of tables differs.
        """
        if len(self.versions) != num_tables:
            raise CallError(
                f"the cursor belongs to a search of {_tables(len(self.versions))}, but this search "
                f"has {_tables(num_tables)}: name the same tables, or search again without the "
                "cursor"
            )

    @classmethod
    def of_request(
        cls, request: SearchRequest, versions: tuple[int, ...], question: str
    ) -> Cursor | None:
        """Return the cursor of a request, or None if the request has none.

        Raises:
            ConfigError: the cursor is not valid.
            CallError: the cursor belongs to another version or another search.
        """
        if request.cursor is None:
            return None
        cursor = cls.decode(request.cursor)
        cursor.check_tables(len(versions))
        if cursor.versions != versions:
            was, now = (", ".join(map(str, given)) for given in (cursor.versions, versions))
            raise CallError(
                f"the cursor belongs to table version {was}, but this search uses {now}: search "
                f"version {was}, or search again without the cursor"
            )
        if cursor.question != question:
            raise CallError(
                "the cursor belongs to another search: repeat that search with all its options, or "
                "search again without the cursor"
            )
        return cursor


def cursor_version(text: str) -> int:
    """Return the table version in a cursor of a search of one table.

    Raises:
        ConfigError: the text is not a valid cursor.
        CallError: the cursor belongs to a search of several tables.
    """
    return cursor_versions(text, 1)[0]


def cursor_versions(text: str, num_tables: int) -> tuple[int, ...]:
    """Return the version of each table in a cursor, in the order of the search.

    Raises:
        ConfigError: the text is not a valid cursor.
        CallError: the cursor belongs to a search of a different number of tables.
    """
    cursor = Cursor.decode(text)
    cursor.check_tables(num_tables)
    return cursor.versions


def _tables(num: int) -> str:
    return "one table" if num == 1 else f"{num} tables"


def _not_ours() -> ConfigError:
    return ConfigError("invalid cursor: pass next_cursor from a result, and do not change it")


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
