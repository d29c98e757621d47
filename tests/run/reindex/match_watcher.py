"""Find the expected reports of standing queries with an exact search of each version."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from skytext.search import Searcher
from skytext.search.request import SearchRequest
from skytext.table.images_dataset import ImagesTable
from skytext.table.location import TableLocation
from skytext.table.standing.standing_queries import StandingQueries, StandingQuery
from tests.table.rows import rows_of


def found_by_search(table: Path, query: StandingQuery) -> dict[str, float]:
    """Return the images that an exact search of the live version finds, with their scores."""
    asked = {"text": query.text, "min_score": query.min_score, "where": query.where}
    request = SearchRequest(k=1000, exact=True, mode="dense", **asked)
    result = Searcher.open(str(table)).search(request)
    return {hit.image_id: hit.score or 0.0 for hit in result.hits}


@dataclass
class Watcher:
    """Compares the report files of runs with the results of exact searches.

    Attributes:
        table: folder of the table.
        query: the standing query. It must be added just before this object is created.
        expected: pictures that must have been reported. A picture is the id of an image, and the
            content of the image.
    """

    table: Path
    query: StandingQuery
    expected: set[tuple[str, str]] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.known = set(self.contents().items())

    def contents(self) -> dict[str, str]:
        """Return the content of each image of the live version that a search may find."""
        live = ImagesTable.open_served(TableLocation.parse(str(self.table)))
        found = rows_of(live, "image_id", "content_sha256", "status")
        return {row["image_id"]: row["content_sha256"] for row in found if row["status"] == "ok"}

    def reported(self) -> list[dict[str, Any]]:
        """Return all features that were reported for the query."""
        files = sorted(Path(self.table, "reports").glob("matches-*.geojson"))
        features = [one for path in files for one in json.loads(path.read_text())["features"]]
        return [f for f in features if f["properties"]["query_id"] == self.query.query_id]

    def look(self) -> None:
        """Add the new matches in the live version to the expected pictures.

        Call this method after a run has compared the live version. A run must report each match.
        """
        contents = self.contents()
        matches = found_by_search(self.table, self.query)
        self.expected |= {(one, contents[one]) for one in matches} - self.known

    def check(self) -> None:
        """Check that each expected picture was reported exactly once.

        Call this method after a run has ended.
        """
        self.look()
        ids = [one["properties"]["image_id"] for one in self.reported()]
        assert sorted(ids) == sorted(image_id for image_id, _ in self.expected)


def watch_some(table: Path, text: str) -> list[Watcher]:
    """Add a query that matches every image, and a query that matches about half of the images."""
    queries = StandingQueries(TableLocation.parse(str(table)))
    everything = Watcher(table, queries.add(text, -1.0))
    scores = sorted(set(found_by_search(table, everything.query).values()))
    middle = len(scores) // 2
    # The minimum score is between two scores, so that rounding has no effect.
    return [everything, Watcher(table, queries.add(text, sum(scores[middle - 1 : middle + 1]) / 2))]
