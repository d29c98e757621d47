"""The last searches of the services of a table, for a comparison of two versions.

Each service process rewrites one small object, ``T/state/queries/HOLDER.json``, with its own last
searches. So processes on several machines write at once without a conflict, and `skytext reindex`
reads all of them. Searches may be personal data: their number and their age are limited, also for
processes that have ended.
"""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from pydantic import AwareDatetime, TypeAdapter, ValidationError

from skytext.table.location import TableLocation
from skytext.table.store.state_files import StateStore

MAX_QUERIES = 1000
"""Number of searches that a process may save."""
MAX_AGE = dt.timedelta(days=7)
"""Older searches are not read. An object that was not rewritten for this time is deleted."""
_MAX_HOLDERS = 100
_FOLDER = "queries"


@dataclass(frozen=True, slots=True)
class LoggedQuery:
    """A search that a service has answered.

    Attributes:
        at: the last time, by the service's clock.
        search: a `skytext.search.request.SearchRequest` as a JSON object.
    """

    at: AwareDatetime
    search: dict[str, Any]


_QUERIES = TypeAdapter(list[LoggedQuery])


class LastQueries(NamedTuple):
    """The last searches of all services.

    Attributes:
        searches: distinct JSON objects, the last one at the end.
        broken: addresses of objects that cannot be read as searches.
    """

    searches: list[dict[str, Any]]
    broken: list[str]


def save_queries(location: TableLocation, holder: str, queries: Sequence[LoggedQuery]) -> None:
    """Write the last searches of one process.

    Args:
        location: the table.
        holder: name of the process; its next call replaces these searches.
        queries: at most `MAX_QUERIES`.

    Raises:
        JobError: a store request failed.
    """
    StateStore(location).put(f"{_FOLDER}/{holder}.json", _QUERIES.dump_json(list(queries)))


def last_queries(location: TableLocation, number: int) -> LastQueries:
    """Return the last searches of all processes, also of those that have ended.

    Args:
        location: the table.
        number: maximum number of searches.

    Raises:
        JobError: a store request failed.
    """
    state, broken = StateStore(location), list[str]()
    oldest = dt.datetime.now(dt.UTC) - MAX_AGE
    found: dict[str, LoggedQuery] = {}
    for path in state.list(_FOLDER):
        try:
            queries = _QUERIES.validate_json(state.get(path) or b"[]")
        except ValidationError:
            broken.append(f"{state.uri}/{path}")
            continue
        for one in queries:
            said = json.dumps(one.search, sort_keys=True)
            if one.at >= max(oldest, found[said].at if said in found else oldest):
                found[said] = one
    last = sorted(found.values(), key=lambda one: one.at)[-number:] if number else []
    return LastQueries([one.search for one in last], broken)


def forget_queries(location: TableLocation) -> None:
    """Delete old objects, and the oldest ones if there are too many. Broken ones are no exception.

    An object of a running process may be deleted, too, if the process had no new search for
    `MAX_AGE`. Its next search writes the object again.

    Raises:
        JobError: a store request failed.
    """
    state = StateStore(location)
    modified = state.modified_times(_FOLDER)
    if modified:
        oldest = state.now() - MAX_AGE
        newest_first = sorted(modified, key=modified.__getitem__, reverse=True)
        kept = [path for path in newest_first[:_MAX_HOLDERS] if modified[path] >= oldest]
        state.delete(newest_first[len(kept) :])
