"""Store the latest searches of an ingress process in the folders of its tables.

The command `skytext reindex` reads these searches. Each search is first added to a dictionary in
memory. A background task writes the dictionary to the store at most once per minute. Therefore, a
slow or failing store does not delay any search.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import json
import logging
from collections.abc import Sequence

from skytext.search.request import SearchRequest
from skytext.service.failure_log import FailureLog
from skytext.table.location import TableLocation
from skytext.table.logged_queries import (
    MAX_AGE,
    MAX_QUERIES,
    LoggedQuery,
    forget_queries,
    save_queries,
)
from skytext.table.store.state_files import new_holder

_log = logging.getLogger("skytext.service.query_log")
_SAVE_EVERY_S = 60.0
_MAX_CHARS = 2000
"""The maximum length of a stored search. Longer searches are not stored. With this limit, 1,000
searches need at most 2 MB."""


class QueryLog:
    """The latest distinct searches of this process.

    Args:
        locations: the served tables. The searches are stored in the folder of each table.
    """

    def __init__(self, locations: Sequence[TableLocation]) -> None:
        self._locations = locations
        self._holder = new_holder()
        self._asked: dict[str, dt.datetime] = {}
        self._saved: dict[TableLocation, dict[str, dt.datetime]] = {}
        self._failures = FailureLog(_log)

    def add(self, request: SearchRequest) -> None:
        """Add a search that was answered. A request for a later page is not added."""
        search = request.model_dump_json(exclude_defaults=True, exclude={"k", "cursor"})
        if request.cursor is not None or len(search) > _MAX_CHARS:
            return
        # If the search was already added, move it to the end.
        self._asked.pop(search, None)
        self._asked[search] = dt.datetime.now(dt.UTC)
        if len(self._asked) > MAX_QUERIES:
            del self._asked[next(iter(self._asked))]

    async def follow(self) -> None:
        """Call `save` periodically until the task is cancelled."""
        while True:
            await asyncio.sleep(_SAVE_EVERY_S)
            await self.save()

    async def save(self) -> None:
        """Write the searches to the folder of each table if the searches have changed.

        If the store fails, log the first of several errors in a row.
        """
        oldest = dt.datetime.now(dt.UTC) - MAX_AGE
        self._asked = {search: at for search, at in self._asked.items() if at >= oldest}
        asked = dict(self._asked)
        for location in self._locations:
            if asked == self._saved.get(location, {}):
                continue
            with self._failures.catch("cannot save the queries", table=location.uri):
                await asyncio.to_thread(self._write, location, asked)

    def _write(self, location: TableLocation, asked: dict[str, dt.datetime]) -> None:
        if location not in self._saved:
            # Delete old searches of other processes here, because not every table has a nightly
            # clean-up.
            forget_queries(location)
        queries = [LoggedQuery(at, json.loads(search)) for search, at in asked.items()]
        save_queries(location, self._holder, queries)
        self._saved[location] = asked
