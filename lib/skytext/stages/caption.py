"""Describe the images of a unit: one vLLM engine an actor.

INPUT    units of `skytext.schema.SAMPLE` rows as decoded.
OUTPUT   units of `skytext.schema.CAPTIONED` rows, without the images' bytes.
FAN-OUT  one unit to one unit. Several units are in work at once (the actor is asynchronous and
         concurrent), so requests of many units share the engine's batch and it does not drain
         between them.
ON ERROR an image without a good variant, or that the engine refuses, becomes a failed row; an
         engine that cannot start or dies ends the job.
"""

from __future__ import annotations

import asyncio
import json
import math
from typing import Any

import pyarrow as pa
import ray

from skytext.captions import Variant, search_text
from skytext.config import CaptionConfig, ImageConfig
from skytext.errors import SampleError
from skytext.images import decode_rgb
from skytext.models.captioner import Captioner, Description
from skytext.models.factory import make_captioner
from skytext.models.identity import ModelIdentity, caption_fingerprint
from skytext.prompts import Prompt
from skytext.schema import CAPTIONED, STATUS_FAILED, STATUS_OK
from skytext.stages.read import failure_row
from skytext.stages.units import pack, unpack

ENGINE_COLUMN = "engine_clock"
"""Beside a unit: the engine's id, span and idle seconds so far, as JSON."""


class CaptionUnits:
    """One engine, shared by all the units that its actor works on.

    The engine starts with the first image: a run that finds nothing to do starts none.

    Args:
        config: what to run and how.
        images: pixel settings, part of the fingerprint.
        model: the checkpoint.
        prompt: what is asked.
    """

    def __init__(
        self, config: CaptionConfig, images: ImageConfig, model: ModelIdentity, prompt: Prompt
    ) -> None:
        self._config = config
        self._model = model
        self._prompt = prompt
        self._lineage = {
            "caption_fingerprint": caption_fingerprint(config, images, model, prompt),
            "caption_model": model.name,
            "caption_model_revision": model.revision,
            "prompt_id": prompt.prompt_id,
        }
        self._captioner: Captioner | None = None
        self._admitted = asyncio.Semaphore(max_images_in_flight(config))
        self._starting = asyncio.Lock()

    async def __call__(self, batch: pa.Table) -> pa.Table:
        """Return the unit with its images described."""
        head, samples = unpack(batch)
        rows = await asyncio.gather(*(self._row(row) for row in samples.to_pylist()))
        unit = pack(head, pa.Table.from_pylist(list(rows), schema=CAPTIONED))
        return unit.append_column(ENGINE_COLUMN, pa.array([self._clock()], pa.string()))

    async def _row(self, row: dict[str, Any]) -> dict[str, Any]:
        data = row.pop("data")
        failure = row.pop("failure")
        if failure is not None:
            return row | {"status": STATUS_FAILED, "failure": failure}
        captioner = await self._start()
        try:
            async with self._admitted:
                image = await asyncio.to_thread(decode_rgb, data)
                description = await captioner.describe(image, row["image_id"])
        except SampleError as error:
            failed = {"status": STATUS_FAILED, "failure": failure_row(error)}
            return row | self._made_by(captioner) | failed
        return row | self._made_by(captioner) | _caption_columns(description)

    async def _start(self) -> Captioner:
        async with self._starting:
            if self._captioner is None:
                # Blocks the loop on purpose: until the engine is there, no unit can go on anyway.
                captioner = make_captioner(self._config, self._model, self._prompt)
                await captioner.engine.check()
                self._captioner = captioner
            return self._captioner

    def _made_by(self, captioner: Captioner) -> dict[str, Any]:
        info = captioner.engine.info
        return self._lineage | {
            "engine_version": info.engine_version,
            "caption_device": info.device,
            "caption_precision": info.precision,
        }

    def _clock(self) -> str | None:
        if self._captioner is None:
            return None
        clock = self._captioner.clock
        actor = ray.get_runtime_context().get_actor_id()
        return json.dumps({"engine": actor, "span_s": clock.span_s, "idle_s": clock.idle_s})


def max_images_in_flight(config: CaptionConfig) -> int:
    """Return how many images are decoded and in the engine's hands at once.

    Twice what its batch holds: it always finds the next one waiting, and the rest of the units in
    work waits encoded, a fiftieth of the size.
    """
    samples = config.num_variants if config.variants_by == "samples" else 1
    return max(1, math.ceil(2 * config.engine.max_num_seqs / samples))


def _caption_columns(description: Description) -> dict[str, Any]:
    variants = description.variants
    return {
        "status": STATUS_OK,
        "failure": None,
        "captions": [_variant_row(variant) for variant in variants],
        "num_variants": len(variants),
        "text": search_text(variants),
        "caption_attempts": description.attempts,
        "num_prompt_tokens": description.num_prompt_tokens,
        "num_cached_tokens": description.num_cached_tokens,
        "num_output_tokens": description.num_output_tokens,
    }


def _variant_row(variant: Variant) -> dict[str, str]:
    return {name: getattr(variant, name) for name in Variant.__slots__}
