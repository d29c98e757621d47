"""The log of the last searches in a table. It is used to compare two versions of the table.

Each service process writes its own last searches to one small object,
``T/state/queries/HOLDER.json``. So processes on several machines can write at the same time without
a conflict. `skytext reindex` reads all these objects. Searches may contain personal data. So the
number and the age of the stored searches are limited. These limits also apply to the objects of
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
"""Maximum number of searches that a process saves."""
MAX_AGE = dt.timedelta(days=7)
"""Maximum age of a search. Older searches are not read.

An object is deleted if it has not changed for this time.
"""
_MAX_HOLDERS = 100
_FOLDER = "queries"


@dataclass(frozen=True, slots=True)
class LoggedQuery:
    """A search that a service has processed.

    Attributes:
        at: the last time when a user made this search, by the clock of the service.
        search: the `skytext.search.request.SearchRequest`, as a JSON object.
    """

    at: AwareDatetime
    search: dict[str, Any]


_QUERIES = TypeAdapter(list[LoggedQuery])


class LastQueries(NamedTuple):
    """The last searches of all services.

    Attributes:
        searches: distinct JSON objects. The latest search is at the end.
        broken: addresses of the objects that do not contain valid searches.
    """

    searches: list[dict[str, Any]]
    broken: list[str]


def save_queries(location: TableLocation, holder: str, queries: Sequence[LoggedQuery]) -> None:
    """Write the last searches of one process.

    Args:
        location: the table.
        holder: name of the process. The next call with the same name replaces the searches.
        queries: the searches, at most `MAX_QUERIES`.

    Raises:
        JobError: a store request failed.
    """
    StateStore(location).put(f"{_FOLDER}/{holder}.json", _QUERIES.dump_json(list(queries)))


def last_queries(location: TableLocation, number: int) -> LastQueries:
    """Return the last searches of all processes, including processes that have ended.

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
            key = json.dumps(one.search, sort_keys=True)
            if one.at >= max(oldest, found[key].at if key in found else oldest):
                found[key] = one
    last = sorted(found.values(), key=lambda one: one.at)[-number:] if number else []
    return LastQueries([one.search for one in last], broken)


def forget_queries(location: TableLocation) -> None:
    """Delete objects older than `MAX_AGE`. If too many objects are left, delete the oldest objects.

    Objects that cannot be read are also deleted. The object of a running process is deleted if the
    process had no new search for `MAX_AGE`. After the next search, the process writes the object
    again.

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
