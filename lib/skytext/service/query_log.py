"""Keep the last searches of an ingress process beside its tables, for `skytext reindex`.

A search only adds to a dictionary in memory. A task writes it at most once a minute, in a thread.
So a store that fails or is slow does not delay any search.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import json
import logging
import socket
import uuid
from collections.abc import Sequence

from skytext.errors import SkytextError
from skytext.search.request import SearchRequest
from skytext.table.location import TableLocation
from skytext.table.logged_queries import (
    MAX_AGE,
    MAX_QUERIES,
    LoggedQuery,
    forget_queries,
    save_queries,
)

_log = logging.getLogger("skytext.service.query_log")
_SAVE_EVERY_S = 60.0
_MAX_CHARS = 2000
"""Longer searches are not kept: 1,000 of these are 2 MB."""


class QueryLog:
    """The last distinct searches of this process.

    Args:
        locations: the served tables; each gets a copy.
    """

    def __init__(self, locations: Sequence[TableLocation]) -> None:
        self._locations = locations
        self._holder = f"{socket.gethostname()}-{uuid.uuid4().hex[:12]}"
        self._asked: dict[str, dt.datetime] = {}
        self._saved: dict[TableLocation, dict[str, dt.datetime]] = {}
        self._failing: set[TableLocation] = set()

    def add(self, request: SearchRequest) -> None:
        """Keep an answered search. The next page of a search is the same search."""
        search = request.model_dump_json(exclude_defaults=True, exclude={"k", "cursor"})
        if request.cursor is not None or len(search) > _MAX_CHARS:
            return
        # A repeated search moves to the end.
        self._asked.pop(search, None)
        self._asked[search] = dt.datetime.now(dt.UTC)
        if len(self._asked) > MAX_QUERIES:
            del self._asked[next(iter(self._asked))]

    async def follow(self) -> None:
        """Save periodically; continue after store errors."""
        while True:
            await asyncio.sleep(_SAVE_EVERY_S)
            await self.save()

    async def save(self) -> None:
        """Write the searches beside each table if they have changed; log a store error."""
        oldest = dt.datetime.now(dt.UTC) - MAX_AGE
        self._asked = {search: at for search, at in self._asked.items() if at >= oldest}
        asked = dict(self._asked)
        for location in self._locations:
            if asked == self._saved.get(location, {}):
                continue
            try:
                await asyncio.to_thread(self._write, location, asked)
                self._failing.discard(location)
            except (SkytextError, OSError, ValueError) as error:
                if location not in self._failing:
                    _log.warning("cannot save the queries", extra={"error": str(error)})
                self._failing.add(location)

    def _write(self, location: TableLocation, asked: dict[str, dt.datetime]) -> None:
        if location not in self._saved:
            # Services come and go, and not every table has a nightly clean-up.
            forget_queries(location)
        queries = [LoggedQuery(at, json.loads(search)) for search, at in asked.items()]
        save_queries(location, self._holder, queries)
        self._saved[location] = asked
