"""A cursor is an opaque string. It encodes where a page of hits ends.

A cursor is valid only for the search and the table versions from which it was made.
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
    """The position at which a page of hits ends.

    Attributes:
        versions: the version number of each searched table. The row id and the score are valid only
            for these versions.
        question: id of the search. It is a hash of the request, the mode and the ranking settings.
        offset: number of hits on this page and all earlier pages.
        score: `skytext.search.results.hits.Hit.rank_score` of the last hit.
        row_id: row id of the last hit. If several tables are searched, it is a unique row id from
            `skytext.search.several_tables.RowIdSpace`.
        scale: the reference values of the ranking; see
            `skytext.search.ranking_inputs.Ranking.scale`.
    """

    versions: tuple[int, ...]
    question: str
    offset: int
    score: float
    row_id: int
    scale: tuple[tuple[float, ...], ...] | None = None

    def encode(self) -> str:
        """Convert the cursor to a string. `decode` converts the string back."""
        values = asdict(self)
        if len(self.versions) == 1:
            values["versions"] = self.versions[0]
        payload = json.dumps([_FORM, *values.values()], separators=(",", ":"))
        return base64.urlsafe_b64encode(payload.encode()).decode().rstrip("=")

    @classmethod
    def decode(cls, text: str) -> Cursor:
        """Convert a string to a cursor.

        Raises:
            ConfigError: the string is not a valid cursor.
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
        """Check that `scale` has the shape that the search needs.

        Raises:
            ConfigError: `scale` has another shape. The reason is that a client modified the cursor.
        """
        if self.scale is not None and list(map(len, self.scale)) != [num_values] * num_lists:
            raise _not_ours()

    def check_tables(self, num_tables: int) -> None:
        """Check that the cursor is from a search of ``num_tables`` tables.

        Raises:
            CallError: the cursor is from a search of another number of tables.
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
        """Return the cursor in a request, or None if the request contains no cursor.

        Raises:
            ConfigError: the cursor is not valid.
            CallError: the cursor belongs to another version of a table, or to another search.
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
                "the cursor belongs to another search: use all options of the search that returned "
                "the cursor, or search again without the cursor"
            )
        return cursor


def cursor_version(text: str) -> int:
    """Return the table version in a cursor. The cursor must come from a search of one table.

    Raises:
        ConfigError: the text is not a valid cursor.
        CallError: the cursor belongs to a search of several tables.
    """
    return cursor_versions(text, 1)[0]


def cursor_versions(text: str, num_tables: int) -> tuple[int, ...]:
    """Return the table versions in a cursor, one version for each searched table.

    The versions are in the order in which the search named the tables.

    Raises:
        ConfigError: the text is not a valid cursor.
        CallError: the cursor belongs to a search of another number of tables.
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
