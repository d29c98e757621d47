"""Test how stages read the stop flag."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest

from skytext.errors import JobError
from skytext.run.control import stop_flag as stop
from skytext.run.control.stop_flag import StopFlag
from skytext.table.location import TableLocation
from skytext.table.store.state_files import StateStore


@pytest.fixture
def where(tmp_path: Path) -> TableLocation:
    return TableLocation.parse(str(tmp_path / "table"))


def test_every_copy_sees_the_stop_flag(where: TableLocation) -> None:
    flag = StopFlag(where, "run")
    copy = pickle.loads(pickle.dumps(flag))
    flag.raise_()
    assert copy.is_raised()
    assert flag.is_raised()
    # A copy that has seen the raised flag does not read the flag again.
    flag.lower()
    assert copy.is_raised()
    assert not StopFlag(where, "run").is_raised()
    flag.lower()


def test_other_runs_do_not_see_the_stop_flag(where: TableLocation) -> None:
    StopFlag(where, "run").raise_()
    assert not StopFlag(where, "run2").is_raised()
    assert not StopFlag(TableLocation.parse(f"{where.uri}2"), "run").is_raised()


def test_the_store_is_polled_at_most_every_two_seconds(
    where: TableLocation, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []
    clock = [100.0]

    def get(state: StateStore, path: str) -> None:
        asked.append(path)

    monkeypatch.setattr(StateStore, "get", get)
    monkeypatch.setattr(stop.time, "monotonic", lambda: clock[0])
    flag = StopFlag(where, "run")
    for _ in range(50):
        assert not flag.is_raised()
        clock[0] += 0.1
    assert len(asked) == 3
    # If the flag is not raised, the check creates no files.
    assert not Path(where.uri).exists()


def test_a_single_store_error_stops_nothing(
    where: TableLocation, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stop, "_LOOK_EVERY_S", 0)
    flag = StopFlag(where, "run")
    with monkeypatch.context() as patch:

        def refuse(*_: object) -> bytes:
            raise JobError("the store refuses")

        patch.setattr(StateStore, "get", refuse)
        assert not flag.is_raised()
    flag.raise_()
    assert flag.is_raised()
