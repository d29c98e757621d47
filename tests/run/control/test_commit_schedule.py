"""Test when staged units are committed.

A commit is due after a number of images, after some time, and at the end.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence

import pytest

from skytext.errors import JobError
from skytext.run.control.commit_schedule import Pending

NEVER_S = 1000.0


class Commits:
    """Records the committed groups of units. ``seen`` is set after each commit."""

    def __init__(self) -> None:
        self.groups: list[tuple[list[str], int]] = []
        self.seen = threading.Event()

    def __call__(self, unit_ids: Sequence[str], num_images: int) -> None:
        self.groups.append((list(unit_ids), num_images))
        self.seen.set()


def test_a_commit_has_at_most_the_configured_number_of_images() -> None:
    commits = Commits()
    pending = Pending(commits, 10, NEVER_S)
    pending.add("a", 6)
    pending.add(None, 0)
    assert commits.groups == []
    pending.add("b", 4)
    pending.add("c", 1)
    assert commits.groups == [(["a", "b"], 10)]
    pending.commit()
    pending.commit()
    assert commits.groups[1:] == [(["c"], 1)]


def test_pending_units_are_committed_on_time_without_new_units() -> None:
    commits, errors = Commits(), list[BaseException]()
    pending = Pending(commits, 1000, 0.2)
    with pending.committing_in_time(errors.append):
        pending.add("a", 1)
        assert commits.seen.wait(10)
    assert (commits.groups, errors) == ([(["a"], 1)], [])


def test_a_commit_that_fails_by_the_clock_is_reported_once() -> None:
    errors: list[BaseException] = []
    reported = threading.Event()

    def refuse(*_: object) -> None:
        raise JobError("the store refuses")

    def on_error(error: BaseException) -> None:
        errors.append(error)
        reported.set()

    pending = Pending(refuse, 1000, 0.1)
    with pending.committing_in_time(on_error):
        pending.add("a", 1)
        assert reported.wait(10)
    assert [str(error) for error in errors] == ["the store refuses"]


def test_adding_a_unit_waits_for_a_running_commit() -> None:
    """Two concurrent commits would conflict."""
    started, may_end = threading.Event(), threading.Event()
    order: list[str] = []

    def slow(unit_ids: Sequence[str], _: int) -> None:
        order.append(f"begin {unit_ids[0]}")
        started.set()
        assert may_end.wait(10)
        order.append(f"end {unit_ids[0]}")

    pending = Pending(slow, 1, NEVER_S)
    first = threading.Thread(target=pending.add, args=("a", 1))
    first.start()
    assert started.wait(10)
    second = threading.Thread(target=pending.add, args=("b", 1))
    second.start()
    second.join(0.1)
    assert second.is_alive()
    may_end.set()
    for thread in (first, second):
        thread.join(10)
    assert order == ["begin a", "end a", "begin b", "end b"]


@pytest.mark.parametrize("interval_s", [0.05, NEVER_S])
def test_the_clock_ends_with_its_block(interval_s: float) -> None:
    commits = Commits()
    pending = Pending(commits, 1000, interval_s)
    started = time.monotonic()
    with pending.committing_in_time(lambda error: pytest.fail(str(error))):
        pass
    assert time.monotonic() - started < 5
    assert "skytext-commit" not in {thread.name for thread in threading.enumerate()}
