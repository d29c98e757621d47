"""Collect the answers of the engine for an archive, without structured output and without retries.

See `bench.demo_marks`.
"""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

from PIL import Image

from bench.bare_side import read_images
from skytext.captions.captioner import Ask, Engine
from skytext.config.settings import Config, load_config
from skytext.models.checkpoints import caption_model
from skytext.models.fingerprints import prompt_of
from skytext.models.vllm.engine import VllmEngine


async def answers(engine: Engine, image: Image.Image, ask: Ask) -> list[dict[str, Any]]:
    """Return the text and the finish reason of each sample."""
    found = (await engine.generate(image, ask)).answers
    return [{"text": answer.text, "finish_reason": answer.finish_reason} for answer in found]


async def collect(config: Config, images: list[Image.Image]) -> list[dict[str, Any]]:
    """Return the greedy answer and the sampled answers of each image, in the same order."""
    caption = config.caption
    engine = VllmEngine(caption, caption_model(caption), prompt_of(caption))
    asks = {
        "greedy": Ask(1, 1, 0.0, caption.max_tokens, None),
        "sampled": Ask(caption.num_variants, 1, caption.temperature, caption.max_tokens, None),
    }
    await engine.check()
    found: dict[str, list[Any]] = {}
    for name, ask in asks.items():
        found[name] = await asyncio.gather(*(answers(engine, image, ask) for image in images))
    engine.close()
    return [{name: found[name][index] for name in asks} for index in range(len(images))]


if __name__ == "__main__":
    settings = load_config(None, {"caption.structured_output": False})
    collected = asyncio.run(collect(settings, read_images(Path(sys.argv[1]))))
    Path(sys.argv[2]).write_text(json.dumps(collected), encoding="utf-8")
