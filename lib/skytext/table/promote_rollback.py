"""Choose the version that is served, and go back.

The truth is a log, ``T/state/promotions``: one small object a promotion or roll-back, numbered,
created only if nobody else created that number first. Each holds the whole list of versions to go
back through, so the last one says it all. Lance's tags follow: ``live`` is what readers open, and
``kept-N`` keeps clean-up away from the versions that a roll-back may need. Lance writes a tag
without asking who else does; so whoever wrote one looks at the log again afterwards, and sets what
the last record says.
"""

from __future__ import annotations

import datetime as dt
import getpass
import json
import os
import socket
import uuid
from dataclasses import dataclass
from itertools import islice
from typing import Any

from skytext.errors import CommitConflictError, TableError
from skytext.table.images_dataset import LIVE_TAG, ImagesTable
from skytext.table.location import TableLocation
from skytext.table.numbered_log import NumberedLog

_FOLDER = "promotions"
_KEPT_TAG = "kept-"
MAX_KEPT = 10
"""Versions that can be gone back to, the live one included: each keeps its files on the disk."""
_TRIES = 50
_KEPT_RECORDS = 200
"""Records kept at least: far more than are written while one promotion looks and writes."""


@dataclass(frozen=True, slots=True)
class Promotion:
    """What is served since a promotion or a roll-back.

    Attributes:
        number: 1, 2, …; higher is later.
        action: ``promote`` or ``rollback``.
        versions: those that were live one after the other and can be gone back through; the last
            one is live.
        at: when.
        by: the user and the host that asked for it, ``user@host``; of old records the host alone.
        token: makes the record unlike any other.
        why: it was asked for; empty in old records.
    """

    number: int
    action: str
    versions: tuple[int, ...]
    at: dt.datetime
    by: str
    token: str
    why: str = ""

    @property
    def version(self) -> int:
        """The version that is live."""
        return self.versions[-1]

    @property
    def previous_version(self) -> int | None:
        """The version that a roll-back leads to, or None."""
        return self.versions[-2] if len(self.versions) > 1 else None

    def to_json(self) -> dict[str, object]:
        """Return the record as a JSON object."""
        return {
            "number": self.number,
            "action": self.action,
            "versions": list(self.versions),
            "at": self.at.isoformat(),
            "by": self.by,
            "token": self.token,
            "why": self.why,
        }

    @property
    def described(self) -> str:
        """The record on one line, for people."""
        why = f": {self.why}" if self.why else ""
        return (
            f"{self.at.astimezone(dt.UTC):%Y-%m-%d %H:%M} UTC  {self.action} to version "
            f"{self.version} by {self.by or 'nobody known'}{why}"
        )

    @classmethod
    def from_json(cls, data: bytes) -> Promotion:
        """Read what `to_json` wrote."""
        return cls.from_row(json.loads(data))

    @classmethod
    def from_row(cls, row: dict[str, Any]) -> Promotion:
        """Read what `to_json` returned."""
        return cls(
            number=row["number"],
            action=row["action"],
            versions=tuple(row["versions"]),
            at=dt.datetime.fromisoformat(row["at"]),
            by=row["by"],
            token=row["token"],
            why=row.get("why", ""),
        )


def promote(location: TableLocation, version: int | None = None, *, why: str = "") -> Promotion:
    """Make a version the one that is served.

    Promoting what is live already changes nothing.

    Args:
        location: the table.
        version: None for the latest.
        why: it is promoted, for the history.

    Raises:
        TableError: there is no such table or version.
        CommitConflictError: others promote without a pause.
    """
    wanted = ImagesTable.open(location, version).version
    for _ in range(_TRIES):
        last = _last(location)
        if last is not None and last.version == wanted:
            _set_tags(location)
            return last
        before = () if last is None else last.versions
        done = _append(location, last, "promote", (*before, wanted)[-MAX_KEPT:], why)
        if done is not None:
            _set_tags(location)
            return done
    raise _conflict(location)


def rollback(location: TableLocation, *, why: str = "") -> Promotion:
    """Make the version live that was live before; once more, and it is the one before that.

    Args:
        location: the table.
        why: for the history.

    Raises:
        TableError: there is no such table, or nothing to go back to.
        CommitConflictError: others promote without a pause.
    """
    for _ in range(_TRIES):
        last = _last(location)
        if last is None or last.previous_version is None:
            now = "nothing is live" if last is None else f"version {last.version} is live"
            raise TableError(
                f"{location.uri}: {now}, and no version was live before it: "
                f"skytext promote {location.uri} VERSION serves another one"
            )
        # It may be gone for want of its tag, e.g. deleted by hand: say so and change nothing.
        ImagesTable.open(location, last.previous_version)
        done = _append(location, last, "rollback", last.versions[:-1], why)
        if done is not None:
            _set_tags(location)
            return done
    raise _conflict(location)


def promotions(location: TableLocation, limit: int = 10) -> list[Promotion]:
    """Return the last promotions and roll-backs, the last one first."""
    return [Promotion.from_json(data) for data in islice(_log(location).newest_first(), limit)]


def recent_versions(location: TableLocation, limit: int) -> list[int]:
    """Return the versions that were live last, the live one first, each once."""
    found: dict[int, None] = {}
    for promotion in promotions(location, limit * 4):
        found[promotion.version] = None
    return list(found)[:limit]


def _last(location: TableLocation) -> Promotion | None:
    """Return the last record; of a table promoted before there was a log, one made of its tag."""
    last = promotions(location, 1)
    if last:
        return last[0]
    live = ImagesTable.open(location).live_version()
    if live is None:
        return None
    return Promotion(0, "promote", (live,), dt.datetime.now(dt.UTC), "", "")


def _append(
    location: TableLocation,
    last: Promotion | None,
    action: str,
    versions: tuple[int, ...],
    why: str,
) -> Promotion | None:
    """Write the next record; None where somebody else wrote it first."""
    record = Promotion(
        number=1 if last is None else last.number + 1,
        action=action,
        versions=versions,
        at=dt.datetime.now(dt.UTC),
        by=f"{_user()}@{socket.gethostname()}",
        token=uuid.uuid4().hex,
        why=why,
    )
    return record if _log(location).append(record.number, record.to_json()) else None


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        # In a container the user may have a number only.
        return str(os.getuid())


def _log(location: TableLocation) -> NumberedLog:
    return NumberedLog(location, _FOLDER, _KEPT_RECORDS)


def _set_tags(location: TableLocation) -> None:
    """Set the tags to what the log says; look again until nobody wrote meanwhile."""
    table = ImagesTable.open(location)
    for _ in range(_TRIES):
        last = promotions(location, 1)[:1]
        if not last:
            return
        wanted = {f"{_KEPT_TAG}{version}": version for version in last[0].versions[:-1]}
        wanted[LIVE_TAG] = last[0].version
        there = {n: v for n, v in table.tags().items() if n == LIVE_TAG or n.startswith(_KEPT_TAG)}
        if there == wanted:
            return
        # What is kept first, so that no version stands without a tag in between.
        for name in sorted(wanted):
            if there.get(name) != wanted[name]:
                table.set_tag(name, wanted[name])
        for name in there.keys() - wanted.keys():
            table.delete_tag(name)
    raise _conflict(location)


def _conflict(location: TableLocation) -> CommitConflictError:
    return CommitConflictError(
        f"others promote versions of {location.uri} at the same time, without a pause: try again"
    )
