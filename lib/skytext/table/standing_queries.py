"""The standing queries of a table, and the images that each of them does not report.

Each query has two small objects under ``T/state/watch``: its conditions, and the pictures that a
search could find when it was added. A picture is an image and its bytes: 16 bytes each.
"""

from __future__ import annotations

import datetime as dt
import json
import uuid
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skytext.errors import CallError
from skytext.filters.conditions import Condition
from skytext.filters.cql2_json import filter_from_json
from skytext.filters.cql2_out import to_json
from skytext.table.id_sums import ID_BYTES
from skytext.table.images_dataset import ImagesTable
from skytext.table.location import TableLocation
from skytext.table.queries.caption_queries import pictures
from skytext.table.state_files import StateStore

FOLDER = "watch"
_QUERIES = f"{FOLDER}/queries"
_KNOWN = f"{FOLDER}/known"
KEY = f"S{ID_BYTES}"
"""The dtype of a picture's key."""


@dataclass(frozen=True, slots=True)
class StandingQuery:
    """A query that is compared with new images.

    Attributes:
        query_id: eight hexadecimal digits.
        text: the query in plain words.
        min_score: the minimum score of a match: a cosine, as searches show it.
        where: the filter; None for all images.
        added_at: the time when the query was added.
    """

    query_id: str
    text: str
    min_score: float
    where: Condition | None
    added_at: dt.datetime

    def to_json(self) -> dict[str, Any]:
        """Return the fields as a JSON object; the filter is CQL2 JSON."""
        return {
            "query_id": self.query_id,
            "text": self.text,
            "min_score": self.min_score,
            "where": None if self.where is None else to_json(self.where),
            "added_at": self.added_at.isoformat(),
        }

    @classmethod
    def from_json(cls, data: bytes) -> StandingQuery:
        """Read what `to_json` wrote."""
        row = json.loads(data)
        return cls(
            query_id=row["query_id"],
            text=row["text"],
            min_score=row["min_score"],
            where=None if row["where"] is None else filter_from_json(row["where"]),
            added_at=dt.datetime.fromisoformat(row["added_at"]),
        )


@dataclass(frozen=True, slots=True)
class StandingQueries:
    """The standing queries of one table.

    Attributes:
        location: the table.
    """

    location: TableLocation

    def add(self, text: str, min_score: float, where: Condition | None = None) -> StandingQuery:
        """Add a query. It reports images that no search can find yet.

        Args:
            text: the query in plain words.
            min_score: the minimum score of a match.
            where: the filter.

        Raises:
            TableError: there is no such table.
            JobError: a store request failed.
        """
        known = pictures(ImagesTable.open_served(self.location)).keys
        query = StandingQuery(uuid.uuid4().hex[:8], text, min_score, where, dt.datetime.now(dt.UTC))
        # Write the known pictures first: without them a run would report the whole table.
        self._state.put(_known_path(query.query_id), known.tobytes())
        self._state.put(_path(query.query_id), json.dumps(query.to_json()).encode())
        return query

    def list(self) -> list[StandingQuery]:
        """Return the queries, the oldest first.

        Raises:
            JobError: a store request failed.
        """
        read = (self._state.get(path) for path in list(self._state.list(_QUERIES)))
        found = [StandingQuery.from_json(data) for data in read if data is not None]
        return sorted(found, key=lambda query: (query.added_at, query.query_id))

    def remove(self, query_id: str) -> None:
        """Remove a query.

        Raises:
            CallError: there is no such query.
            JobError: a store request failed.
        """
        if self._state.get(_path(query_id)) is None:
            raise CallError(
                f"{self.location.uri} has no standing query {query_id!r}: "
                f"skytext watch list {self.location.uri} shows what there is"
            )
        self._state.delete([_path(query_id)])
        self._state.delete([_known_path(query_id)])

    def known(self, query: StandingQuery) -> NDArray[np.bytes_] | None:
        """Return the keys of the pictures that a search could find when a query was added.

        Returns:
            Dtype S16, unordered; None if the query was removed meanwhile.

        Raises:
            JobError: a store request failed.
        """
        data = self._state.get(_known_path(query.query_id))
        return None if data is None else np.frombuffer(data, KEY)

    @property
    def _state(self) -> StateStore:
        return StateStore(self.location)


def _path(query_id: str) -> str:
    return f"{_QUERIES}/{query_id}.json"


def _known_path(query_id: str) -> str:
    return f"{_KNOWN}/{query_id}.bin"
