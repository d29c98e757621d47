"""Measure LLaVA models of real size on a GPU. Run ``python -m bench.gpu``, and see README.md."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Annotated, Any

import typer

from bench.gpu.cases import LIMIT_S, SECTIONS, Case
from bench.gpu.report import machine, now, read_results, table, write_results
from bench.gpu.watch import has_gpu

_KEPT_OUTPUT_CHARS = 3000


def main(
    only: Annotated[
        str | None, typer.Option(help=f"Sections, separated by commas: {', '.join(SECTIONS)}.")
    ] = None,
    output: Annotated[
        Path,
        typer.Option(
            help="JSON file for the results. Results of other sections in this file are kept."
        ),
    ] = Path("bench/out/gpu.json"),
    small: Annotated[
        bool, typer.Option(help="Use tiny sizes and the demonstration checkpoint, for a CPU.")
    ] = False,
    price_per_hour: Annotated[
        float | None, typer.Option(help="Price of the machine for one hour, in any currency.")
    ] = None,
    work: Annotated[
        Path | None,
        typer.Option(help="Folder for checkpoints and images. The default is a temporary folder."),
    ] = None,
    limit_s: Annotated[float, typer.Option(help="Time limit of a section in seconds.")] = LIMIT_S,
    only_table: Annotated[
        bool, typer.Option(help="Print the table of the existing results, and measure nothing.")
    ] = False,
) -> None:
    """Measure the sections, and print one table. Each result is saved immediately."""
    names = only.split(",") if only else list(SECTIONS)
    unknown = sorted(set(names) - set(SECTIONS))
    if unknown:
        known = ", ".join(SECTIONS)
        raise typer.BadParameter(f"{', '.join(unknown)} is unknown. The sections are {known}")
    results = read_results(output)
    ok = True
    if not only_table:
        if not small and not has_gpu():
            raise typer.BadParameter(
                "this machine has no CUDA GPU: for a test on a CPU, add --small"
            )
        with tempfile.TemporaryDirectory(prefix="skytext-bench-") as scratch:
            folder = work or Path(scratch)
            folder.mkdir(parents=True, exist_ok=True)
            for name in names:
                ok &= _run_section(name, results, output, folder.absolute(), small, limit_s)
    typer.echo(table(results, price_per_hour))
    if not ok:
        raise typer.Exit(1)


def _run_section(
    name: str, results: dict[str, Any], output: Path, work: Path, small: bool, limit_s: float
) -> bool:
    """Run the cases of a section one after the other. Return true if all cases succeeded."""
    cases: dict[str, Any] = {}
    started = time.monotonic()
    results["sections"][name] = {
        "started_at": now(),
        "scale": "small" if small else "full",
        "machine": machine(),
        "cases": cases,
    }
    for case in SECTIONS[name]:
        typer.echo(f"== {name}: {case.name}", err=True)
        left_s = limit_s - (time.monotonic() - started)
        cases[case.name] = _run_case(name, case, work, small, left_s)
        results["sections"][name]["duration_s"] = round(time.monotonic() - started, 1)
        write_results(output, results)
    return not any("error" in found for found in cases.values())


def _run_case(section: str, case: Case, work: Path, small: bool, left_s: float) -> dict[str, Any]:
    """Run a case and return its result. If the case fails, the result contains the error."""
    if case.needs_gpu and not has_gpu():
        return {"skipped": "this case needs a CUDA GPU"}
    if left_s <= 0:
        return {"error": "the time limit of the section was reached before this case"}
    result = work / "result.json"
    result.unlink(missing_ok=True)
    command = [sys.executable, "-m", "bench.gpu.run_case", section, case.name]
    options = ["--work", str(work), "--output", str(result), *(["--small"] if small else [])]
    log = work / "log.txt"
    with log.open("wb") as out:
        # Start the case in a new session, so that its process group can be killed at the time
        # limit.
        process = subprocess.Popen(
            [*command, *options], stdout=out, stderr=subprocess.STDOUT, start_new_session=True
        )
        try:
            status: int | str = process.wait(left_s)
        except subprocess.TimeoutExpired:
            _end_all(process)
            status = f"ended after {left_s:.0f} s because of the time limit of the section"
        except BaseException:
            _end_all(process)
            raise
    if status == 0 and result.is_file():
        return read_results(result) | {"kind": case.kind}
    output = log.read_text(encoding="utf-8", errors="replace")[-_KEPT_OUTPUT_CHARS:]
    return {"error": f"{output}\n{case.name}: exit status {status}"}


def _end_all(process: subprocess.Popen[bytes]) -> None:
    """End a running case and all its processes, because the next case needs the whole GPU."""
    import psutil

    # List the child processes before the case is killed. The processes of Ray are in other process
    # groups. When their parent ends, they are not its children any more.
    children = psutil.Process(process.pid).children(recursive=True)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    for child in children:
        with contextlib.suppress(psutil.NoSuchProcess):
            child.kill()
    psutil.wait_procs(children, timeout=30)


if __name__ == "__main__":
    typer.run(main)
