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
        versions: of each table; row ids and scores are theirs.
        question: `SearchRequest.fingerprint`, and of the settings that ranked.
        offset: hits so far.
        score: of the last one.
        row_id: of the last one; see `skytext.search.several_tables.RowIdSpace`.
        scale: what scores are relative to; see `skytext.search.ranking_inputs.Ranking`.
    """

    versions: tuple[int, ...]
    question: str
    offset: int
    score: float
    row_id: int
    scale: tuple[tuple[float, ...], ...] | None = None

    def encode(self) -> str:
        """Return the text that `decode` reads."""
        values = asdict(self)
        if len(self.versions) == 1:
            values["versions"] = self.versions[0]
        said = json.dumps([_FORM, *values.values()], separators=(",", ":"))
        return base64.urlsafe_b64encode(said.encode()).decode().rstrip("=")

    @classmethod
    def decode(cls, text: str) -> Cursor:
        """Read a cursor.

        Raises:
            ConfigError: it is none.
        """
        try:
            said = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
            form, versions, question, offset, score, row_id, scale = json.loads(said)
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
        """Refuse a cursor whose `scale` is none of its search.

        Raises:
            ConfigError: somebody has changed it.
        """
        if self.scale is not None and list(map(len, self.scale)) != [num_values] * num_lists:
            raise _not_ours()

    def check_tables(self, num_tables: int) -> None:
        """Refuse a cursor of another number of tables.

        Raises:
            CallError: it is one.
        """
        if len(self.versions) != num_tables:
            raise CallError(
                f"the cursor is of a search of {_tables(len(self.versions))}, this one is of "
                f"{_tables(num_tables)}: name the same tables, or start again without the cursor"
            )

    @classmethod
    def of_request(
        cls, request: SearchRequest, versions: tuple[int, ...], question: str
    ) -> Cursor | None:
        """Return a request's cursor; None where it has none.

        Raises:
            CallError: it is of another version or of another search.
        """
        if request.cursor is None:
            return None
        cursor = cls.decode(request.cursor)
        cursor.check_tables(len(versions))
        if cursor.versions != versions:
            was, now = (", ".join(map(str, given)) for given in (cursor.versions, versions))
            raise CallError(
                f"the cursor is of table version {was}, the search of {now}: search "
                f"version {was}, or start again without the cursor"
            )
        if cursor.question != question:
            raise CallError(
                "the cursor is of another search: repeat the search with all its options, or start "
                "again without the cursor"
            )
        return cursor


def cursor_version(text: str) -> int:
    """Return the table version that a cursor of a search of one table is of.

    Raises:
        ConfigError: it is no cursor.
        CallError: it is of a search of several tables.
    """
    return cursor_versions(text, 1)[0]


def cursor_versions(text: str, num_tables: int) -> tuple[int, ...]:
    """Return the version of each table that a cursor is of, in the order of the search.

    Raises:
        ConfigError: it is no cursor.
        CallError: it is of another number of tables.
    """
    cursor = Cursor.decode(text)
    cursor.check_tables(num_tables)
    return cursor.versions


def _tables(num: int) -> str:
    return "one table" if num == 1 else f"{num} tables"


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
