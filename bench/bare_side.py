"""Run the bare engine once, with all requests at the same time (for `bench.throughput`)."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from pathlib import Path

from PIL import Image

from skytext.archive import discover, read_shard
from skytext.captions.captioner import Ask
from skytext.cli.options import parse_settings
from skytext.config.settings import Config, load_config
from skytext.models.checkpoints import caption_model
from skytext.models.fingerprints import prompt_of
from skytext.models.vllm.engine import VllmEngine
from skytext.pixels.decode import decode_rgb, normalise


def read_images(archive: Path) -> list[Image.Image]:
    """Decode all images of an archive, and return them."""
    shards = discover([str(archive)])
    samples = (sample for shard in shards for sample in read_shard(shard))
    return [decode_rgb(normalise(sample.data).data) for sample in samples if sample.data]


async def measure(config: Config, images: list[Image.Image]) -> dict[str, float]:
    """Return the tokens/s of an engine that gets all requests at the same time."""
    caption = config.caption
    engine = VllmEngine(caption, caption_model(caption), prompt_of(caption))
    ask = Ask(caption.num_variants, 1, caption.temperature, caption.max_tokens, caption.seed)
    await engine.check()
    started = time.monotonic()
    generations = await asyncio.gather(*(engine.generate(image, ask) for image in images))
    span_s = time.monotonic() - started
    engine.close()
    tokens = sum(generation.num_output_tokens for generation in generations)
    return {
        "num_images": len(images),
        "num_tokens": tokens,
        "span_s": round(span_s, 2),
        "tokens_per_s": round(tokens / span_s, 1),
    }


if __name__ == "__main__":
    found = asyncio.run(
        measure(load_config(None, parse_settings(sys.argv[3:])), read_images(Path(sys.argv[1])))
    )
    print(json.dumps(found))
