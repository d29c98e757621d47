from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator

import psutil
import pytest

from skytext.errors import JobError
from skytext.models.vllm.processes import EngineProcesses, start_limit

LIMIT_S = 30
SLEEP = "import time; time.sleep(1000)"
# This program starts another process, prints the id of that process, and waits.
CORE = (
    "import subprocess, sys, time; "
    f"worker = subprocess.Popen([sys.executable, '-S', '-c', {SLEEP!r}]); "
    "print(worker.pid, flush=True); time.sleep(1000)"
)

Process = subprocess.Popen[str]


@pytest.fixture
def started() -> Iterator[list[Process]]:
    found: list[Process] = []
    yield found
    for process in found:
        process.kill()
        process.communicate()


def start(started: list[Process], code: str) -> Process:
    process = subprocess.Popen(
        [sys.executable, "-S", "-c", code], stdout=subprocess.PIPE, text=True
    )
    started.append(process)
    return process


def start_core(started: list[Process]) -> tuple[Process, psutil.Process]:
    core = start(started, CORE)
    assert core.stdout is not None
    return core, psutil.Process(int(core.stdout.readline()))


def is_gone(process: psutil.Process) -> bool:
    return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE


def test_children_and_their_children_end(started: list[Process]) -> None:
    processes = EngineProcesses()
    core, worker = start_core(started)
    processes.settle()
    assert {process.pid for process in processes.alive()} == {core.pid, worker.pid}
    processes.end()
    assert is_gone(worker)
    assert core.wait(LIMIT_S) is not None
    assert processes.alive() == []
    processes.end()


def test_a_worker_whose_core_is_gone_ends_too(started: list[Process]) -> None:
    processes = EngineProcesses()
    core, worker = start_core(started)
    processes.settle()
    core.kill()
    core.wait(LIMIT_S)
    assert not is_gone(worker)
    processes.end()
    assert is_gone(worker)


def test_other_processes_are_not_ended(started: list[Process]) -> None:
    before = start(started, SLEEP)
    processes = EngineProcesses()
    start_core(started)
    processes.settle()
    after = start(started, SLEEP)
    processes.end()
    assert before.poll() is None
    assert after.poll() is None


def test_processes_that_the_core_starts_later_belong_to_the_engine(started: list[Process]) -> None:
    processes = EngineProcesses()
    late = CORE.replace("worker =", "time.sleep(0.3); worker =")
    core = start(started, late)
    processes.settle()
    assert core.stdout is not None
    worker = psutil.Process(int(core.stdout.readline()))
    processes.end()
    assert is_gone(worker)


def test_a_start_within_its_time_limit_is_not_interrupted(started: list[Process]) -> None:
    processes = EngineProcesses()
    with start_limit(processes, 0.2):
        core = start(started, SLEEP)
    time.sleep(0.4)
    assert core.poll() is None


def test_a_start_beyond_its_limit_is_ended(started: list[Process]) -> None:
    processes = EngineProcesses()

    def wait_for_ever() -> None:
        with start_limit(processes, 0.2):
            core, _ = start_core(started)
            core.wait(LIMIT_S)
            raise RuntimeError("the core is gone")

    with pytest.raises(JobError, match=r"caption.engine.start_timeout_s \(0.2 s\)"):
        wait_for_ever()
    processes.end()
    assert processes.alive() == []


def test_another_error_of_a_start_stays_what_it_is() -> None:
    with pytest.raises(ValueError, match="no such option"), start_limit(EngineProcesses(), 60):
        raise ValueError("no such option")
