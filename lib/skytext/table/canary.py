"""A canary: a version that answers a share of the searches before it becomes live.

The log of promotions says which version it is and until when. How the searches went is beside it:
each service process rewrites one small object, ``T/state/canary/NUMBER/HOLDER.json``, with its own
counts of both versions. Whoever judges adds up the objects of all processes, also of ended ones.
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
from skytext.table.state_files import StateStore

_FOLDER = "canary"
_STEP = 1.1
"""Ratio of the ends of a bucket of times: a quantile is at most this much too large."""
_LEFT_ALONE = dt.timedelta(minutes=5)
_SHORTEST_S = 1e-4


@dataclass(frozen=True, slots=True)
class Canary:
    """What answers a share of the searches.

    Attributes:
        version: of the table.
        share: of the searches that name no version, above 0 and at most 0.5.
        ends_at: when it becomes live unless it was stopped before.
    """

    version: int
    share: float
    ends_at: dt.datetime

    @property
    def is_over(self) -> bool:
        """Whether its time is over."""
        return dt.datetime.now(dt.UTC) >= self.ends_at

    @property
    def is_left_alone(self) -> bool:
        """Whether its time is over since minutes: a running service would have ended it."""
        return dt.datetime.now(dt.UTC) >= self.ends_at + _LEFT_ALONE

    @property
    def described(self) -> str:
        """The canary in a few words, for people."""
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
        """Read what `to_json` returned."""
        return cls(row["version"], row["share"], dt.datetime.fromisoformat(row["ends_at"]))


@dataclass(slots=True)
class Searches:
    """How the searches of one version went.

    Attributes:
        num: searches.
        num_failed: searches that failed, by no fault of the caller.
        buckets: searches by the time that they took: bucket i ends at 1.1**i seconds.
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
        """Return the time within which a share of the searches ended, in seconds; 0 for none."""
        left = share * self.num
        for bucket, number in sorted(self.buckets.items()):
            left -= number
            if left <= 0:
                return float(_STEP**bucket)
        return 0.0

    def num_slower(self, seconds: float) -> int:
        """Return how many searches certainly took longer."""
        return sum(n for bucket, n in self.buckets.items() if _STEP ** (bucket - 1) > seconds)

    def to_json(self) -> dict[str, Any]:
        """Return the counts as a JSON object."""
        buckets = {str(bucket): number for bucket, number in self.buckets.items()}
        return {"num": self.num, "num_failed": self.num_failed, "buckets": buckets}

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> Searches:
        """Read what `to_json` returned."""
        buckets = Counter({int(bucket): number for bucket, number in row["buckets"].items()})
        return cls(row["num"], row["num_failed"], buckets)

    @property
    def described(self) -> str:
        """The counts in a few words, for people."""
        slowest = f", 95 % within {self.quantile_s(0.95):.2g} s" if self.num else ""
        return f"{self.num:,} searches, {self.num_failed:,} failed{slowest}"


class Compared(NamedTuple):
    """Searches of both versions since the canary began.

    Attributes:
        live: searches that the live version answered.
        canary: searches that the canary answered, or failed to answer.
    """

    live: Searches
    canary: Searches

    @classmethod
    def empty(cls) -> Compared:
        """Return counts of nothing."""
        return cls(Searches(), Searches())

    def to_json(self) -> dict[str, Any]:
        """Return the counts as a JSON object."""
        return {"live": self.live.to_json(), "canary": self.canary.to_json()}


def save_searches(
    location: TableLocation, number: int, holder: str, counted: Mapping[str, Any]
) -> None:
    """Write what one process has counted since the canary began.

    Args:
        location: the table.
        number: of the record that began the canary.
        holder: name of the process; its next call replaces this one.
        counted: `Compared.to_json`.

    Raises:
        JobError: a store request failed.
    """
    StateStore(location).put(f"{_folder(number)}/{holder}.json", json.dumps(counted).encode())


def all_searches(location: TableLocation, number: int) -> Compared:
    """Return what all processes have counted since a canary began.

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
    """Delete the counts of all canaries but one.

    Raises:
        JobError: a store request failed.
    """
    state = StateStore(location)
    state.delete([p for p in state.list(_FOLDER) if not p.startswith(f"{_folder(number)}/")])


def _folder(number: int) -> str:
    return f"{_FOLDER}/{number:012d}"
