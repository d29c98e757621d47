"""Run skytext's engine or vLLM's ``LLM`` alone, with all requests at the same time."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import Any

from PIL import Image

from bench.gpu.cases import Case, Load, Scale
from bench.gpu.fixed import FixedLengthEngine
from bench.gpu.watch import GpuWatch
from skytext.captions.captioner import Ask
from skytext.config.settings import Config
from skytext.models.checkpoints import caption_model
from skytext.models.fingerprints import prompt_of
from skytext.models.vllm.engine import PromptRenderer
from skytext.models.vllm.start import engine_options, set_environment


def run_bare(
    config: Config, case: Case, scale: Scale, images: Sequence[Image.Image]
) -> dict[str, Any]:
    """Run each load with the engine class that the job uses. Return the results."""
    with GpuWatch() as watch:
        return asyncio.run(_run_bare(config, case, scale, images, watch))


async def _run_bare(
    config: Config, case: Case, scale: Scale, images: Sequence[Image.Image], watch: GpuWatch
) -> dict[str, Any]:
    caption = config.caption
    started = time.monotonic()
    engine = FixedLengthEngine(caption, caption_model(caption), prompt_of(caption))
    try:
        await engine.check()
        start_s = time.monotonic() - started
        loads = {
            load.name: await _run_load(engine, config, load, scale, images, number, watch)
            for number, load in enumerate(case.loads)
        }
    finally:
        engine.close()
    return {"start_s": round(start_s, 1), "loads": loads}


async def _run_load(
    engine: FixedLengthEngine,
    config: Config,
    load: Load,
    scale: Scale,
    images: Sequence[Image.Image],
    number: int,
    watch: GpuWatch,
) -> dict[str, Any]:
    asked = load_images(images, load, scale, number)
    ask = ask_of(config, load, scale)
    engine.structured = load.structured
    started = time.monotonic()
    found = await asyncio.gather(*(engine.generate(image, ask) for image in asked))
    ended = time.monotonic()
    num_tokens = sum(generation.num_output_tokens for generation in found)
    expected = len(asked) * ask.num_samples * ask.max_tokens
    if num_tokens != expected and not load.structured:
        raise RuntimeError(f"the engine wrote {num_tokens} tokens, not {expected}")
    return {
        "num_prompt_tokens": sum(generation.num_prompt_tokens for generation in found),
        "num_cached_tokens": sum(generation.num_cached_tokens for generation in found),
        **rates(len(asked), num_tokens, ended - started),
        **watch.between(started, ended),
    }


def ask_of(config: Config, load: Load, scale: Scale) -> Ask:
    """Return the request that is sent for each image of a load."""
    num_tokens, variants = load.num_tokens or scale.num_tokens, config.caption.num_variants
    temperature = config.caption.temperature
    if load.variants_by == "one_request":
        return Ask(1, variants, temperature, variants * num_tokens, None)
    return Ask(variants, 1, temperature, num_tokens, None)


def load_images(
    images: Sequence[Image.Image], load: Load, scale: Scale, number: int
) -> list[Image.Image]:
    """Return the images of a load, scaled to the image size of the load.

    All loads have different images, so no cache of the engine contains an image of this load.

    Args:
        images: the images of the archive.
        load: the load.
        scale: the sizes of the measurement.
        number: index of the load in its case.

    Raises:
        ValueError: there are too few images.
    """
    wanted = max(1, round(load.share * scale.num_images))
    if wanted > len(images):
        raise ValueError(f"{wanted} images are needed, but there are only {len(images)}")
    size = load.size_px or (scale.side_px, scale.side_px)
    found = []
    for image in images[:wanted]:
        sized = image.copy() if image.size == size else image.resize(size)
        # Change one pixel, so that every cache treats the image as a different image.
        sized.putpixel((0, 0), (number, 0, 0))
        found.append(sized)
    return found


def rates(num_images: int, num_tokens: int, span_s: float) -> dict[str, float]:
    """Return the number of images, the number of tokens, and both numbers per second."""
    return {
        "num_images": num_images,
        "num_tokens": num_tokens,
        "span_s": round(span_s, 3),
        "tokens_per_s": round(num_tokens / span_s, 1),
        "images_per_s": round(num_images / span_s, 3),
    }


class OfflineEngine:
    """vLLM's ``LLM`` with the same options as skytext's engine."""

    def __init__(self, config: Config) -> None:
        caption = config.caption
        model = caption_model(caption)
        set_environment(caption, model)
        from vllm import LLM
        from vllm.platforms import current_platform

        render = PromptRenderer(caption, model, prompt_of(caption))
        self.prompt = render(1)
        options = engine_options(caption.engine, model, device=current_platform.device_type)
        self._engine = LLM(**options)

    def generate(self, images: Sequence[Image.Image], **sampling: Any) -> list[Any]:
        """Return vLLM's ``RequestOutput`` for each image."""
        from vllm import SamplingParams

        params = SamplingParams(detokenize=False, **sampling)
        prompts = [{"prompt": self.prompt, "multi_modal_data": {"image": i}} for i in images]
        return list(self._engine.generate(prompts, params, use_tqdm=False))


def run_offline(
    config: Config, case: Case, scale: Scale, images: Sequence[Image.Image]
) -> dict[str, Any]:
    """Run each load with ``LLM.generate``. Return the results."""
    started = time.monotonic()
    engine = OfflineEngine(config)
    engine.generate([Image.new("RGB", (336, 336))] * 16, max_tokens=16, ignore_eos=True)
    start_s, loads = time.monotonic() - started, {}
    with GpuWatch() as watch:
        for number, load in enumerate(case.loads):
            asked, ask = load_images(images, load, scale, number), ask_of(config, load, scale)
            began = time.monotonic()
            outputs = engine.generate(
                asked,
                n=ask.num_samples,
                max_tokens=ask.max_tokens,
                temperature=ask.temperature,
                top_p=config.caption.top_p,
                ignore_eos=True,
            )
            ended = time.monotonic()
            num_tokens = sum(len(one.token_ids) for output in outputs for one in output.outputs)
            found = rates(len(asked), num_tokens, ended - began)
            loads[load.name] = found | watch.between(began, ended)
    return {"start_s": round(start_s, 1), "loads": loads}
