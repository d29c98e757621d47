"""Measure the complete job on a local Ray, and measure the embedder alone."""

from __future__ import annotations

import dataclasses
import time
from pathlib import Path
from typing import Any

import numpy as np

from bench.gpu.cases import Case, Scale
from bench.gpu.engines import rates
from bench.gpu.fixed import make_fixed_captioner
from bench.gpu.watch import GpuWatch
from skytext.captions.parsing import Variant, document_text
from skytext.config.settings import Config
from skytext.demo.scenes.generate import make_scene
from skytext.demo.scenes.truth_captions import describe
from skytext.models.checkpoints import embed_model
from skytext.models.factory import make_embedder
from skytext.run.caption_run import run_caption
from skytext.run.plans.caption_plan import plan_caption
from skytext.run.progress import Progress


def run_job(
    config: Config, case: Case, scale: Scale, archive: Path, table: Path, num_images: int
) -> dict[str, Any]:
    """Run the complete job, from reading to commit. Return the result.

    The rates are for the time from the first request to the last answer. The GPU is observed from
    the first written unit to the last written unit.
    """
    plan = plan_caption([str(archive)], str(table), config)
    plan = dataclasses.replace(plan, make_captioner=make_fixed_captioner)
    written: list[float] = []

    def note(_: Progress) -> None:
        written.append(time.monotonic())

    with GpuWatch() as watch:
        summary = run_caption(plan, on_progress=note)
    (load,) = case.loads
    expected = num_images * config.caption.num_variants * (load.num_tokens or scale.num_tokens)
    if (summary.num_ok, summary.num_output_tokens) != (num_images, expected):
        raise RuntimeError(
            f"the job described {summary.num_ok} images with {summary.num_output_tokens} tokens, "
            f"instead of {num_images} images with {expected} tokens: {summary.failures}"
        )
    found = {
        **rates(summary.num_ok, summary.num_output_tokens, summary.engine_span_s),
        "num_prompt_tokens": summary.num_prompt_tokens,
        "num_cached_tokens": summary.num_cached_tokens,
        "engine_idle_s": summary.engine_idle_s,
        "duration_s": summary.duration_s,
        **watch.between(written[0], written[-1]),
    }
    return {
        "start_s": round(summary.duration_s - summary.engine_span_s, 1),
        "loads": {load.name: found},
    }


def run_embedder(config: Config, scale: Scale, *, on_gpu: bool) -> dict[str, Any]:
    """Embed descriptions of the usual length, and return the speed in texts/s."""
    settings = config.embed.model_copy(update={"num_gpus_per_actor": float(on_gpu)})
    started = time.monotonic()
    embedder = make_embedder(settings, embed_model(settings))
    texts = _texts(scale.num_texts)
    embedder.embed_documents(texts[: settings.batch_size])
    start_s = time.monotonic() - started
    with GpuWatch() as watch:
        began = time.monotonic()
        embedder.embed_documents(texts)
        ended = time.monotonic()
    found = {
        "num_texts": len(texts),
        "span_s": round(ended - began, 3),
        "texts_per_s": round(len(texts) / (ended - began), 1),
        "precision": embedder.info.precision,
        **watch.between(began, ended),
    }
    return {"start_s": round(start_s, 1), "loads": {embedder.info.device: found}}


def _texts(count: int) -> list[str]:
    scenes = [make_scene(seed) for seed in range(min(count, 500))]
    fields = [describe(scene, np.random.default_rng(scene.seed)) for scene in scenes]
    return [document_text(Variant(**fields[i % len(fields)])) for i in range(count)]
