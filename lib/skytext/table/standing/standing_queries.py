"""The standing queries of a table, and the images that each query must not report.

Each query has two small objects under ``T/state/watch``. The first object contains the query. The
second object contains the keys of the images that existed in the searched version when the query
was added. A key has 16 bytes. It identifies an image and the content of the image.
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
from skytext.table.store.state_files import StateStore

FOLDER = "watch"
_QUERIES = f"{FOLDER}/queries"
_KNOWN = f"{FOLDER}/known"
KEY = f"S{ID_BYTES}"
"""The dtype of a key. A key identifies an image and the content of the image."""


@dataclass(frozen=True, slots=True)
class StandingQuery:
    """A query that is compared with all new images.

    Attributes:
        query_id: id of the query, eight hexadecimal digits.
        text: the text of the query, in natural language.
        min_score: minimum score of a reported image. The score is the cosine that searches also
            return.
        where: filter of the images; None for all images.
        added_at: time when the query was added.
    """

    query_id: str
    text: str
    min_score: float
    where: Condition | None
    added_at: dt.datetime

    def to_json(self) -> dict[str, Any]:
        """Return the fields as a JSON object. The filter is in CQL2 JSON."""
        return {
            "query_id": self.query_id,
            "text": self.text,
            "min_score": self.min_score,
            "where": None if self.where is None else to_json(self.where),
            "added_at": self.added_at.isoformat(),
        }

    @classmethod
    def from_json(cls, data: bytes) -> StandingQuery:
        """Parse the bytes of a query. They contain the JSON object that `to_json` returns."""
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
        """Add a query. Images that a search can already find are never reported.

        Args:
            text: the text of the query.
            min_score: minimum score of a reported image.
            where: filter of the images; None for all images.

        Raises:
            TableError: the table does not exist.
            JobError: a store request failed.
        """
        known = pictures(ImagesTable.open_served(self.location)).keys
        query = StandingQuery(uuid.uuid4().hex[:8], text, min_score, where, dt.datetime.now(dt.UTC))
        # Write the keys of the known images before the query. If a run found the query without
        # these keys, it would report all images of the table.
        self._state.put(_known_path(query.query_id), known.tobytes())
        self._state.put(_path(query.query_id), json.dumps(query.to_json()).encode())
        return query

    def list(self) -> list[StandingQuery]:
        """Return the queries, oldest first.

        Raises:
            JobError: a store request failed.
        """
        read = (self._state.get(path) for path in list(self._state.list(_QUERIES)))
        found = [StandingQuery.from_json(data) for data in read if data is not None]
        return sorted(found, key=lambda query: (query.added_at, query.query_id))

    def remove(self, query_id: str) -> None:
        """Remove a query.

        Raises:
            CallError: the query does not exist.
            JobError: a store request failed.
        """
        if self._state.get(_path(query_id)) is None:
            raise CallError(
                f"{self.location.uri} has no standing query {query_id!r}. To list the standing "
                f"queries, run: skytext watch list {self.location.uri}"
            )
        self._state.delete([_path(query_id)])
        self._state.delete([_known_path(query_id)])

    def known(self, query: StandingQuery) -> NDArray[np.bytes_] | None:
        """Return the keys of the images that searches could already find when the query was added.

        Returns:
            Array of dtype S16, in no particular order; None if the query has been removed.

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
