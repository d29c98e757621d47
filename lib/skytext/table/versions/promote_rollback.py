"""Choose the version that services search, start a canary, and roll back.

The state is stored in a log, ``T/state/promotions``. For each promotion, roll-back and canary, the
log contains one small numbered object (a record). A writer can create a record only if no record
with the same number exists. Each record contains all versions for roll-backs, and the running
canary if there is one. So the last record contains the complete state.

The tags of the Lance data set are set from the last record. Readers open the version with the tag
``live``. Services also search the version with the tag ``canary``. Versions with a tag ``kept-N``
are versions for roll-backs. A clean-up does not remove a version that has a tag. When Lance
overwrites a tag, it does not check for other writers. So after a writer has set the tags, it reads
the log again. If the log then has a newer record, the writer sets the tags again.
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
from skytext.table.images_dataset import CANARY_TAG, LIVE_TAG, ImagesTable
from skytext.table.location import TableLocation
from skytext.table.store.numbered_log import NumberedLog
from skytext.table.versions.canary import Canary, forget_searches

_FOLDER = "promotions"
_KEPT_TAG = "kept-"
MAX_KEPT = 10
"""Maximum number of versions for roll-backs, including the live version."""
_TRIES = 50
_KEPT_RECORDS = 200
"""Minimum number of records that are kept.

While one writer creates a record, other writers create far fewer records than this number.
"""


@dataclass(frozen=True, slots=True)
class Promotion:
    """A record of the log. It contains the state after a promotion, a roll-back or a canary.

    Attributes:
        number: number of the record, starting at 1. A later record has a higher number.
        action: the change that the record describes. ``promote`` and ``rollback`` change the live
            version. ``canary`` starts a canary. ``stop`` means that a service stopped a canary that
            was worse than the live version.
        versions: the versions for roll-backs, in the order in which they became live. The last
            version is the live version.
        at: time of the record.
        by: the user and the host that made the change, ``user@host``. Old records contain only the
            host.
        token: a unique value that distinguishes this record from all other records.
        why: the reason for the change. It is empty in old records.
        canary: the running canary; None if no canary is running.
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
        """The live version."""
        return self.versions[-1]

    @property
    def previous_version(self) -> int | None:
        """The version that a roll-back makes live; None if no earlier version is kept."""
        return self.versions[-2] if len(self.versions) > 1 else None

    @property
    def searched_versions(self) -> tuple[int, ...]:
        """All versions in `versions`, and also the version of the canary if a canary is running."""
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
        """The record as one line for users."""
        why = f": {self.why}" if self.why else ""
        what = f"{self.action} to version {self.version}"
        if self.action == "stop":
            what = f"canary stopped (version {self.version} stays live)"
        elif self.canary is not None:
            what = f"canary: {self.canary.described},"
        return (
            f"{self.at.astimezone(dt.UTC):%Y-%m-%d %H:%M} UTC  {what} by "
            f"{self.by or 'an unknown user'}{why}"
        )

    @classmethod
    def from_json(cls, data: bytes) -> Promotion:
        """Parse the bytes of a record. They contain the JSON object that `to_json` returns."""
        return cls.from_row(json.loads(data))

    @classmethod
    def from_row(cls, row: dict[str, Any]) -> Promotion:
        """Parse the JSON object that `to_json` returns."""
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
    """The fields of the next record; see `Promotion`."""

    action: str
    versions: tuple[int, ...]
    why: str
    canary: Canary | None = None


def promote(location: TableLocation, version: int | None = None, *, why: str = "") -> Promotion:
    """Make a version live. If a canary is running, end it.

    If the version is already live, the call only ends the canary.

    Args:
        location: the table.
        version: the version number; None for the latest version.
        why: the reason for the change. The history shows it.

    Raises:
        TableError: the table or the version does not exist.
        CommitConflictError: there were too many concurrent promotions.
    """
    wanted = ImagesTable.open(location, version).version

    def promoted(last: Promotion | None) -> _Next | Promotion:
        if last is not None and last.version == wanted:
            return last if last.canary is None else _Next("promote", last.versions, why)
        return _Next("promote", _added(last, wanted), why)

    return _write(location, promoted)[0]


