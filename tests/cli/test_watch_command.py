"""Test ``watch add``, ``watch list`` and ``watch remove``."""

from __future__ import annotations

import json
from pathlib import Path

from skytext.filters.conditions import And
from skytext.table.location import TableLocation
from skytext.table.standing.standing_queries import StandingQueries
from tests.cli.conftest import Skytext
from tests.cli.tables import DESCRIBED, make_described_table

SQUARE = '{"type":"Polygon","coordinates":[[[8,50],[9,50],[9,51],[8,51],[8,50]]]}'


def test_a_query_is_added_listed_and_removed(tmp_path: Path, skytext: Skytext) -> None:
    table = tmp_path / "table"
    make_described_table(table)
    shape = tmp_path / "region.geojson"
    shape.write_text(SQUARE)
    words = ("watch", "add", table, "new solar farm", "--min-score", "0.4")
    added = skytext(*words, "--polygon", shape, "--after", "2026-01-01", "--json")
    assert added.status == 0, added.err
    query = json.loads(added.out)
    assert (query["text"], query["min_score"]) == ("new solar farm", 0.4)
    # The command prints a note and not an error, because future images may have the field.
    assert "note: no image of" in added.err

    plain = skytext(*words)
    assert (plain.status, "watch remove" in plain.err) == (0, True)
    listed = json.loads(skytext("watch", "list", table, "--json").out)["queries"]
    assert [one["query_id"] for one in listed] == [query["query_id"], plain.out.strip()]
    assert listed[0]["num_reported"] == 0
    store = StandingQueries(TableLocation.parse(str(table)))
    first = store.list()[0]
    assert isinstance(first.where, And)
    assert len(first.where.conditions) == 2
    known = store.known(first)
    assert known is not None
    assert len(known) == len(DESCRIBED)
    shown = skytext("watch", "list", table).out
    assert "new solar farm  (score at least 0.4, with a filter; 0 images reported" in shown

    for query_id in (query["query_id"], plain.out.strip()):
        assert skytext("watch", "remove", table, query_id).status == 0
    assert skytext("watch", "list", table).out == "no standing queries\n"
    assert store.known(first) is None


def test_wrong_calls_of_watch_say_what_to_type(tmp_path: Path, skytext: Skytext) -> None:
    table = tmp_path / "table"
    make_described_table(table)
    unknown = skytext("watch", "remove", table, "12345678")
    assert (unknown.status, "watch list" in unknown.err) == (2, True)
    for options, message in {
        ("words",): "--min-score",
        ("words", "--min-score", "3"): "min_score must be -1 to 1",
        (" ", "--min-score", "0.3"): "the query is empty",
        ("words", "--min-score", "0.3", "--bbox", "1,2"): "west,south,east,north",
        ("words", "--min-score", "0.3", "--where", "gsd <"): "the filter is wrong",
    }.items():
        called = skytext("watch", "add", table, *options)
        assert (called.status, message in called.err) == (2, True), called.err
    missing = skytext("watch", "add", tmp_path / "none", "words", "--min-score", "0.3")
    assert (missing.status, "there is no table" in missing.err) == (2, True)
    assert skytext("watch", "list", table).out == "no standing queries\n"
