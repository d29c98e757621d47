"""Read the last queries that services have logged beside a table."""

from __future__ import annotations

from collections.abc import Callable

from skytext.errors import ConfigError
from skytext.search.request import SearchRequest
from skytext.table.location import TableLocation
from skytext.table.logged_queries import last_queries


def logged_requests(
    location: TableLocation, number: int, on_note: Callable[[str], None]
) -> tuple[SearchRequest, ...]:
    """Return the last queries of all services, the last one at the end.

    Args:
        location: the table.
        number: maximum number of queries.
        on_note: receives a message about each object and each query that cannot be read.

    Raises:
        JobError: a store request failed.
    """
    found, requests = last_queries(location, number), list[SearchRequest]()
    for path in found.broken:
        on_note(f"logged queries were left out: {path} is damaged, or of another skytext")
    for search in found.searches:
        try:
            requests.append(SearchRequest.from_json(search))
        except ConfigError as error:
            on_note(f"a logged query was left out: {error}")
    return tuple(requests)
