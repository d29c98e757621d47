"""Describe the images of a unit: one captioner per actor.

INPUT    units of decoded `skytext.table.schema.SAMPLE` rows.
OUTPUT   units of `skytext.table.schema.CAPTIONED` rows, without the images' bytes.
FAN-OUT  one unit to one unit. The actor is asynchronous and works on several units at once, so
         requests of many units share the engine's batch, which stays full.
ON ERROR an image becomes a failed row if it has no good variant, if the engine rejects it, or if it
         crashes the engine. A captioner that cannot start, or fails permanently, ends the job.
"""

from __future__ import annotations

import asyncio
import json
import math
import weakref
from functools import partial
from typing import Any

import pyarrow as pa
import ray

from skytext.captions.captioner import Description, EngineInfo
from skytext.captions.parsing import Variant, search_text
from skytext.captions.prompts import Prompt
from skytext.config.captioning import CaptionConfig
from skytext.config.pixels import ImageConfig
from skytext.errors import SampleError
from skytext.models.checkpoints import ModelIdentity
from skytext.models.factory import CaptionerFactory, make_captioner
from skytext.models.fingerprints import caption_fingerprint
from skytext.pixels.decode import decode_rgb
from skytext.run.control.content_ledger import Ledger, Words
from skytext.run.control.live_count import LiveCount
from skytext.run.control.stop_flag import StopFlag
from skytext.run.stages.reuse_captions import Duplicates, PutOffError
from skytext.run.units import failure_row, pack, unpack
from skytext.table.location import TableLocation
from skytext.table.schema import CAPTIONED, STATUS_FAILED, STATUS_OK

ENGINE_COLUMN = "engine_clock"
"""Column beside a unit: the engine's id, span, idle seconds and restarts so far, as JSON."""

PUT_OFF_COLUMN = "put_off"
"""Column beside a unit: the images left out of it for a later pass of the run."""

_STOP_LOOK_S = 2.0


class _StoppedError(Exception):
    """The run stops, so an image that waited for the engine is not described."""


class CaptionUnits:
    """One captioner, shared by all units of its actor.

    It starts with the first image, so a run without work starts none. It ends with this object, or
    at `close`.

    Args:
        config: the caption settings.
        images: pixel settings, part of the fingerprint.
        model: the checkpoint.
        prompt: the caption prompt.
        stop: once raised, images that the engine has not started are left out of their units. They
            have no row and are new in the next run.
        location: the table, which may have earlier descriptions of identical bytes.
        ledger: decides which image describes which content; None for a single engine.
        live_count: counts the images with a result; None for no count.
        make_captioner: like `skytext.models.factory.make_captioner`.
    """

    def __init__(
        self,
        config: CaptionConfig,
        images: ImageConfig,
        model: ModelIdentity,
        prompt: Prompt,
        stop: StopFlag | None = None,
        location: TableLocation | None = None,
        ledger: Ledger | None = None,
        live_count: LiveCount | None = None,
        make_captioner: CaptionerFactory = make_captioner,
    ) -> None:
        self._stop = stop
        self._live_count = live_count
        self._lineage = {
            "caption_fingerprint": caption_fingerprint(config, images, model, prompt),
            "caption_model": model.name,
            "caption_model_revision": model.revision,
            "prompt_id": prompt.prompt_id,
        }
        fingerprint = self._lineage["caption_fingerprint"]
        self._duplicates = Duplicates(location, fingerprint, ledger)
        self._admitted = asyncio.Semaphore(max_images_in_flight(config))
        self._captioner = make_captioner(config, model, prompt)
        # Ray releases this object when the actor ends normally. If the actor is killed, the
        # engine's processes detect that themselves.
        weakref.finalize(self, self._captioner.close)

    async def __call__(self, batch: pa.Table) -> pa.Table:
        """Return the unit with its images described."""
        head, samples = unpack(batch)
        put_off: list[str] = []
        found = await asyncio.gather(*(self._counted(row, put_off) for row in samples.to_pylist()))
        rows = [row for row in found if row is not None]
        unit = pack(head, pa.Table.from_pylist(rows, schema=CAPTIONED))
        unit = unit.append_column(PUT_OFF_COLUMN, pa.array([put_off], pa.list_(pa.string())))
        return unit.append_column(ENGINE_COLUMN, pa.array([self._clock()], pa.string()))

    def close(self) -> None:
        """End the captioner and wait until it has ended; from any thread, at any time.

        Units in work fail with a JobError.
        """
        self._captioner.close()

    async def _counted(self, row: dict[str, Any], put_off: list[str]) -> dict[str, Any] | None:
        result = await self._row(row, put_off)
        if result is not None and self._live_count is not None:
            await self._live_count.add()
        return result

    async def _row(self, row: dict[str, Any], put_off: list[str]) -> dict[str, Any] | None:
        data = row.pop("data")
        failure = row.pop("failure")
        if failure is not None:
            return row | {"status": STATUS_FAILED, "failure": failure}
        try:
            describe = partial(self._describe, data, row["image_id"])
            words = await self._duplicates.describe(
                row["content_sha256"], row["image_id"], describe
            )
        except _StoppedError:
            return None
        except PutOffError:
            put_off.append(row["image_id"])
            return None
        except SampleError as error:
            failed = {"status": STATUS_FAILED, "failure": failure_row(error)}
            return row | self._made_by(self._captioner.info) | failed
        return row | self._made_by(words.made_by) | _caption_columns(words.description)

    async def _started(self) -> EngineInfo:
        """Return the engine's properties once it is up.

        Raises:
            _StoppedError: the run stops, and the engine is not up yet.
        """
        if await self._is_stopping():
            raise _StoppedError
        if self._captioner.info is not None:
            return self._captioner.info
        start = asyncio.ensure_future(self._captioner.start())
        while not (await asyncio.wait({start}, timeout=_STOP_LOOK_S))[0]:
            if await self._is_stopping():
                # Other images may wait for it too, so a later error of it is not this image's.
                start.add_done_callback(lambda done: done.cancelled() or done.exception())
                raise _StoppedError
        return start.result()

    async def _describe(self, data: bytes, image_id: str) -> Words:
        made_by = await self._started()
        async with self._admitted:
            if await self._is_stopping():
                raise _StoppedError
            image = await asyncio.to_thread(decode_rgb, data)
            return Words(await self._captioner.describe(image, image_id), made_by)

    async def _is_stopping(self) -> bool:
        return self._stop is not None and await asyncio.to_thread(self._stop.is_raised)

    def _made_by(self, info: EngineInfo | None) -> dict[str, Any]:
        return self._lineage | {
            "engine_version": info and info.engine_version,
            "caption_device": info and info.device,
            "caption_precision": info and info.precision,
        }

    def _clock(self) -> str | None:
        if self._captioner.info is None:
            return None
        clock = self._captioner.clock
        return json.dumps(
            {
                "engine": ray.get_runtime_context().get_actor_id(),
                "span_s": clock.span_s,
                "idle_s": clock.idle_s,
                "restarts": self._captioner.num_restarts,
            }
        )


def max_images_in_flight(config: CaptionConfig) -> int:
    """Return how many images are decoded and in the engine at once.

    This is twice the engine's batch: the next image is always ready. Other images of the units stay
    encoded, at a fiftieth of the size.
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
