"""Choose the version that is served, try one as a canary, and go back.

The truth is a log, ``T/state/promotions``: one small object a promotion or roll-back, numbered,
created only if nobody else created that number first. Each holds the whole list of versions to go
back through, and the canary if one runs, so the last one says it all. Lance's tags follow: ``live``
is what readers open, ``canary`` what services try, and ``kept-N`` keeps clean-up away from the
versions that a roll-back may need. Lance writes a tag
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
from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice
from typing import Any, NamedTuple

from skytext.errors import CommitConflictError, TableError
from skytext.table.canary import Canary, forget_searches
from skytext.table.images_dataset import CANARY_TAG, LIVE_TAG, ImagesTable
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
        action: ``promote`` or ``rollback``; ``canary`` where one begins, and ``stop`` where a
            service ends it because it is worse than the live version.
        versions: those that were live one after the other and can be gone back through; the last
            one is live.
        at: when.
        by: the user and the host that asked for it, ``user@host``; of old records the host alone.
        token: makes the record unlike any other.
        why: it was asked for; empty in old records.
        canary: that runs since then; None for none.
    """

    number: int
    action: str
    versions: tuple[int, ...]
    at: dt.datetime
    by: str
    token: str
    why: str = ""
    canary: Canary | None = None

    @property
    def version(self) -> int:
        """The version that is live."""
        return self.versions[-1]

    @property
    def previous_version(self) -> int | None:
        """The version that a roll-back leads to, or None."""
        return self.versions[-2] if len(self.versions) > 1 else None

    @property
    def searched_versions(self) -> tuple[int, ...]:
        """`versions`, and the canary's."""
        return (*self.versions, *(() if self.canary is None else (self.canary.version,)))

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
            "canary": None if self.canary is None else self.canary.to_json(),
        }

    @property
    def described(self) -> str:
        """The record on one line, for people."""
        why = f": {self.why}" if self.why else ""
        what = f"{self.action} to version {self.version}"
        if self.action == "stop":
            what = f"canary stopped, version {self.version} stays live,"
        elif self.canary is not None:
            what = f"canary: {self.canary.described},"
        return (
            f"{self.at.astimezone(dt.UTC):%Y-%m-%d %H:%M} UTC  {what} by "
            f"{self.by or 'nobody known'}{why}"
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
            canary=Canary.from_row(row["canary"]) if row.get("canary") else None,
        )


class _Next(NamedTuple):
    """What the next record says; see `Promotion`."""

    action: str
    versions: tuple[int, ...]
    why: str
    canary: Canary | None = None


def promote(location: TableLocation, version: int | None = None, *, why: str = "") -> Promotion:
    """Make a version the one that is served; a canary ends.

    Promoting what is live already changes nothing else.

    Args:
        location: the table.
        version: None for the latest.
        why: it is promoted, for the history.

    Raises:
        TableError: there is no such table or version.
        CommitConflictError: others promote without a pause.
    """
    wanted = ImagesTable.open(location, version).version

    def promoted(last: Promotion | None) -> _Next | Promotion:
        if last is not None and last.version == wanted:
            return last if last.canary is None else _Next("promote", last.versions, why)
        return _Next("promote", _added(last, wanted), why)

    return _write(location, promoted)[0]


def rollback(location: TableLocation, *, why: str = "") -> Promotion:
    """Make the version live that was live before; once more, and it is the one before that.

    Where a canary runs, it ends, and the live version stays.

    Args:
        location: the table.
        why: for the history.

    Raises:
        TableError: there is no such table, or nothing to go back to.
        CommitConflictError: others promote without a pause.
    """

    def rolled_back(last: Promotion | None) -> _Next:
        if last is not None and last.canary is not None:
            return _Next("rollback", last.versions, why)
        if last is None or last.previous_version is None:
            now = "nothing is live" if last is None else f"version {last.version} is live"
            raise TableError(
                f"{location.uri}: {now}, and no version was live before it: "
                f"skytext promote {location.uri} VERSION serves another one"
            )
        # It may be gone for want of its tag, e.g. deleted by hand: say so and change nothing.
        ImagesTable.open(location, last.previous_version)
        return _Next("rollback", last.versions[:-1], why)

    return _write(location, rolled_back)[0]