def rollback(location: TableLocation, *, why: str = "") -> Promotion:
    """Make the previous live version live again. Each further call goes back by one more version.

    If a canary is running, the call only ends the canary. The live version does not change.

    Args:
        location: the table.
        why: the reason for the change. The history shows it.

    Raises:
        TableError: the table does not exist, or no version was live before the current version.
        CommitConflictError: there were too many concurrent promotions.
    """

    def rolled_back(last: Promotion | None) -> _Next:
        if last is not None and last.canary is not None:
            return _Next("rollback", last.versions, why)
        if last is None or last.previous_version is None:
            now = "nothing is live" if last is None else f"version {last.version} is live"
            raise TableError(
                f"{location.uri}: cannot roll back, because {now} and no earlier version is kept. "
                f"To serve another version, run: skytext promote {location.uri} VERSION"
            )
        # If the version is missing, fail before anything is changed. It is missing if, for example,
        # a user deleted the tag of the version and a clean-up removed the version.
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
    """Start a canary. For a limited time, services use this version for a share of the searches.

    Services compare the canary with the live version. If another canary is running, the new canary
    replaces the other canary.

    Args:
        location: the table.
        version: the version number; None for the latest version.
        share: share of the searches for which the canary is used, above 0 and at most 0.5. Searches
            that request a certain version are not included.
        minutes: duration of the canary in minutes. When this time is over, the canary becomes live
            if it is not worse than the live version.
        why: the reason for the change. The history shows it.

    Raises:
        TableError: the table or the version does not exist, the version is already live, or no
            version is live.
        CommitConflictError: there were too many concurrent promotions.
    """
    wanted = ImagesTable.open(location, version).version
    uri = location.uri

    def started(last: Promotion | None) -> _Next:
        if last is None:
            raise TableError(
                f"{uri}: no version is live, so the canary cannot be compared. To promote without "
                f"a canary, run: skytext promote {uri} {wanted}"
            )
        if last.version == wanted:
            raise TableError(f"{uri}: version {wanted} is live already: choose another version")
        ends_at = dt.datetime.now(dt.UTC) + dt.timedelta(minutes=minutes)
        return _Next("canary", last.versions, why, Canary(wanted, share, ends_at))

    done, _ = _write(location, started)
    forget_searches(location, done.number)
    return done


def end_canary(location: TableLocation, number: int, *, passed: bool, why: str) -> bool:
    """Make a canary live, or stop it. Return False if the canary has already ended.

    Args:
        location: the table.
        number: number of the record that began the canary.
        passed: true to make the canary live, false to stop it.
        why: the reason for the change. The history shows it.

    Raises:
        TableError: the table does not exist, or no canary was ever started.
        CommitConflictError: there were too many concurrent promotions.
    """

    def ended(last: Promotion | None) -> _Next | Promotion:
        if last is None:
            raise TableError(f"{location.uri}: no canary is running")
        if last.canary is None or last.number != number:
            return last
        if not passed:
            return _Next("stop", last.versions, f"version {last.canary.version}: {why}")
        return _Next("promote", _added(last, last.canary.version), why)

    return _write(location, ended)[1]


def promotions(location: TableLocation, limit: int = 10) -> list[Promotion]:
    """Return the last records of the log, newest first."""
    return [Promotion.from_json(data) for data in islice(_log(location).newest_first(), limit)]


def last_promotion(location: TableLocation) -> Promotion | None:
    """Return the last record of the log, or None if the log is empty."""
    return next(iter(promotions(location, 1)), None)


def recent_versions(location: TableLocation, limit: int) -> list[int]:
    """Return the distinct versions that were recently live or a canary, newest first."""
    found: dict[int, None] = {}
    for promotion in promotions(location, limit * 4):
        found[promotion.version] = None
        if promotion.canary is not None:
            found[promotion.canary.version] = None
    return list(found)[:limit]


def _last(location: TableLocation) -> Promotion | None:
    """Return the last record, or None if no version is live.

    An old table may have the tag ``live`` but no log. In this case, a record is made from the tag.
    """
    last = last_promotion(location)
    if last is not None:
        return last
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
        next_after: function that gets the last record and returns the fields of the next record. If
            no change is needed, the function returns the last record. If another process wrote a
            record first, the function is called again.

    Returns:
        The last record, and whether this call wrote this record.
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
    """Write the next record and return it.

    Return None if another process wrote a record with the same number first.
    """
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
        # In a container, the user may have no name.
        return str(os.getuid())


def _log(location: TableLocation) -> NumberedLog:
    return NumberedLog(location, _FOLDER, _KEPT_RECORDS)


def set_tags(location: TableLocation) -> None:
    """Set the tags from the last record of the log. Repeat this until the tags match the log.

    A writer must call this after it has written a record. If the writer was killed before this
    call, the tags still match an earlier record. The next call of this function, by any process,
    corrects the tags.

    Raises:
        TableError: the table does not exist.
        CommitConflictError: there were too many concurrent promotions.
    """
    table = ImagesTable.open(location)
    for _ in range(_TRIES):
        last = last_promotion(location)
        if last is None:
            return
        wanted = {f"{_KEPT_TAG}{version}": version for version in last.versions[:-1]}
        wanted[LIVE_TAG] = last.version
        if last.canary is not None:
            wanted[CANARY_TAG] = last.canary.version
        there = {n: v for n, v in table.tags().items() if _is_ours(n)}
        if there == wanted:
            return
        # Set the new tags first, and then delete the old tags. So each needed version always has a
        # tag.
        for name in sorted(wanted):
            if there.get(name) != wanted[name]:
                table.set_tag(name, wanted[name])
        for name in there.keys() - wanted.keys():
            table.delete_tag(name)
    raise _conflict(location)


def _is_ours(tag: str) -> bool:
    return tag in (LIVE_TAG, CANARY_TAG) or tag.startswith(_KEPT_TAG)


def _conflict(location: TableLocation) -> CommitConflictError:
    return CommitConflictError(f"too many concurrent promotions of {location.uri}: try again")
