"""A canary is a version that is used for a share of the searches before it becomes live.

The log of promotions contains the version and the end time of the canary. The counts of searches
are stored separately. Each service process counts its own searches in the canary and in the live
version. The process writes these counts to one small object, ``T/state/canary/NUMBER/HOLDER.json``.
To compare the two versions, a service adds the counts of all processes, including processes that
have ended.
"""

from __future__ import annotations

import datetime as dt
import json
import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from skytext.table.location import TableLocation
from skytext.table.store.state_files import StateStore

_FOLDER = "canary"
_STEP = 1.1
"""Ratio of the upper bound to the lower bound of a time bucket.

A quantile that is computed from the buckets is too large by at most this factor.
"""
_OVERDUE_AFTER = dt.timedelta(minutes=5)
_SHORTEST_S = 1e-4


@dataclass(frozen=True, slots=True)
class Canary:
    """A version that is used for a share of the searches.

    Attributes:
        version: the table version.
        share: share of the searches for which the canary is used, above 0 and at most 0.5. Searches
            that request a certain version are not included.
        ends_at: end time of the canary. If no service has stopped the canary by this time, it
            becomes live.
    """

    version: int
    share: float
    ends_at: dt.datetime

    @property
    def is_over(self) -> bool:
        """Whether the canary's end time has passed."""
        return dt.datetime.now(dt.UTC) >= self.ends_at

    @property
    def is_overdue(self) -> bool:
        """Whether the canary's end time passed more than five minutes ago.

        A running service ends a canary at the end time. So if a canary is overdue, probably no
        service is running.
        """
        return dt.datetime.now(dt.UTC) >= self.ends_at + _OVERDUE_AFTER

    @property
    def described(self) -> str:
        """A short description for users."""
        until = f"{self.ends_at.astimezone(dt.UTC):%Y-%m-%d %H:%M} UTC"
        return f"version {self.version} answers {self.share:.3g} of the searches until {until}"

    def to_json(self) -> dict[str, Any]:
        """Return the canary as a JSON object."""
        return {
            "version": self.version,
            "share": self.share,
            "ends_at": self.ends_at.isoformat(),
        }

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> Canary:
        """Parse the JSON object that `to_json` returns."""
        return cls(row["version"], row["share"], dt.datetime.fromisoformat(row["ends_at"]))


@dataclass(slots=True)
class Searches:
    """Counts of the searches in one version.

    Attributes:
        num: number of searches.
        num_failed: number of failed searches. An invalid request does not count as a failed search.
        buckets: number of searches in each bucket of durations. The upper bound of bucket i is
            1.1**i seconds.
    """

    num: int = 0
    num_failed: int = 0
    buckets: Counter[int] = field(default_factory=Counter)

    def add(self, seconds: float, *, failed: bool) -> None:
        """Count a search."""
        self.num += 1
        self.num_failed += failed
        self.buckets[math.ceil(math.log(max(seconds, _SHORTEST_S), _STEP))] += 1

    def update(self, other: Searches) -> None:
        """Add the searches that another process counted."""
        self.num += other.num
        self.num_failed += other.num_failed
        self.buckets.update(other.buckets)

    def quantile_s(self, share: float) -> float:
        """Return a quantile of the durations, in seconds; 0 if there are no searches."""
        left = share * self.num
        for bucket, number in sorted(self.buckets.items()):
            left -= number
            if left <= 0:
                return float(_STEP**bucket)
        return 0.0

    def num_slower(self, seconds: float) -> int:
        """Return the number of searches that took longer than a number of seconds.

        Only buckets whose lower bound is above this number are counted. So a search in the bucket
        that contains the number is not counted.
        """
        return sum(n for bucket, n in self.buckets.items() if _STEP ** (bucket - 1) > seconds)

    def to_json(self) -> dict[str, Any]:
        """Return the counts as a JSON object."""
        buckets = {str(bucket): number for bucket, number in self.buckets.items()}
        return {"num": self.num, "num_failed": self.num_failed, "buckets": buckets}

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> Searches:
        """Parse the JSON object that `to_json` returns."""
        buckets = Counter({int(bucket): number for bucket, number in row["buckets"].items()})
        return cls(row["num"], row["num_failed"], buckets)

    @property
    def described(self) -> str:
        """A short description for users."""
        slowest = f", 95 % within {self.quantile_s(0.95):.2g} s" if self.num else ""
        return f"{self.num:,} searches, {self.num_failed:,} failed{slowest}"


class Compared(NamedTuple):
    """Counts of the searches in the live version and in the canary.

    Only searches after the start of the canary are counted.

    Attributes:
        live: searches in the live version, including failed searches.
        canary: searches in the canary, including failed searches.
    """

    live: Searches
    canary: Searches

    @classmethod
    def empty(cls) -> Compared:
        """Return counts that are all 0."""
        return cls(Searches(), Searches())

    def to_json(self) -> dict[str, Any]:
        """Return the counts as a JSON object."""
        return {"live": self.live.to_json(), "canary": self.canary.to_json()}


def save_searches(
    location: TableLocation, number: int, holder: str, counted: Mapping[str, Any]
) -> None:
    """Store the numbers of searches that one process has counted since the canary began.

    Args:
        location: the table.
        number: number of the record that began the canary.
        holder: name of the process. The next call with the same name replaces the stored counts.
        counted: the counts, as returned by `Compared.to_json`.

    Raises:
        JobError: a store request failed.
    """
    StateStore(location).put(f"{_folder(number)}/{holder}.json", json.dumps(counted).encode())


def all_searches(location: TableLocation, number: int) -> Compared:
    """Return the total numbers of searches that all processes have counted since a canary began.

    Raises:
        JobError: a store request failed.
    """
    state, found = StateStore(location), Compared.empty()
    for path in state.list(_folder(number)):
        data = state.get(path)
        if data is not None:
            row = json.loads(data)
            found.live.update(Searches.from_row(row["live"]))
            found.canary.update(Searches.from_row(row["canary"]))
    return found


def forget_searches(location: TableLocation, number: int) -> None:
    """Delete the stored counts of all canaries, except the canary with this record number.

    Raises:
        JobError: a store request failed.
    """
    state = StateStore(location)
    state.delete([p for p in state.list(_FOLDER) if not p.startswith(f"{_folder(number)}/")])


def _folder(number: int) -> str:
    return f"{_FOLDER}/{number:012d}"