def start_canary(
    location: TableLocation,
    version: int | None,
    share: float,
    minutes: float,
    *,
    why: str = "",
) -> Promotion:
    """Let a version answer a share of the searches for a time; services judge it.

    A canary that runs ends.

    Args:
        location: the table.
        version: None for the latest.
        share: of the searches that name no version, above 0 and at most 0.5.
        minutes: after which it becomes live if it is not worse than the live version.
        why: for the history.

    Raises:
        TableError: there is no such table or version, it is live already, or nothing is live.
        CommitConflictError: others promote without a pause.
    """
    wanted = ImagesTable.open(location, version).version
    uri = location.uri

    def started(last: Promotion | None) -> _Next:
        if last is None:
            raise TableError(
                f"{uri}: nothing is live that a canary could be compared with: "
                f"skytext promote {uri} {wanted}, without --canary"
            )
        if last.version == wanted:
            raise TableError(f"{uri}: version {wanted} is live already: name another one")
        ends_at = dt.datetime.now(dt.UTC) + dt.timedelta(minutes=minutes)
        return _Next("canary", last.versions, why, Canary(wanted, share, ends_at))

    done, _ = _write(location, started)
    forget_searches(location, done.number)
    return done


def end_canary(location: TableLocation, number: int, *, passed: bool, why: str) -> bool:
    """Make a canary live, or stop it; return whether this call did, and nobody else before it.

    Args:
        location: the table.
        number: of the record that began the canary.
        passed: it becomes live.
        why: for the history.

    Raises:
        TableError: there is no such table.
        CommitConflictError: others promote without a pause.
    """

    def ended(last: Promotion | None) -> _Next | Promotion:
        if last is None:
            raise TableError(f"{location.uri}: no canary runs")
        if last.canary is None or last.number != number:
            return last
        if not passed:
            return _Next("stop", last.versions, f"version {last.canary.version}: {why}")
        return _Next("promote", _added(last, last.canary.version), why)

    return _write(location, ended)[1]


def promotions(location: TableLocation, limit: int = 10) -> list[Promotion]:
    """Return the last promotions and roll-backs, the last one first."""
    return [Promotion.from_json(data) for data in islice(_log(location).newest_first(), limit)]


def recent_versions(location: TableLocation, limit: int) -> list[int]:
    """Return the versions that were live or a canary last, the live one first, each once."""
    found: dict[int, None] = {}
    for promotion in promotions(location, limit * 4):
        found[promotion.version] = None
        if promotion.canary is not None:
            found[promotion.canary.version] = None
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


def _added(last: Promotion | None, version: int) -> tuple[int, ...]:
    before = () if last is None else last.versions
    return (*before, version)[-MAX_KEPT:]


def _write(
    location: TableLocation, next_after: Callable[[Promotion | None], _Next | Promotion]
) -> tuple[Promotion, bool]:
    """Write the next record, and set the tags.

    Args:
        location: the table.
        next_after: given the last record, says what comes next, or returns the last record where
            nothing does. It is asked again where somebody else wrote a record first.

    Returns:
        The last record, and whether this call wrote it.
    """
    for _ in range(_TRIES):
        last = _last(location)
        following = next_after(last)
        if isinstance(following, Promotion):
            set_tags(location)
            return following, False
        done = _append(location, last, following)
        if done is not None:
            set_tags(location)
            return done, True
    raise _conflict(location)


def _append(location: TableLocation, last: Promotion | None, following: _Next) -> Promotion | None:
    """Write the next record; None where somebody else wrote it first."""
    record = Promotion(
        number=1 if last is None else last.number + 1,
        at=dt.datetime.now(dt.UTC),
        by=f"{_user()}@{socket.gethostname()}",
        token=uuid.uuid4().hex,
        **following._asdict(),
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


def set_tags(location: TableLocation) -> None:
    """Set the tags to what the log says; look again until nobody wrote meanwhile.

    Whoever wrote the last record has done it, unless it was killed in between.

    Raises:
        TableError: there is no such table.
        CommitConflictError: others promote without a pause.
    """
    table = ImagesTable.open(location)
    for _ in range(_TRIES):
        last = promotions(location, 1)[:1]
        if not last:
            return
        wanted = {f"{_KEPT_TAG}{version}": version for version in last[0].versions[:-1]}
        wanted[LIVE_TAG] = last[0].version
        if last[0].canary is not None:
            wanted[CANARY_TAG] = last[0].canary.version
        there = {n: v for n, v in table.tags().items() if _is_ours(n)}
        if there == wanted:
            return
        # What is kept first, so that no version stands without a tag in between.
        for name in sorted(wanted):
            if there.get(name) != wanted[name]:
                table.set_tag(name, wanted[name])
        for name in there.keys() - wanted.keys():
            table.delete_tag(name)
    raise _conflict(location)


def _is_ours(tag: str) -> bool:
    return tag in (LIVE_TAG, CANARY_TAG) or tag.startswith(_KEPT_TAG)


def _conflict(location: TableLocation) -> CommitConflictError:
    return CommitConflictError(
        f"others promote versions of {location.uri} at the same time, without a pause: try again"
    )
