"""Test the plugin in separate processes for each case, because a case waits for the end of a
process."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from skytext.models.vllm.process_plugin import CORES_VARIABLE, PARENT_VARIABLE, REPORT_VARIABLE

LIB = Path(__file__).parents[3] / "lib"
LIMIT_S = 60

# The child prints whether it watches its parent, and prints its cores. Then it waits for input, or
# until the watcher ends it.
CHILD = """
import os, sys, threading
from skytext.models.vllm import process_plugin as engine_plugin
engine_plugin._POLL_S = 0.02
engine_plugin.{call}()
names = [thread.name for thread in threading.enumerate()]
print("skytext-parent-watch" in names, sorted(os.sched_getaffinity(0)), flush=True)
sys.stdin.read()
"""

Process = subprocess.Popen[str]


@pytest.fixture
def processes() -> Iterator[list[Process]]:
    started: list[Process] = []
    yield started
    for process in started:
        process.kill()
        process.communicate()


def start(processes: list[Process], code: str, variables: dict[str, str] | None = None) -> Process:
    environment = {**os.environ, "PYTHONPATH": str(LIB), **(variables or {})}
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    processes.append(process)
    return process


def start_parent(processes: list[Process]) -> Process:
    return start(processes, "import sys; sys.stdin.read()")


def start_child(
    processes: list[Process], call: str, variables: dict[str, str]
) -> tuple[Process, str]:
    child = start(processes, CHILD.format(call=call), variables)
    assert child.stdout is not None
    return child, child.stdout.readline().strip()


@pytest.mark.parametrize("call", ["watch_parent", "prepare_process"])
@pytest.mark.parametrize("reaped", [True, False], ids=["reaped", "zombie"])
def test_a_child_ends_with_the_process_it_belongs_to(
    processes: list[Process], call: str, reaped: bool
) -> None:
    parent = start_parent(processes)
    child, output = start_child(processes, call, {PARENT_VARIABLE: str(parent.pid)})
    assert output.startswith("True")
    assert child.poll() is None
    parent.kill()
    if reaped:
        parent.wait(LIMIT_S)
    assert child.wait(LIMIT_S) == 1


def test_a_child_whose_process_is_gone_already_ends(processes: list[Process]) -> None:
    parent = start_parent(processes)
    parent.communicate("")
    child, _ = start_child(processes, "watch_parent", {PARENT_VARIABLE: str(parent.pid)})
    assert child.wait(LIMIT_S) == 1


def test_a_child_runs_while_its_process_lives(processes: list[Process]) -> None:
    child, output = start_child(processes, "watch_parent", {PARENT_VARIABLE: str(os.getpid())})
    assert output.startswith("True")
    child.communicate("", timeout=LIMIT_S)
    assert child.returncode == 0


def test_a_process_of_another_user_counts_as_alive(processes: list[Process]) -> None:
    """Process 1 exists, but most users cannot send a signal to it."""
    child, output = start_child(processes, "watch_parent", {PARENT_VARIABLE: "1"})
    assert output.startswith("True")
    child.communicate("", timeout=LIMIT_S)
    assert child.returncode == 0


@pytest.mark.parametrize("call", ["watch_parent", "prepare_process"])
def test_without_the_variable_nothing_happens(
    processes: list[Process], monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    monkeypatch.delenv(PARENT_VARIABLE, raising=False)
    child, output = start_child(processes, call, {CORES_VARIABLE: "99999"})
    assert output == f"False {sorted(os.sched_getaffinity(0))}"
    child.communicate("", timeout=LIMIT_S)
    assert child.returncode == 0


@pytest.mark.parametrize("call", ["watch_parent", "prepare_process"])
def test_the_parent_process_is_not_changed(processes: list[Process], call: str) -> None:
    code = f"import os; os.environ[{PARENT_VARIABLE!r}] = str(os.getpid())\n"
    child = start(processes, code + CHILD.format(call=call), {CORES_VARIABLE: "99999"})
    out, _ = child.communicate("", timeout=LIMIT_S)
    assert out.startswith("False")
    assert child.returncode == 0


def test_a_child_keeps_to_its_cores(processes: list[Process]) -> None:
    core = max(os.sched_getaffinity(0))
    variables = {PARENT_VARIABLE: str(os.getpid()), CORES_VARIABLE: str(core)}
    child, output = start_child(processes, "prepare_process", variables)
    assert output == f"True [{core}]"
    child.communicate("", timeout=LIMIT_S)


FAILING_CHILD = """
import logging
from skytext.models.vllm import process_plugin as engine_plugin
engine_plugin.prepare_process()
logger = logging.getLogger("vllm.v1.engine.core")
for name in ("Somebody", "WorkerProc", "EngineCore"):
    try:
        raise ValueError(f"No memory\\nis left, says {name}")
    except ValueError:
        logger.exception("It is late." if name == "Somebody" else f"{name} failed to start.")
logger.error("EngineCore failed to start.")
"""


def test_a_child_reports_why_it_could_not_start(processes: list[Process], tmp_path: Path) -> None:
    report = tmp_path / "report"
    variables = {PARENT_VARIABLE: str(os.getpid()), REPORT_VARIABLE: str(report)}
    child = start(processes, FAILING_CHILD, variables)
    child.communicate("", timeout=LIMIT_S)
    assert child.returncode == 0
    assert report.read_text(encoding="utf-8").splitlines() == [
        "ValueError: No memory is left, says WorkerProc",
        "ValueError: No memory is left, says EngineCore",
    ]


def test_an_unwritable_start_report_does_not_end_the_process(processes: list[Process]) -> None:
    variables = {PARENT_VARIABLE: str(os.getpid()), REPORT_VARIABLE: "/nonexistent/report"}
    child = start(processes, FAILING_CHILD, variables)
    child.communicate("", timeout=LIMIT_S)
    assert child.returncode == 0


def test_reading_the_module_loads_nothing_heavy() -> None:
    code = (
        "import sys, skytext.models.vllm.process_plugin; "
        "print({'vllm', 'torch', 'ray', 'numpy'} & set(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": str(LIB)},
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=True,
    )
    assert done.stdout.strip() == "set()"
