"""Measure how much time and memory ``skytext plan`` needs for a large archive without changes.

The program measures only the planning. Therefore the program writes the rows and the manifests of
the table directly, without a run. The shards are empty files, and are never opened.

    python -m bench.planning
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import hashlib
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pyarrow as pa
import typer

app = typer.Typer()
_DIM = 8
_FAKES = ["--model", "fake", "--embedding-model", "fake"]


@app.command()
def plan(
    num_shards: Annotated[int, typer.Option(help="Shards.")] = 1_000,
    images_per_shard: Annotated[int, typer.Option(help="Number of images in each shard.")] = 1_000,
    repeats: Annotated[int, typer.Option(help="Number of runs. The median is reported.")] = 3,
    output: Annotated[
        Path | None, typer.Option(help="JSON file to which the result is also written.")
    ] = None,
) -> None:
    """Measure `skytext plan` in a separate process."""
    with tempfile.TemporaryDirectory() as scratch:
        archive, table = Path(scratch, "archive"), Path(scratch, "table")
        _build(archive, table, num_shards, images_per_shard)
        runs = [_run(archive, table) for _ in range(repeats)]
    runs.sort(key=lambda run: float(run["seconds"]))
    result = {"num_images": num_shards * images_per_shard, "runs": runs} | runs[len(runs) // 2]
    typer.echo(json.dumps(result, indent=2))
    if output is not None:
        output.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


def _build(archive: Path, table: Path, num_shards: int, images_per_shard: int) -> None:
    from skytext.config.environment import prepare_libraries

    prepare_libraries()
    from skytext.config.settings import load_config
    from skytext.run.plans.caption_plan import plan_caption

    archive.mkdir()
    for i in range(num_shards):
        (archive / f"{i:06d}.tar").touch()
    config = load_config(None, {"caption.model": "fake", "embed.model": "fake"})
    planned = plan_caption([str(archive)], str(table), config)
    from skytext.table.commits.commit_rows import Committer
    from skytext.table.commits.stage_rows import stage_rows, to_images_table
    from skytext.table.shards.manifest import MANIFEST, write_manifest

    committer = Committer(planned.location, planned.column, None)
    pending = []
    for number, shard in enumerate(planned.shards):
        rows = _rows(shard, images_per_shard, planned.caption_fingerprint)
        members = pa.table({name: rows.column(name) for name in MANIFEST.names})
        write_manifest(planned.location, shard.archive, shard.path, shard.etag, members)
        column = dataclasses.replace(planned.column, dim=_DIM)
        images = to_images_table(rows, column)
        pending.append(stage_rows(planned.location, f"bench/{number}", images, column))
        if len(pending) == 100 or number == num_shards - 1:
            committer.commit(pending)
            pending = []


def _rows(shard: Any, count: int, fingerprint: str) -> pa.Table:
    from skytext.archive import image_id
    from skytext.table.schema import RUN_FIELDS, embedded

    members = [f"{i:08d}.jpg" for i in range(count)]
    vectors = np.full((count, _DIM), _DIM**-0.5, np.float32)
    now = dt.datetime.now(dt.UTC)
    given: dict[str, list[Any]] = {
        "image_id": [image_id(shard.archive, shard.path, name, 0) for name in members],
        "archive": [shard.archive] * count,
        "shard": [shard.path] * count,
        "member": members,
        "uri": [f"{shard.uri}#{name}" for name in members],
        "byte_offset": [512 * i for i in range(count)],
        "byte_length": [512] * count,
        "shard_etag": [shard.etag] * count,
        "content_sha256": [
            hashlib.sha256(f"{shard.path}#{name}".encode()).hexdigest() for name in members
        ],
        "status": ["ok"] * count,
        "text": ["a river beside a forest"] * count,
        "vectors": [[vector] for vector in vectors],
        "caption_fingerprint": [fingerprint] * count,
        "run_id": ["bench"] * count,
        "unit_id": [f"bench/{shard.path}"] * count,
        "created_at": [now] * count,
    }
    schema = pa.schema([*embedded(_DIM), *RUN_FIELDS])
    columns = [pa.array(given.get(f.name, [None] * count), f.type) for f in schema]
    return pa.Table.from_arrays(columns, schema=schema)


def _run(archive: Path, table: Path) -> dict[str, Any]:
    arguments = ["plan", str(archive), "--table", str(table), "--json", *_FAKES]
    program = "from skytext.cli import main; main()"
    started = time.monotonic()
    process = subprocess.Popen(
        [sys.executable, "-c", program, *arguments], stdout=subprocess.PIPE, text=True
    )
    out = process.stdout.read() if process.stdout is not None else ""
    _, status, usage = os.wait4(process.pid, 0)
    if status != 0:
        raise typer.Exit(1)
    found = json.loads(out)
    return {
        "seconds": round(time.monotonic() - started, 2),
        "peak_mib": round(_peak(usage) / 1024, 1),
        "num_done": found["num_images"]["done"],
        "num_shards_to_read": found["num_shards_to_read"],
    }


def _peak(usage: resource.struct_rusage) -> int:
    return usage.ru_maxrss


if __name__ == "__main__":
    app()
