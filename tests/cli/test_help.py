from __future__ import annotations

import os
import resource
import statistics
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.conftest import Skytext

LIB = Path(__file__).parents[2] / "lib"

SETTINGS = ["--config", "--set"]
OPTIONS = {
    "demo": ["--dir", "--num-images", *SETTINGS, "--json"],
    "caption": [
        "SOURCE",
        "--table",
        "--archive",
        "--model",
        "--revision",
        "--prompt",
        "--chat-template",
        "--num-variants",
        "--num-engines",
        "--gpus-per-engine",
        "--tensor-parallel-size",
        "--embedding-model",
        "--commit-images",
        "--commit-interval-s",
        "--max-failure-rate",
        *SETTINGS,
        "--ray-address",
        "--json",
    ],
    "plan": [
        "SOURCE",
        "--table",
        "--archive",
        "--model",
        "--revision",
        "--prompt",
        "--embedding-model",
        "--list",
        *SETTINGS,
        "--json",
    ],
    "failures": ["TABLE", "--samples", "--json"],
    "retry-failed": [
        "TABLE",
        "SOURCE",
        "--max-attempts",
        "--max-failure-rate",
        *SETTINGS,
        "--ray-address",
        "--json",
    ],
    "embed-images": [
        "TABLE",
        "--model",
        "--revision",
        "--replace",
        "--num-actors",
        "--gpus-per-actor",
        *SETTINGS,
        "--ray-address",
        "--json",
    ],
    "index": ["TABLE", "--vector", "--kind", "--ray-address", *SETTINGS, "--json"],
    "search": [
        "TABLE",
        "[WORDS]",
        "--table",
        "-k",
        "--mode",
        "--also",
        "--like",
        "--image",
        "--combine",
        "--positive",
        "--negative",
        "--positive-image",
        "--negative-image",
        "--cursor",
        "--group-duplicates",
        "--version",
        "--where",
        "--bbox",
        "--after",
        "--before",
        "--collection",
        "--gsd-min",
        "--gsd-max",
        "--exact",
        "--embedding-model",
        *SETTINGS,
        "--json",
    ],
    "evaluate": [
        "TABLE|FILE.jsonl",
        "--annotations",
        "--benchmark",
        "--queries",
        "--golden",
        "--at-least",
        "--split",
        "--text-only",
        "--mode",
        "--pooling",
        "--fusion",
        "--text-weight",
        "--granularity",
        "--variants",
        "--embedder",
        "--image-vectors",
        "--ties",
        "--allow-missing",
        "--version",
        "--embedding-model",
        "--markdown",
        "--plots",
        *SETTINGS,
        "--json",
    ],
    "export": [
        "TABLE",
        "--format",
        "--output",
        "--force",
        "--with-images",
        "--with-vectors",
        "--version",
        "--json",
    ],
    "import": [
        "FILE.jsonl",
        "--table",
        "--archive",
        "--root",
        "--embedding-model",
        *SETTINGS,
        "--json",
    ],
    "status": ["TABLE", "--json"],
    "serve": [
        "TABLE",
        "--host",
        "--port",
        "--version",
        "--archive-root",
        "--keys",
        *SETTINGS,
    ],
    "keys add": ["TABLE", "NAME", "--right", "--json"],
    "keys list": ["TABLE", "--json"],
    "keys revoke": ["TABLE", "NAME"],
    "watch add": [
        "TABLE",
        "WORDS",
        "--min-score",
        "--where",
        "--bbox",
        "--polygon",
        "--after",
        "--before",
        "--collection",
        "--gsd-min",
        "--gsd-max",
        "--json",
    ],
    "watch list": ["TABLE", "--json"],
    "watch remove": ["TABLE", "ID"],
    "promote": ["TABLE", "VERSION", "--canary", "--canary-minutes", "--why", "--json"],
    "rollback": ["TABLE", "--why", "--json"],
    "doctor": ["--table", "--model", "--embedding-model", "--json"],
    "config show": [*SETTINGS, "--json"],
    "config reference": [],
    "config validate": ["FILE", "--json"],
}
HEAVY = ("ray", "torch", "lance", "vllm", "transformers", "numpy", "pyarrow", "boto3")


@pytest.mark.parametrize("command", OPTIONS)
def test_help_lists_every_option(skytext: Skytext, command: str) -> None:
    called = skytext(*command.split(), "--help")
    assert called.status == 0
    assert called.err == ""
    assert f"Usage: skytext {command} " in called.out
    first_words = [line.split()[0] for line in called.out.splitlines() if line.startswith("  ")]
    for option in [*OPTIONS[command], "--help"]:
        assert any(word.startswith(option) for word in first_words), option


def test_help_lists_every_command(skytext: Skytext) -> None:
    called = skytext("--help")
    assert called.status == 0
    for command in OPTIONS:
        assert f"\n  {command.split()[0]} " in called.out
    shown = skytext("config", "--help").out
    for command in ("show", "reference", "validate"):
        assert f"\n  {command} " in shown


@pytest.mark.parametrize("command", [(), ("config",)])
def test_no_command_is_a_wrong_call_that_shows_help(
    skytext: Skytext, command: tuple[str, ...]
) -> None:
    called = skytext(*command)
    assert called.status == 2
    assert called.out == ""
    assert "Commands:" in called.err


def start(*arguments: str, flags: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    code = (
        "import sys; from skytext.cli import run; status = run(sys.argv[1:]); "
        f"print('loaded', *[name for name in {HEAVY} if name in sys.modules], file=sys.stderr); "
        "sys.exit(status)"
    )
    return subprocess.run(
        [sys.executable, *flags, "-c", code, *arguments],
        env={**os.environ, "PYTHONPATH": str(LIB)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize(
    "arguments", [["--help"], ["caption", "--help"], ["search", "--help"], ["status"], ["nonsense"]]
)
def test_help_and_wrong_calls_load_nothing_heavy(arguments: list[str]) -> None:
    assert start(*arguments).stderr.splitlines()[-1] == "loaded"


def test_help_is_fast() -> None:
    # Measure the CPU time, so that other work on this machine does not fail the test.
    spent = []
    for _ in range(3):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        assert start("--help").returncode == 0
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        spent.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    assert statistics.median(spent) < 0.5


def test_a_wrong_setting_is_reported_without_ray_or_a_model() -> None:
    done = start("caption", "missing", "--table", "t", "--set", "caption.num_variants=0")
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1] == "loaded"
