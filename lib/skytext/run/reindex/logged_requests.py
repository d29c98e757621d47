"""Read the last queries that services have logged. The log is stored with the table."""

from __future__ import annotations

from collections.abc import Callable

from skytext.errors import ConfigError
from skytext.search.request import SearchRequest
from skytext.table.location import TableLocation
from skytext.table.logged_queries import last_queries


def logged_requests(
    location: TableLocation, number: int, on_note: Callable[[str], None]
) -> tuple[SearchRequest, ...]:
    """Return the last queries of all services, in the order in which they were made.

    Args:
        location: the table.
        number: maximum number of queries.
        on_note: receives a message about each log object and each query that cannot be read.

    Raises:
        JobError: a store request failed.
    """
    found, requests = last_queries(location, number), list[SearchRequest]()
    for path in found.broken:
        on_note(
            f"some logged queries were skipped, because {path} is damaged or was written by "
            "another version of skytext"
        )
    for search in found.searches:
        try:
            requests.append(SearchRequest.from_json(search))
        except ConfigError as error:
            on_note(f"a logged query was skipped: {error}")
    return tuple(requests)
