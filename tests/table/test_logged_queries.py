from __future__ import annotations

import datetime as dt
import os
import threading
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from skytext.table import logged_queries
from skytext.table.clean_up import clean_up
from skytext.table.commits.stage_rows import forget_records, read_records, staged_unit_ids
from skytext.table.location import TableLocation
from skytext.table.logged_queries import (
    MAX_AGE,
    LoggedQuery,
    forget_queries,
    last_queries,
    save_queries,
)
from skytext.table.store.state_files import StateStore
from tests.table.rows import good_row, location, make_table


@pytest.fixture(params=["file system", "store"])
def where(request: pytest.FixtureRequest, tmp_path: Path) -> TableLocation:
    if request.param == "file system":
        return TableLocation.parse(str(tmp_path / "table"))
    s3: Any = request.getfixturevalue("s3")
    s3.create_bucket(Bucket="tables")
    return TableLocation.parse(f"s3://tables/{uuid.uuid4().hex}")


def asked(*texts: str, minutes_ago: float = 0, **more: Any) -> list[LoggedQuery]:
    """Return searches, one per second. The last search is ``minutes_ago`` minutes old."""
    last = dt.datetime.now(dt.UTC) - dt.timedelta(minutes=minutes_ago)
    return [
        LoggedQuery(last - dt.timedelta(seconds=len(texts) - i), {"text": text, **more})
        for i, text in enumerate(texts)
    ]


def texts(where: TableLocation, number: int = 100) -> list[str]:
    return [one["text"] for one in last_queries(where, number).searches]


def test_the_last_searches_of_all_processes_are_read_each_once(where: TableLocation) -> None:
    assert last_queries(where, 10) == ([], [])
    save_queries(where, "one", asked("a river", "a port", minutes_ago=3))
    save_queries(where, "two", asked("a bridge", "a river", minutes_ago=2))
    save_queries(where, "three", asked("a river", minutes_ago=1, mode="text"))
    found = last_queries(where, 10)
    assert found.searches == [
        {"text": "a port"},
        {"text": "a bridge"},
        {"text": "a river"},
        {"text": "a river", "mode": "text"},
    ]
    assert found.searches[-2:] == last_queries(where, 2).searches
    assert last_queries(where, 0).searches == []
    # If a process saves its queries again, the new object replaces its earlier object.
    save_queries(where, "one", asked("a field"))
    assert texts(where) == ["a bridge", "a river", "a river", "a field"]


def test_two_processes_that_write_at_once_lose_nothing(where: TableLocation) -> None:
    barrier = threading.Barrier(2)

    def write(holder: str) -> None:
        barrier.wait()
        for number in range(1, 11):
            save_queries(where, holder, asked(*(f"{holder} {i}" for i in range(number))))

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(write, ["one", "two"]))
    expected = {f"{holder} {i}" for holder in ("one", "two") for i in range(10)}
    assert set(texts(where)) == expected


def test_a_broken_object_is_named_and_the_others_are_read(where: TableLocation) -> None:
    save_queries(where, "one", asked("a river"))
    state = StateStore(where)
    broken = {"half": b'[{"at": "2026', "other": b'[{"text": "a port"}]', "empty": b""}
    for name, data in broken.items():
        state.put(f"queries/{name}.json", data)
    found = last_queries(where, 10)
    assert [one["text"] for one in found.searches] == ["a river"]
    assert sorted(found.broken) == [
        f"{where.uri}/state/queries/{name}.json" for name in ("half", "other")
    ]


def test_an_old_search_is_not_read(where: TableLocation) -> None:
    minutes = MAX_AGE.total_seconds() / 60
    save_queries(where, "one", asked("a river", minutes_ago=minutes + 1))
    save_queries(where, "two", asked("a port", minutes_ago=minutes - 1))
    assert texts(where) == ["a port"]


def test_only_the_newest_objects_are_kept(
    where: TableLocation, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logged_queries, "_MAX_HOLDERS", 2)
    for holder in ("one", "two", "three"):
        save_queries(where, holder, asked(holder))
        time.sleep(0.01)
    forget_queries(where)
    found = set(texts(where))
    # The modification times in a store have whole seconds, so these objects have the same age.
    assert found == {"two", "three"} if where.is_local else len(found) == 2


def test_a_clean_up_deletes_the_searches_of_ended_services_only(tmp_path: Path) -> None:
    table = make_table(location(tmp_path / "table"), [good_row("a.jpg")]).location
    forget_records(table, read_records(table, staged_unit_ids(table)))
    for holder in ("ended", "living"):
        save_queries(table, holder, asked(holder))
    folder = Path(table.uri, "state", "queries")
    (folder / "broken.json").write_text("{")
    old = time.time() - MAX_AGE.total_seconds() - 60
    for name in ("ended", "broken"):
        os.utime(folder / f"{name}.json", (old, old))
    clean_up(table, keep_days=0, is_dry=True)
    assert len(list(folder.iterdir())) == 3
    clean_up(table, keep_days=0)
    assert [path.name for path in folder.iterdir()] == ["living.json"]
    assert texts(table) == ["living"]
