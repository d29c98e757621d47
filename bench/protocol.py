"""Measure the cost of exactly-once processing.

There are two costs. The first cost is the time in a run in which the engine waits. The second cost
is the time of a run without new images. The packaged fake models replace the real models. The fake
captioner has the speed of a fully used GPU engine (about 50 images/s). The command runs in a
separate process.

    python -m bench.protocol
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Annotated, Any

import typer

app = typer.Typer()
_IMAGE_PX = 64


@app.command()
def measure(
    num_images: Annotated[int, typer.Option(help="Number of images in the job.")] = 20_000,
    delay_s: Annotated[
        float, typer.Option(help="Seconds that the fake captioner needs for an answer.")
    ] = 2.0,
    repeats: Annotated[
        int, typer.Option(help="Number of runs without new images. The median is reported.")
    ] = 3,
    output: Annotated[
        Path | None, typer.Option(help="JSON file to which the result is also written.")
    ] = None,
) -> None:
    """Run a job, and then run the same job again when there are no new images."""
    from skytext.demo.shards import write_shards

    with tempfile.TemporaryDirectory() as scratch:
        archive, table = Path(scratch, "archive"), Path(scratch, "table")
        write_shards(
            archive, num_images=num_images, images_per_shard=500, seed=0, image_px=_IMAGE_PX
        )
        job = _run(archive, table, delay_s)
        again = [_run(archive, table, delay_s) for _ in range(repeats)]
    alone_s = job["prepare_s"] + job["finish_s"]
    result = {
        "num_images": job["num_captioned"],
        "images_per_s": job["images_per_s"],
        "duration_s": job["duration_s"],
        "prepare_and_finish_s": round(alone_s, 2),
        "commit_s": job["commit_s"],
        "engine_idle_s": job["engine_idle_s"],
        "share_not_overlapped": round((alone_s + job["engine_idle_s"]) / job["duration_s"], 4),
        "again_wall_s": round(statistics.median(run["wall_s"] for run in again), 2),
        "again_model_calls": sum(run["num_captioned"] for run in again),
        "again_engines": sum(run["num_engines"] for run in again),
    }
    typer.echo(json.dumps(result, indent=2))
    if output is not None:
        output.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


def _run(archive: Path, table: Path, delay_s: float) -> dict[str, Any]:
    program = "from skytext.cli import main; main()"
    arguments = ["caption", str(archive), "--table", str(table), "--json"]
    fakes = ["--model", f"fake:delay_s={delay_s}", "--embedding-model", "fake"]
    started = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments, *fakes],
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    )
    found: dict[str, Any] = json.loads(done.stdout)
    return found | {"wall_s": time.monotonic() - started}


if __name__ == "__main__":
    app()
