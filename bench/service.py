"""Compare the service with a search in one process, and measure the service under overload.

The program starts ``skytext serve`` for a table. It sends requests from a different process, and
measures the CPU seconds of all processes of the service. Run: ``python -m bench.service TABLE
--repeats 3``
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Annotated, Any

import psutil
import typer

from bench.service_load import make_queries

_START_S = 300
_SETTINGS = ("service.access.key_rate=null",)


class Service:
    """A running ``skytext serve``."""

    def __init__(self, url: str, process: psutil.Process) -> None:
        self.url = url
        self._process = process

    def processes(self) -> list[psutil.Process]:
        """Return all processes of the service, including Ray's processes."""
        return [self._process, *self._process.children(recursive=True)]

    def cpu_s(self) -> float:
        """Return the CPU seconds that all processes have used since the start."""
        total = 0.0
        for process in self.processes():
            try:
                times = process.cpu_times()
            except psutil.NoSuchProcess:
                continue
            total += times.user + times.system
        return total

    def memory_mib(self) -> float:
        """Return the memory of all processes in MiB (proportional set size)."""
        total = 0
        for process in self.processes():
            try:
                total += process.memory_full_info().pss
            except (psutil.NoSuchProcess, psutil.AccessDenied):
                continue
        return total / 2**20

    def load(self, *options: str) -> dict[str, Any]:
        """Send requests to the service. Return the load generator's report and the CPU cost."""
        before, started = self.cpu_s(), time.perf_counter()
        command = [sys.executable, "-m", "bench.service_load", self.url, *options]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        report: dict[str, Any] = json.loads(done.stdout)
        num_accepted = max(report["statuses"].get("200", 0), 1)
        report["cpu_s_a_request"] = round((self.cpu_s() - before) / num_accepted, 5)
        report["cores"] = round((self.cpu_s() - before) / (time.perf_counter() - started), 2)
        report["memory_mib"] = round(self.memory_mib())
        return report


@contextmanager
def running(table: str, settings: list[str]) -> Iterator[Service]:
    """Start a service on a free port, and stop the service at the end of the ``with`` block."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    given = [part for setting in (*_SETTINGS, *settings) for part in ("--set", setting)]
    code = "from skytext.cli import main; main()"
    command = [sys.executable, "-c", code, "serve", table, "--port", str(port), "--no-keys", *given]
    process = subprocess.Popen(command)
    url = f"http://127.0.0.1:{port}"
    try:
        _wait(url, process)
        yield Service(url, psutil.Process(process.pid))
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(30)


def _wait(url: str, process: subprocess.Popen[bytes]) -> None:
    end = time.monotonic() + _START_S
    while time.monotonic() < end and process.poll() is None:
        try:
            urllib.request.urlopen(f"{url}/readyz", timeout=5).close()
            return
        except (urllib.error.URLError, OSError):
            time.sleep(0.5)
    raise SystemExit("the service did not start")


def direct(table: str, seconds: float, k: int, mode: str) -> dict[str, Any]:
    """Embed and search in one separate process, one query after the other."""
    code = (
        "import sys, json; from bench.service import direct_here; "
        "print(json.dumps(direct_here(sys.argv[1], float(sys.argv[2]), int(sys.argv[3]), "
        "sys.argv[4])))"
    )
    command = [sys.executable, "-c", code, table, str(seconds), str(k), mode]
    # Set this variable, because Ray sets it for a replica that has less than one CPU.
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, check=True, capture_output=True, text=True, env=environment)
    report: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return report


def direct_here(table: str, seconds: float, k: int, mode: Any) -> dict[str, Any]:
    """Embed and search in this process.

    The measurement starts after the model and the indexes are loaded.
    """
    from skytext.search import Searcher

    searcher = Searcher.open(table)
    searcher.warm()
    queries = make_queries(1)
    for text in queries[:20]:
        searcher.search(text, k, mode=mode)
    cpu, started, count = time.process_time(), time.perf_counter(), 0
    while time.perf_counter() - started < seconds:
        searcher.search(queries[count % len(queries)], k, mode=mode)
        count += 1
    wall = time.perf_counter() - started
    return {
        "per_s": round(count / wall, 1),
        "cpu_s_a_request": round((time.process_time() - cpu) / count, 5),
    }


def measure(
    table: str, seconds: float, overload_s: float, k: int, mode: str, settings: list[str]
) -> dict[str, Any]:
    """Return the results of one run.

    First, searches in one process are measured. Then the service is measured with 1, 8 and 64
    clients. Then the service is measured with 80 %, 200 % and 50 % of the requests per second that
    the service can accept.
    """
    found: dict[str, Any] = {"direct": direct(table, seconds, k, mode)}
    same = ("--k", str(k), "--mode", mode)
    with running(table, settings) as service:
        # Fill the caches before the measurement. The result of this load is not used.
        service.load("--clients", "8", "--seconds", "5", *same)
        for clients in (1, 8, 64):
            found[f"clients_{clients}"] = service.load(
                "--clients", str(clients), "--seconds", str(seconds), *same
            )
        found["clients_64_patient"] = service.load(
            "--clients", "64", "--patient", "--seconds", str(seconds), *same
        )
        capacity = max(found[f"clients_{n}"]["accepted_per_s"] for n in (8, 64))
        for name, share, duration in (
            ("at_80_percent", 0.8, seconds),
            ("at_200_percent", 2.0, overload_s),
            ("afterwards_at_50_percent", 0.5, seconds),
        ):
            rate = ("--per-s", str(capacity * share), "--seconds", str(duration))
            found[name] = service.load(*rate, *same)
    base = found["direct"]["cpu_s_a_request"]
    found["cpu_ratio"] = {
        name: round(found[name]["cpu_s_a_request"] / base, 2)
        for name in ("clients_1", "clients_8", "clients_64", "clients_64_patient")
    }
    found["p99_ratio_at_200_percent"] = round(
        found["at_200_percent"]["p99_ms"] / found["at_80_percent"]["p99_ms"], 2
    )
    return found


def main(
    table: Annotated[str, typer.Argument(help="A table with indexes.")],
    seconds: Annotated[float, typer.Option(help="Duration of each load in seconds.")] = 20.0,
    overload_s: Annotated[float, typer.Option(help="Duration of the overload in seconds.")] = 300.0,
    k: int = 10,
    mode: str = "dense",
    repeats: Annotated[
        int, typer.Option(help="Number of runs. The medians of the ratios are reported.")
    ] = 1,
    settings: Annotated[
        list[str] | None, typer.Option("--set", help="A setting of the service, as NAME=VALUE.")
    ] = None,
    output: Annotated[Path | None, typer.Option(help="JSON file for the result.")] = None,
) -> None:
    """Measure the endpoint for searches of the service."""
    runs = [measure(table, seconds, overload_s, k, mode, settings or []) for _ in range(repeats)]
    ratios = {name: median(run["cpu_ratio"][name] for run in runs) for name in runs[0]["cpu_ratio"]}
    report = json.dumps({"cpu_ratio": ratios, "runs": runs}, indent=2)
    if output is not None:
        output.write_text(report + "\n")
    print(report)


if __name__ == "__main__":
    typer.run(main)
