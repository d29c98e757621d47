"""Compare the cost of a nightly ``skytext reindex`` with the cost of describing the whole archive.

The models are fake. The other parts are real: shards are listed and read, images are decoded, and
rows are written, committed, checked and promoted. No vector index is built. `bench.search` measures
the build of a vector index.

    python -m bench.nightly --num-images 200000
"""

from __future__ import annotations

import io
import json
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

app = typer.Typer()
_SETTINGS: dict[str, Any] = {
    "caption.model": "fake",
    "caption.num_variants": 1,
    "embed.model": "fake",
    "index.vector": "never",
    "index.measure_chance": False,
}
_STAGES = ("images_described", "output_tokens")


@app.command()
def nights(
    num_images: Annotated[int, typer.Option(help="Number of images in the archive.")] = 200_000,
    images_per_shard: Annotated[int, typer.Option(help="Number of images in each shard.")] = 1_000,
    repeats: Annotated[int, typer.Option(help="Number of calls that find nothing new.")] = 3,
    output: Annotated[
        Path | None, typer.Option(help="JSON file to which the result is also written.")
    ] = None,
) -> None:
    """Measure the first call, and calls with 1 % new, 0.01 % changed, or no new images."""
    from skytext.config.environment import prepare_libraries

    prepare_libraries()
    result = measure(num_images, images_per_shard, repeats)
    typer.echo(json.dumps(result, indent=2))
    if output is not None:
        output.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


def measure(num_images: int, images_per_shard: int, num_calls: int) -> dict[str, Any]:
    """Return the amount of work in each call, compared with the first call.

    Args:
        num_images: number of images in the archive.
        images_per_shard: number of images per shard.
        num_calls: number of calls that find nothing new.
    """
    with tempfile.TemporaryDirectory() as scratch:
        archive, table = Path(scratch, "archive"), Path(scratch, "table")
        archive.mkdir()
        _write(archive, range(num_images), images_per_shard)
        found = {"full": _night(archive, table)}
        num_new, num_changed = max(1, num_images // 100), max(1, num_images // 10_000)
        _write(archive, range(num_images, num_images + num_new), images_per_shard, prefix="new-")
        found["1 % new"] = _night(archive, table)
        _write(archive, range(images_per_shard), images_per_shard, num_changed=num_changed)
        found["0.01 % changed"] = _night(archive, table)
        nothing = sorted(_call(archive, table) for _ in range(num_calls))
    full = found["full"]
    for night in found.values():
        night["share_of_stage_work"] = max(night[name] / full[name] for name in _STAGES)
        night["share_of_bytes_read"] = night["bytes_read"] / full["bytes_read"]
    return {"num_images": num_images, "nights": found, "nothing_new_s": nothing}


def _write(
    archive: Path,
    numbers: Sequence[int],
    images_per_shard: int,
    *,
    prefix: str = "",
    num_changed: int = 0,
) -> None:
    """Write shards. All images are different.

    The first ``num_changed`` images are changed images. A changed image has the name of an earlier
    image, but different pixels.
    """
    for start in range(0, len(numbers), images_per_shard):
        some = numbers[start : start + images_per_shard]
        with tarfile.open(archive / f"{prefix}{some[0]:07d}.tar", "w") as shard:
            for number in some:
                data = _png(number, is_changed=number < num_changed)
                member = tarfile.TarInfo(f"{number:07d}.png")
                member.size = len(data)
                shard.addfile(member, io.BytesIO(data))


def _png(number: int, *, is_changed: bool) -> bytes:
    from PIL import Image

    bits = np.frombuffer(f"{number:07d}{is_changed:d}".encode() * 96, np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(bits.reshape(16, 16, 3)).save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()


def _night(archive: Path, table: Path) -> dict[str, Any]:
    """Run one call in this process. Return the amount of work of each stage."""
    from skytext.config.settings import load_config
    from skytext.run.plans.caption_plan import plan_caption
    from skytext.run.progress import Progress
    from skytext.run.reindex.reindex_run import run_reindex

    read: set[tuple[str, str]] = set()

    def watch(progress: Progress) -> None:
        read.update(progress.listed_by_shard)

    started = time.monotonic()
    plan = plan_caption([str(archive)], str(table), load_config(None, _SETTINGS), stale="all")
    summary = run_reindex(plan, on_progress=watch)
    runs = summary.runs.values()
    return {
        "seconds": round(time.monotonic() - started, 1),
        "images_described": sum(run.num_captioned for run in runs),
        "output_tokens": sum(run.num_output_tokens for run in runs),
        "bytes_read": sum(s.size_bytes for s in plan.shards if (s.archive, s.path) in read),
        "was_promoted": summary.was_promoted,
    }


def _call(archive: Path, table: Path) -> float:
    """Run the command when there is nothing new. Return the duration in seconds."""
    program = "from skytext.cli import main; main()"
    arguments = ["reindex", str(archive), "--table", str(table), "--json", *_options()]
    started = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments], stdout=subprocess.PIPE, check=True
    )
    seconds = time.monotonic() - started
    summary = json.loads(done.stdout)
    if summary["vectors"] or any(run["num_engines"] for run in summary["runs"].values()):
        raise AssertionError("a model was started although nothing is new")
    return round(seconds, 1)


def _options() -> Iterator[str]:
    for name, value in _SETTINGS.items():
        yield "--set"
        yield f"{name}={json.dumps(value) if isinstance(value, bool) else value}"


if __name__ == "__main__":
    app()
