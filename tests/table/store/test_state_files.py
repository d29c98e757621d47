"""Test the state files of a table on a file system and in an object store."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier
from typing import Any

import pytest

from skytext.errors import JobError
from skytext.table.location import TableLocation
from skytext.table.store.state_files import StateStore

NUM_THREADS = 16


@pytest.fixture(params=["file system", "store"])
def state(request: pytest.FixtureRequest, tmp_path: Path) -> StateStore:
    if request.param == "file system":
        return StateStore(TableLocation.parse(str(tmp_path / "table")))
    s3: Any = request.getfixturevalue("s3")
    s3.create_bucket(Bucket="tables")
    return StateStore(TableLocation.parse(f"s3://tables/{uuid.uuid4().hex}"))


def at_once(call: Callable[[int], bool]) -> list[bool]:
    """Call a function from many threads at the same moment."""
    barrier = Barrier(NUM_THREADS)

    def wait_and_call(number: int) -> bool:
        barrier.wait()
        return call(number)

    with ThreadPoolExecutor(NUM_THREADS) as pool:
        return list(pool.map(wait_and_call, range(NUM_THREADS)))


def test_only_one_of_many_concurrent_creates_succeeds(state: StateStore) -> None:
    def create(number: int) -> bool:
        return state.create("claim/00000001.json", str(number).encode())

    won = at_once(create)
    assert won.count(True) == 1
    assert state.get("claim/00000001.json") == str(won.index(True)).encode()


def test_create_never_overwrites(state: StateStore) -> None:
    assert state.create("a/b", b"one")
    assert not state.create("a/b", b"two")
    assert state.get("a/b") == b"one"
    state.put("a/b", b"three")
    assert state.get("a/b") == b"three"
    state.delete(["a/b"])
    assert state.create("a/b", b"four")


def test_an_object_may_be_empty(state: StateStore) -> None:
    state.put("stop/run", b"")
    assert state.get("stop/run") == b""


def test_reads_of_missing_objects_create_nothing(state: StateStore) -> None:
    assert state.get("claim/1.json") is None
    assert list(state.list("claim")) == []
    if state.location.is_local:
        assert not Path(state.location.uri).exists()


def test_a_listing_is_of_one_folder(state: StateStore) -> None:
    for path in ("staged/run/1.json", "staged/run/2.json", "staged-too/1.json", "claim/1.json"):
        state.put(path, b"x")
    assert sorted(state.list("staged")) == ["staged/run/1.json", "staged/run/2.json"]
    assert list(state.list("nothing")) == []


def test_deleting_a_missing_object_is_not_an_error(state: StateStore) -> None:
    for name in ("a", "b", "c"):
        state.put(f"staged/{name}", b"x")
    state.delete(["staged/a", "staged/gone", "staged/b"])
    assert list(state.list("staged")) == ["staged/c"]
    state.delete(["staged/gone"])
    state.delete([])
    assert list(state.list("staged")) == ["staged/c"]


def test_all_kinds_of_names_are_preserved(state: StateStore) -> None:
    paths = ["staged/run-1/0a-12.json", "staged/with space.json", "staged/ü.json"]
    for path in paths:
        assert state.create(path, path.encode())
    assert sorted(state.list("staged")) == sorted(paths)
    assert [state.get(path) for path in paths] == [path.encode() for path in paths]


def test_a_store_error_names_the_operation_and_the_path(tmp_path: Path) -> None:
    (tmp_path / "table" / "state").mkdir(parents=True)
    (tmp_path / "table" / "state" / "claim").write_text("a file where a folder must be")
    state = StateStore(TableLocation.parse(str(tmp_path / "table")))
    for verb, call in {
        "write": lambda: state.put("claim/1.json", b"x"),
        "read": lambda: state.get("claim/1.json"),
    }.items():
        with pytest.raises(
            JobError, match=f"cannot {verb} .*/table/state/claim/1.json: "
        ) as raised:
            call()
        assert "run the same command again" in str(raised.value)
        assert "\n" not in str(raised.value)
