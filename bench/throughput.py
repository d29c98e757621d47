"""Compare the engine tokens/s of the complete job with the tokens/s of the bare engine.

Both sides send the same requests. On the bare side, all images are already decoded, the engine gets
all requests at the same time, and nothing else runs. On the job side, a job on a local Ray reads
the shards, and decodes, captions, embeds, writes and commits the images.

Each side runs in a separate process. With ``--pinned``, both sides run the engine's processes
(scheduler and workers) on core 0, and all other processes on core 1. Engine tokens/s is the number
of output tokens divided by the time from the first request to the last answer. The time for the
start of the engine is not included.

    python -m bench.throughput --pinned --repeats 3
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Annotated, Any

import typer

_ENGINE_CORE, _OTHER_CORE = "0", "1"


def main(
    num_images: Annotated[int, typer.Option(help="Number of generated scenes.")] = 512,
    repeats: Annotated[
        int, typer.Option(help="Number of runs of each side. The medians are reported.")
    ] = 3,
    pinned: Annotated[
        bool, typer.Option(help="Run the engine on core 0, and all other processes on core 1.")
    ] = False,
    output: Annotated[
        Path | None, typer.Option(help="JSON file to which the result is also written.")
    ] = None,
    settings: Annotated[list[str] | None, typer.Option("--set", help="NAME=VALUE")] = None,
    archive: Annotated[
        Path | None,
        typer.Option(help="Folder of existing shards, which are used instead of generated scenes."),
    ] = None,
) -> None:
    """Measure the ratio of the two speeds.

    Bare runs and job runs alternate, so that changes in the speed of the machine affect both sides.
    """
    sides: dict[str, list[dict[str, Any]]] = {"bare": [], "job": []}
    with tempfile.TemporaryDirectory() as scratch:
        if archive is None:
            archive = Path(scratch) / "archive"
            _generate(archive, num_images)
        for repeat in range(repeats):
            for side in sides:
                table = Path(scratch) / f"table-{repeat}"
                found = _run_side(side, archive, table, pinned, settings or [])
                sides[side].append(found)
                typer.echo(f"{side} {repeat + 1}/{repeats}: {json.dumps(found)}", err=True)
    result = _summarise(sides, pinned)
    typer.echo(json.dumps(result, indent=2))
    if output is not None:
        output.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


def _generate(archive: Path, num_images: int) -> None:
    from skytext.demo.scenes.generate import HELD_OUT_SEED
    from skytext.demo.shards import write_shards

    write_shards(archive, num_images=num_images, images_per_shard=128, seed=HELD_OUT_SEED)


def _run_side(
    side: str, archive: Path, table: Path, pinned: bool, settings: list[str]
) -> dict[str, Any]:
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "RAY_USAGE_STATS_ENABLED": "0"}
    if pinned:
        settings = [*settings, f"caption.engine.cpu_cores='{_ENGINE_CORE}'"]
    command = [sys.executable, "-m", f"bench.{side}_side", str(archive), str(table), *settings]
    if pinned:
        command = ["taskset", "-c", _OTHER_CORE, *command]
    done = subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE, text=True)
    found: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return found


def _summarise(sides: dict[str, list[dict[str, Any]]], pinned: bool) -> dict[str, Any]:
    rates = {
        side: statistics.median(run["tokens_per_s"] for run in runs) for side, runs in sides.items()
    }
    return {
        "pinned": pinned,
        "runs": sides,
        "bare_tokens_per_s": rates["bare"],
        "job_tokens_per_s": rates["job"],
        "ratio": round(rates["job"] / rates["bare"], 4),
    }


if __name__ == "__main__":
    typer.run(main)
