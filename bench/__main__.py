"""Run all measurements of `docs/benchmarks.md`, one after the other. Run: ``python -m bench``

You can also run each measurement alone, with its own options, for example
``python -m bench.throughput --help``.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Annotated

import typer

_MEASUREMENTS = {
    "throughput-pinned": ["bench.throughput", "--pinned"],
    "throughput": ["bench.throughput"],
    "driver-memory": ["bench.driver_memory", "compare"],
    "planning": ["bench.planning"],
    "nightly": ["bench.nightly"],
    "folder-reading": ["bench.folder_reading", "measure"],
    "folder-reading-far": ["bench.folder_reading", "measure", "--delay-ms", "100"],
    "folder-reading-sidecars": ["bench.folder_reading", "measure", "--sidecars"],
    "vector-writes": ["bench.vector_writes"],
    "protocol": ["bench.protocol"],
    "demo-marks": ["bench.demo_marks"],
    "search": ["bench.search"],
    # This measurement uses the table of the previous measurement.
    "service": ["bench.service", "bench/out/search/skytext-1000000/index"],
}


def main(
    only: Annotated[
        list[str] | None,
        typer.Option(help=f"One of {', '.join(_MEASUREMENTS)}. You can give several."),
    ] = None,
    repeats: Annotated[
        int, typer.Option(help="Number of runs of each measurement. The median is reported.")
    ] = 3,
    output: Annotated[Path, typer.Option(help="Folder for the JSON results.")] = Path("bench/out"),
) -> None:
    """Run the measurements, and write one JSON file for each measurement."""
    names = only or list(_MEASUREMENTS)
    unknown = sorted(set(names) - set(_MEASUREMENTS))
    if unknown:
        known = ", ".join(_MEASUREMENTS)
        raise typer.BadParameter(f"{', '.join(unknown)} is unknown. The measurements are {known}")
    output.mkdir(parents=True, exist_ok=True)
    for name in names:
        module, *arguments = _MEASUREMENTS[name]
        command = [sys.executable, "-m", module, *arguments, "--repeats", str(repeats)]
        typer.echo(f"== {name}", err=True)
        subprocess.run([*command, "--output", str(output / f"{name}.json")], check=True)


if __name__ == "__main__":
    typer.run(main)
