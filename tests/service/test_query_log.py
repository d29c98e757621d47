from __future__ import annotations

import asyncio
import datetime as dt
import logging
import time
from collections.abc import Callable
from pathlib import Path
from threading import Event
from typing import Any

import pytest

from skytext.errors import JobError
from skytext.search.request import SearchRequest
from skytext.service import query_log
from skytext.service.query_log import QueryLog
from skytext.table.location import TableLocation
from skytext.table.logged_queries import MAX_AGE, LoggedQuery, last_queries, save_queries
from skytext.table.store.state_files import StateStore
from tests.service.app import client


def until(holds: Callable[[], bool]) -> None:
    end = time.monotonic() + 30
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.02)


def kept(where: TableLocation) -> list[SearchRequest]:
    return [SearchRequest.from_json(one) for one in last_queries(where, 100).searches]


def texts(where: TableLocation) -> list[str | None]:
    return [one.text for one in kept(where)]


@pytest.fixture
def where(tmp_path: Path) -> TableLocation:
    return TableLocation.parse(str(tmp_path / "table"))


def test_answered_searches_are_kept_without_their_page(
    own: TableLocation, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(query_log, "_SAVE_EVERY_S", 0.05)
    with client(own.uri, log_queries=True) as http:
        body = {"text": "a river", "filter": "gsd < 1", "mode": "dense"}
        assert http.post("/v1/search", json=body).status_code == 200
        first = http.get("/v1/search", params={"text": "a port", "k": 1}).json()
        more = {"text": "a port", "k": 1, "cursor": first["next_cursor"]}
        assert http.post("/v1/search", json=more).status_code == 200
        batch = {"searches": [{"text": "a field"}, {"text": "a port", "k": 7}]}
        assert http.post("/v1/search/batch", json=batch).status_code == 200
        # This table has no full-text index.
        refused = http.post("/v1/search", json={"text": "a bridge", "mode": "text"})
        assert refused.status_code == 422
        until(lambda: len(kept(own)) == 3)
        assert kept(own) == [
            SearchRequest.model_validate({"text": "a river", "where": "gsd < 1", "mode": "dense"}),
            SearchRequest(text="a field"),
            SearchRequest(text="a port"),
        ]


def test_without_the_setting_nothing_is_kept(
    own: TableLocation, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(query_log, "_SAVE_EVERY_S", 0.01)
    with client(own.uri) as http:
        assert http.post("/v1/search", json={"text": "a river"}).status_code == 200
        time.sleep(0.2)
    assert list(StateStore(own).list("queries")) == []


def test_a_store_that_fails_or_hangs_delays_no_search(
    own: TableLocation, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    tries, answers_again = list[int](), Event()

    def save(*arguments: Any) -> None:
        tries.append(1)
        if len(tries) < 3:
            raise JobError("cannot write")
        assert answers_again.wait(30)
        save_queries(*arguments)

    monkeypatch.setattr(query_log, "_SAVE_EVERY_S", 0.01)
    monkeypatch.setattr(query_log, "save_queries", save)
    monkeypatch.setattr(logging.getLogger("skytext.service"), "propagate", True)
    # Earlier tests of the process may have configured this logger.
    caplog.set_level(logging.WARNING, "skytext.service")
    with client(own.uri, log_queries=True) as http:
        assert http.post("/v1/search", json={"text": "a river"}).status_code == 200
        until(lambda: len(tries) == 3)
        # The store hangs now.
        assert http.post("/v1/search", json={"text": "a port"}).status_code == 200
        answers_again.set()
        until(lambda: texts(own) == ["a river", "a port"])
    warnings = [one for one in caplog.records if one.getMessage() == "cannot save the queries"]
    assert [vars(one)["error"] for one in warnings] == ["cannot write"]


def test_searches_are_limited_in_number_length_and_age(
    where: TableLocation, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(query_log, "MAX_QUERIES", 3)
    log = QueryLog([where])
    for text in ("a", "b", "c", "b", "d", "x" * 2001):
        log.add(SearchRequest(text=text))
    asyncio.run(log.save())
    assert texts(where) == ["c", "b", "d"]
    old = dt.datetime.now(dt.UTC) - MAX_AGE - dt.timedelta(seconds=1)
    (said,) = (said for said in log._asked if '"b"' in said)
    log._asked[said] = old
    asyncio.run(log.save())
    assert texts(where) == ["c", "d"]
    (path,) = StateStore(where).list("queries")
    assert b'"b"' not in (StateStore(where).get(path) or b"")


def test_nothing_is_written_without_a_new_search(
    where: TableLocation, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = list[list[LoggedQuery]]()
    monkeypatch.setattr(query_log, "save_queries", lambda _, __, queries: written.append(queries))
    log = QueryLog([where])
    asyncio.run(log.save())
    assert written == []
    log.add(SearchRequest(text="a river"))
    for _ in range(3):
        asyncio.run(log.save())
    assert [[one.search for one in queries] for queries in written] == [[{"text": "a river"}]]


def test_processes_and_tables_have_objects_of_their_own(tmp_path: Path) -> None:
    tables = [TableLocation.parse(str(tmp_path / name)) for name in ("north", "south")]
    for text in ("a river", "a port"):
        log = QueryLog(tables)
        log.add(SearchRequest(text=text))
        asyncio.run(log.save())
    for table in tables:
        assert texts(table) == ["a river", "a port"]
        assert len(list(StateStore(table).list("queries"))) == 2
