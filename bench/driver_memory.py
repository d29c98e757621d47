"""Measure the peak memory of the driver for a small and for a large number of images.

The packaged fake captioner and fake embedder replace the models. The measurement shows how much
memory the driver needs for units, for commits and for the proof. Each run has a separate process.

    python -m bench.driver_memory --repeats 3
"""

from __future__ import annotations

import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Annotated, Any

import typer

app = typer.Typer()
_IMAGE_PX = 64


@app.command()
def compare(
    small: Annotated[int, typer.Option(help="Number of images in the small run.")] = 1_000,
    large: Annotated[int, typer.Option(help="Number of images in the large run.")] = 20_000,
    repeats: Annotated[
        int, typer.Option(help="Number of runs of each size. The medians are reported.")
    ] = 3,
    output: Annotated[
        Path | None, typer.Option(help="JSON file to which the result is also written.")
    ] = None,
) -> None:
    """Compare the peak resident memory of the driver for two numbers of images."""
    from skytext.demo.shards import write_shards

    runs: dict[int, list[dict[str, Any]]] = {small: [], large: []}
    with tempfile.TemporaryDirectory() as scratch:
        for size in runs:
            archive = Path(scratch) / f"archive-{size}"
            write_shards(archive, num_images=size, images_per_shard=500, seed=0, image_px=_IMAGE_PX)
        for repeat in range(repeats):
            for size in runs:
                table = Path(scratch) / f"table-{size}-{repeat}"
                archive = Path(scratch) / f"archive-{size}"
                found = _run_in_process(archive, table)
                runs[size].append(found)
                typer.echo(f"{size} images {repeat + 1}/{repeats}: {json.dumps(found)}", err=True)
    peaks = {
        size: statistics.median(run["peak_mib"] for run in found) for size, found in runs.items()
    }
    result = {"runs": runs, "peak_mib": peaks, "ratio": round(peaks[large] / peaks[small], 4)}
    typer.echo(json.dumps(result, indent=2))
    if output is not None:
        output.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


@app.command()
def one(archive: str, table: str) -> None:
    """Run one job in this process, and print the peak memory of this process."""
    from skytext.config.settings import load_config
    from skytext.run.caption_run import run_caption
    from skytext.run.plans.caption_plan import plan_caption

    config = load_config(None, {"caption.model": "fake", "embed.model": "fake"})
    summary = run_caption(plan_caption([archive], table, config))
    peak_mib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    found = {
        "num_ok": summary.num_ok,
        "duration_s": summary.duration_s,
        "peak_mib": round(peak_mib, 1),
    }
    typer.echo(json.dumps(found))


def _run_in_process(archive: Path, table: Path) -> dict[str, Any]:
    command = [sys.executable, "-m", "bench.driver_memory", "one", str(archive), str(table)]
    environment = os.environ | {"RAY_USAGE_STATS_ENABLED": "0", "LANCE_LOG": "error"}
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=environment)
    found: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return found


if __name__ == "__main__":
    app()
