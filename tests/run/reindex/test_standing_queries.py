"""Standing queries over several runs: each new matching image is reported exactly once."""

from __future__ import annotations

import datetime as dt
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from skytext.filters.cql2_text import parse_filter
from skytext.run.caption_plan import plan_caption
from skytext.run.reindex import tell_run
from skytext.run.reindex.reindex_run import ReindexSummary, run_reindex
from skytext.search import Searcher
from skytext.search.request import SearchRequest
from skytext.table.reported_matches import MatchLog
from skytext.table.standing_queries import StandingQueries, StandingQuery
from skytext.table.state_files import StateStore
from tests.archives import images, jpeg, write_archive
from tests.run.jobs import caption, config, open_table, ray, rows, with_ray

pytestmark = [ray, with_ray]

QUESTION = "a river beside fields and houses"


def night(root: Path, table: Path, **settings: Any) -> ReindexSummary:
    settings = {"index__vector": "never", "reindex__max_withdrawn": 1.0} | settings
    plan = plan_caption([str(root)], str(table), config(**settings), stale="all")
    return run_reindex(plan)


def found_by_search(table: Path, query: StandingQuery) -> dict[str, float]:
    """The images of the live version that an exact search finds, with their scores."""
    asked = {"text": query.text, "min_score": query.min_score, "where": query.where}
    request = SearchRequest(k=1000, exact=True, mode="dense", **asked)
    result = Searcher.open(str(table)).search(request)
    return {hit.image_id: hit.score or 0.0 for hit in result.hits}


@dataclass
class Watcher:
    """The reports in the files of the runs, and the results of exact searches."""

    table: Path
    query: StandingQuery
    expected: set[tuple[str, str]] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.known = set(self.contents().items())

    def contents(self) -> dict[str, str]:
        found = rows(self.table, "image_id", "content_sha256", "status")
        return {row["image_id"]: row["content_sha256"] for row in found if row["status"] == "ok"}

    def look(self) -> None:
        contents = self.contents()
        matches = found_by_search(self.table, self.query)
        self.expected |= {(one, contents[one]) for one in matches} - self.known

    def reported(self) -> list[dict[str, Any]]:
        files = sorted(Path(self.table, "reports").glob("matches-*.geojson"))
        features = [one for path in files for one in json.loads(path.read_text())["features"]]
        return [f for f in features if f["properties"]["query_id"] == self.query.query_id]

    def check(self) -> None:
        self.look()
        ids = [one["properties"]["image_id"] for one in self.reported()]
        assert sorted(ids) == sorted(image_id for image_id, _ in self.expected)


def test_each_new_image_is_reported_once_over_nights(tmp_path: Path) -> None:
    root, table = tmp_path / "aerial", tmp_path / "table"
    write_archive(root, {"a.tar": images(0, 12)})
    night(root, table)
    queries = StandingQueries(open_table(table).location)
    scores = sorted(found_by_search(table, queries.add(QUESTION, -1.0)).values())
    middle = scores[len(scores) // 2]
    everything = Watcher(table, queries.list()[0])
    some = Watcher(table, queries.add(QUESTION, middle))

    # Nothing is new: nothing is reported, old images that match least of all.
    assert night(root, table).matches == ()
    write_archive(root, {"b.tar": images(20, 12)})
    second = night(root, table)
    assert [report.number for report in second.matches] == [1]
    counts = {one["query_id"]: one["num_matches"] for one in second.matches[0].counts}
    assert counts[everything.query.query_id] == 12
    assert 0 < counts[some.query.query_id] < 12
    for watcher in (everything, some):
        watcher.check()

    # Described again, embedded again, and one more image: only that one is reported.
    write_archive(root, {"c.tar": images(40, 1)})
    night(root, table, caption__num_variants=2)
    again: dict[str, Any] = {"caption__num_variants": 2, "embed__model": "fake:dim=24"}
    everything.check()
    some.check()
    write_archive(root, {"d.tar": images(50, 2)})
    night(root, table, **again)
    everything.check()
    some.look()
    assert len({one["id"] for one in some.reported()}) == len(some.reported())
    assert len(everything.reported()) == 15

    # Other bytes are another picture. The same bytes that come back are not.
    changed = [("0000.jpg", jpeg(99)), *images(1, 11)]
    write_archive(root, {"a.tar": changed})
    Path(root, "b.tar").unlink()
    night(root, table, **again)
    everything.check()
    assert len(everything.reported()) == 16
    write_archive(root, {"b.tar": images(20, 12)})
    night(root, table, **again)
    everything.check()
    assert len(everything.reported()) == 16

    # A query that is added now does not report what is there, and one that is removed nothing.
    late = Watcher(table, queries.add(QUESTION, -1.0, parse_filter("collection = 'other'")))
    queries.remove(everything.query.query_id)
    write_archive(root, {"e.tar": images(60, 1)})
    night(root, table, **again)
    assert len(everything.reported()) == 16
    assert late.reported() == []


class Killed(BaseException):
    """Ends the run as a kill does: nothing catches it."""


@pytest.mark.parametrize("place", ["before the comparison", "at the file", "before it is noted"])
def test_a_killed_run_reports_nothing_twice_and_nothing_never(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    root, table = tmp_path / "aerial", tmp_path / "table"
    write_archive(root, {"a.tar": images(0, 2)})
    night(root, table)
    watcher = Watcher(table, StandingQueries(open_table(table).location).add(QUESTION, -1.0))
    write_archive(root, {"b.tar": images(20, 3)})

    def kill(*_: Any) -> Any:
        raise Killed

    with monkeypatch.context() as patch:
        if place == "before the comparison":
            patch.setattr(tell_run, "find_new_matches", kill)
        elif place == "at the file":
            patch.setattr(MatchLog, "matches", kill)
        else:
            patch.setattr(MatchLog, "mark_told", kill)
        with pytest.raises(Killed):
            night(root, table)
    # The version is live. The next run finds no work, and reports.
    write_archive(root, {"c.tar": images(30, 1)})
    night(root, table)
    watcher.check()
    assert len(watcher.reported()) == 4
    assert night(root, table).matches == ()
    log = MatchLog(open_table(table).location).last()
    assert (log.waiting, len(log.reported[watcher.query.query_id])) == ((), 4)
    left = list(StateStore(open_table(table).location).list("watch/matches"))
    assert left == []


def test_an_image_that_is_not_served_yet_is_new_for_a_query(tmp_path: Path) -> None:
    root, table = tmp_path / "aerial", tmp_path / "table"
    write_archive(root, {"a.tar": images(0, 2)})
    night(root, table)
    live = open_table(table).live_version()
    # Described by a captioning run, and not promoted: no search finds it.
    write_archive(root, {"b.tar": images(20, 3)})
    caption(root, table)
    queries = StandingQueries(open_table(table).location)
    query = queries.add(QUESTION, -1.0)
    assert query.added_at <= dt.datetime.now(dt.UTC)
    assert open_table(table).live_version() == live
    report = night(root, table).matches[0]
    assert report.num_matches == 3
    assert report.counts[0]["text"] == QUESTION
