"""Test interrupted runs and two concurrent runs."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from skytext.errors import FailureRateError, JobError
from skytext.run.caption_run import run_caption
from skytext.run.control.drain_notice import seconds_left
from skytext.run.control.interruption import watch
from skytext.run.plans.caption_plan import plan_caption
from skytext.run.progress import Progress
from skytext.table.commits.claim import current_holder
from skytext.table.images_dataset import ImagesTable
from skytext.table.location import TableLocation
from skytext.table.runs_dataset import last_runs
from skytext.table.store.state_files import StateStore
from tests.archives import images, write_archive
from tests.proof.commands import Command, command
from tests.run.jobs import (
    caption,
    check_one_row_an_image,
    config,
    local_ray_address,
    ray,
    rows,
    with_ray,
)

OPTIONS = ["--embedding-model", "fake", "--json", "--commit-images", "4"]
OPTIONS += ["--set", "job.unit_images=4", "--set", "job.units_in_flight=2"]
START_S, DRAIN_S = 120.0, 10.0
# With the method "signal", the timer of this timeout and the timer of the run would disable each
# other.
pytestmark = pytest.mark.timeout(300, method="thread")


def num_committed(table: Path) -> int:
    found = ImagesTable.find(TableLocation.parse(str(table)))
    return 0 if found is None else found.num_rows()


def wait_for_a_commit(running: Command, table: Path) -> None:
    deadline = time.monotonic() + START_S
    while not num_committed(table):
        assert running.process.poll() is None, running.err
        assert time.monotonic() < deadline, "nothing was committed"
        time.sleep(0.05)


@ray
@with_ray
def test_an_interrupted_run_commits_its_finished_work(tmp_path: Path) -> None:
    root = write_archive(tmp_path / "aerial", {f"{i}.tar": images(40 * i, 40) for i in range(2)})
    table = tmp_path / "table"
    where = TableLocation.parse(str(table))
    # The archive has 20 units. Two units are processed at the same time, and each unit takes one
    # second. Without the signal, the run would take much longer.
    call = ["caption", root, "--table", table, "--model", "fake:delay_s=1", *OPTIONS]
    call += local_ray_address()
    with command(tmp_path, *call, "--set", f"job.drain_s={DRAIN_S}") as running:
        wait_for_a_commit(running, table)
        running.process.send_signal(signal.SIGTERM)
        asked = time.monotonic()
        assert running.finish(START_S) == 130, running.err
        assert time.monotonic() - asked < DRAIN_S + 15
        assert running.out == ""
        last_line = running.err.splitlines()[-1]
        assert last_line.startswith("skytext: the run was stopped on request. ")
        assert "To continue, run the same command again" in running.err
        assert "Traceback" not in running.err
    left = num_committed(table)
    assert 0 < left < 80
    # The run finished the work that had started.
    assert f"{left} images of this run are committed" in running.err
    assert current_holder(where) is None
    assert list(StateStore(where).list("stop")) == []
    (run,) = last_runs(where, 9)
    assert run.state == "interrupted"
    before = {row["image_id"]: row for row in rows(table, "image_id", "unit_id")}

    described: list[int] = []
    plan = plan_caption([str(root)], str(table), config(caption__model="fake:delay_s=1"))
    summary = run_caption(plan, on_described=described.append)
    assert described == sorted(described)
    assert 0 < described[-1] <= summary.num_captioned
    assert summary.num_listed == summary.num_ok == 80
    # No described image is described again.
    assert summary.num_captioned + summary.num_adopted == 80 - left
    check_one_row_an_image(table, summary)
    after = {row["image_id"]: row for row in rows(table, "image_id", "unit_id")}
    assert before.items() <= after.items()


@ray
@with_ray
def test_one_of_two_concurrent_runs_is_rejected(tmp_path: Path) -> None:
    root = write_archive(tmp_path / "aerial", {"a.tar": images(0, 12)})
    table = tmp_path / "table"
    call = ["caption", root, "--table", table, "--model", "fake", *OPTIONS]
    refused: list[Command] = []

    def try_it_too(_: Progress) -> None:
        if not refused:
            with command(tmp_path, *call) as other:
                assert other.finish(START_S) == 1, other.err
                refused.append(other)

    plan = plan_caption([str(root)], str(table), config(job__lease_s=3.0))
    summary = run_caption(plan, on_progress=try_it_too)
    check_one_row_an_image(table, summary)
    assert summary.num_ok == 12
    (other,) = refused
    assert other.out == ""
    error = other.err.splitlines()[-1]
    assert error.startswith(f"skytext: {table} is held by skytext caption of ")
    assert f", process {os.getpid()}, since " in error
    assert [run.run_id for run in last_runs(plan.location, 9)] == [summary.run_id]


@ray
@with_ray
def test_a_run_with_too_many_failures_ends(tmp_path: Path) -> None:
    root = write_archive(tmp_path / "aerial", {f"{i}.tar": images(40 * i, 40) for i in range(2)})
    table = tmp_path / "table"
    strict = {"job__failure_rate_after": 8, "caption__model": "fake:fail=1,delay_s=0.05"}
    with pytest.raises(FailureRateError) as error:
        caption(root, table, **strict)
    assert "The most frequent failure is caption/engine_refused" in str(error.value)
    assert "more than --max-failure-rate 0.5 allows" in str(error.value)
    left = num_committed(table)
    assert 8 <= left < 80
    where = TableLocation.parse(str(table))
    assert current_holder(where) is None
    assert [run.state for run in last_runs(where, 9)] == ["failed"]
    # With a higher limit, the run continues.
    summary, _ = caption(root, table, **strict, job__max_failure_rate=1)
    assert (summary.num_failed, summary.num_ok) == (80, 0)
    check_one_row_an_image(table, summary)


@ray
@with_ray
# If the timer raises its error in a callback, Python ignores the error. The timer then raises the
# error again.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_stalled_run_ends(tmp_path: Path) -> None:
    root = write_archive(tmp_path / "aerial", {"a.tar": images(0, 8)})
    table = tmp_path / "table"
    started = time.monotonic()
    with pytest.raises(JobError, match=r"no image was finished for 1\.5 s \(job\.stall_timeout_s"):
        caption(root, table, caption__model="fake:delay_s=10", job__stall_timeout_s=1.5)
    assert time.monotonic() - started < 60
    assert num_committed(table) == 0
    assert current_holder(TableLocation.parse(str(table))) is None
    summary, _ = caption(root, table)
    assert summary.num_captioned == 8


@contextlib.contextmanager
def alarm_kept() -> Iterator[None]:
    """Check that the block restores the signal handlers and stops the timer."""
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGALRM)
    before = [signal.getsignal(number) for number in numbers]
    try:
        yield
    finally:
        assert [signal.getsignal(number) for number in numbers] == before
        assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)


def test_the_first_signal_drains_and_the_second_aborts() -> None:
    asked: list[str] = []
    with alarm_kept(), watch(stall_timeout_s=60.0, drain_s=60.0) as stopping:
        stopping.drain_by(lambda: asked.append("stop"))
        signal.raise_signal(signal.SIGTERM)
        assert (asked, stopping.is_requested) == (["stop"], True)
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
        assert asked == ["stop"]


def test_a_drain_notice_leaves_time_to_commit() -> None:
    asked: list[str] = []
    with alarm_kept(), watch(stall_timeout_s=60.0, drain_s=60.0) as stopping:
        stopping.drain_by(lambda: asked.append("stop"))
        for _ in range(2):
            notice = threading.Thread(target=stopping.on_notice, args=(8.0,))
            notice.start()
            notice.join()
        # Python has handled the signal between two instructions of this thread.
        assert (asked, stopping.is_requested, stopping.is_node_leaving) == (["stop"], True, True)
        assert 5.0 < signal.getitimer(signal.ITIMER_REAL)[0] <= 6.0


def test_a_notice_without_a_time_gives_the_usual_one() -> None:
    with alarm_kept(), watch(60.0, 30.0) as stopping:
        stopping.drain_by(lambda: None)
        stopping.on_notice(None)
        assert 29.0 < signal.getitimer(signal.ITIMER_REAL)[0] <= 30.0


@pytest.mark.parametrize(("left_s", "expected"), [(0, None), (30, 30.0), (-5, 0.0)])
def test_the_time_that_a_node_has_left(left_s: int, expected: float | None) -> None:
    deadline_ms = 0 if left_s == 0 else int((time.time() + left_s) * 1000)
    assert seconds_left(deadline_ms) == (
        None if expected is None else pytest.approx(expected, abs=1)
    )


def test_before_there_is_anything_to_drain_a_signal_ends_the_run() -> None:
    with alarm_kept(), watch(60.0, 60.0) as stopping:
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGTERM)
        assert stopping.is_requested


def test_work_that_does_not_drain_in_time_is_abandoned() -> None:
    with alarm_kept(), watch(60.0, 0.05) as stopping:
        stopping.drain_by(lambda: None)
        signal.raise_signal(signal.SIGINT)
        # A unit that finishes in the meantime does not extend the time limit.
        stopping.progressed()
        with pytest.raises(KeyboardInterrupt):
            threading.Event().wait(30)


def test_a_stall_is_reported_after_the_timeout() -> None:
    with alarm_kept(), watch(0.3, 60.0) as stopping:
        stopping.drain_by(lambda: None)
        for _ in range(4):
            threading.Event().wait(0.1)
            stopping.progressed()
        with pytest.raises(JobError, match=r"no image was finished for 0\.3 s"):
            threading.Event().wait(30)


def test_the_final_commit_has_no_timeout() -> None:
    with alarm_kept(), watch(0.05, 60.0) as stopping:
        stopping.drain_by(lambda: None)
        stopping.settle()
        threading.Event().wait(0.15)
        assert not stopping.is_requested


def test_signals_are_handled_in_a_program_s_main_thread_only() -> None:
    seen: list[bool] = []

    def run() -> None:
        with watch(0.01, 0.01) as stopping:
            stopping.drain_by(lambda: None)
            stopping.install()
            stopping.progressed()
            stopping.settle()
            seen.append(stopping.is_requested)

    with alarm_kept():
        thread = threading.Thread(target=run)
        thread.start()
        thread.join(30)
    assert json.dumps(seen) == "[false]"
