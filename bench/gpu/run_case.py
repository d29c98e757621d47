"""Run one case in this process. Run: ``python -m bench.gpu.run_case SECTION CASE …``"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Annotated, Any

import typer

from bench.gpu.cases import DEMO, FULL, SECTIONS, SMALL, Case, Scale

_ROOT = Path(__file__).parents[2]


def main(
    section: str,
    name: str,
    work: Annotated[Path, typer.Option(help="Folder for checkpoints, images and tables.")],
    output: Annotated[Path, typer.Option(help="JSON file for the result.")],
    small: Annotated[bool, typer.Option(help="Use tiny sizes, for a CPU.")] = False,
) -> None:
    """Run one case, and write the result."""
    # The processes of the engine must not be forked, because a fork would inherit the threads of
    # this process. vLLM reads this variable when it is imported.
    os.environ["VLLM_WORKER_MULTIPROC_METHOD"] = "spawn"
    os.environ["HF_HUB_OFFLINE"] = "1"
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    (case,) = (case for case in SECTIONS[section] if case.name == name)
    found = _run(case, SMALL if small else FULL, work)
    output.write_text(json.dumps(found), encoding="utf-8")


def _run(case: Case, scale: Scale, work: Path) -> dict[str, Any]:
    if case.kind == "test":
        return _run_test(case.test)
    config = make_config(case, scale, work)
    if case.kind == "embed":
        from bench.gpu.job import run_embedder

        return run_embedder(config, scale, on_gpu=case.needs_gpu)
    num_images = max(1, round(max(load.share for load in case.loads) * scale.num_images))
    archive = _archive(work, num_images, scale.side_px)
    if case.kind == "job":
        from bench.gpu.job import run_job

        table = work / f"table-{time.time_ns()}"
        return run_job(config, case, scale, archive, table, num_images)
    from bench.bare_side import read_images

    images = read_images(archive)
    if case.kind == "correctness":
        from bench.gpu.correctness import run_correctness

        return run_correctness(config, scale, images[: min(64, num_images)])
    from bench.gpu.engines import run_bare, run_offline

    run = run_offline if case.kind == "offline" else run_bare
    return run(config, case, scale, images)


def make_config(case: Case, scale: Scale, work: Path) -> Any:
    """Return the settings of a case. If the checkpoint does not exist, it is made."""
    from skytext.config.settings import load_config

    settings: dict[str, Any] = {
        "caption.max_tokens": scale.num_tokens,
        "caption.max_attempts": 1,
        "caption.structured_output": False,
    }
    settings |= {**scale.settings, **case.settings}
    if case.kind == "correctness":
        settings["caption.engine.dtype"] = "float32"
    options = dict(settings.get("caption.engine.options", {}))
    settings["caption.model"] = model = _checkpoint(scale.models.get(case.model, case.model), work)
    if model != DEMO:
        options["load_format"] = "dummy"
    settings["caption.engine.options"] = options
    return load_config(None, settings)


def _checkpoint(name: str, work: Path) -> str:
    if name == DEMO:
        return DEMO
    from bench.gpu.shapes import SHAPES, write_checkpoint

    folder = work / "models" / name
    if not (folder / "model.safetensors").is_file():
        write_checkpoint(folder, SHAPES[name])
    return str(folder)


def _archive(work: Path, num_images: int, side_px: int) -> Path:
    """Return a folder with shards of generated scenes. If the folder does not exist, it is made."""
    from skytext.demo.scenes.generate import HELD_OUT_SEED
    from skytext.demo.shards import TRUTH_NAME, write_shards

    folder = work / f"scenes-{num_images}-{side_px}px"
    if not (folder / TRUTH_NAME).is_file():
        write_shards(
            folder,
            num_images=num_images,
            images_per_shard=max(1, num_images // 4),
            seed=HELD_OUT_SEED,
            image_px=side_px,
        )
    return folder


def _run_test(node_id: str) -> dict[str, Any]:
    """Run one test of the project in a separate process."""
    started = time.monotonic()
    # Warnings are not errors here, because the machine may have other versions of packages than the
    # pinned versions.
    options = ["-q", "-p", "no:cacheprovider", "-o", "filterwarnings=default"]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *options, node_id],
        cwd=_ROOT,
        env={"SKYTEXT_NUM_VLLM_KILLS": "2", **os.environ},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if done.returncode != 0 or "1 passed" not in done.stdout:
        raise RuntimeError(f"{node_id} did not pass:\n{done.stdout[-4000:]}")
    span_s = round(time.monotonic() - started, 1)
    return {"start_s": 0.0, "loads": {"passed": {"span_s": span_s}}}


if __name__ == "__main__":
    typer.run(main)
