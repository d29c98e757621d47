"""Describe the images of a unit. Each actor runs one captioner.

INPUT    units of decoded `skytext.table.schema.SAMPLE` rows.
OUTPUT   units of `skytext.table.schema.CAPTIONED` rows, without the bytes of the images.
FAN-OUT  one unit to one unit. The actor is asynchronous and processes several units at the same
         time. The engine's batch then contains requests of many units and stays full.
ON ERROR an image becomes a failed row if it has no valid variant, if the engine rejects it, or if
         it crashes the engine. If a captioner cannot start or fails permanently, the job ends.
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
"""Column added to a unit: a JSON string with the engine's id, ``span_s`` and ``idle_s`` of
`skytext.captions.captioner.BusyClock`, and the number of engine restarts until now."""

PUT_OFF_COLUMN = "put_off"
"""Column added to a unit: the ids of the images that the unit leaves to a later pass of the run."""

_STOP_LOOK_S = 2.0


class _StoppedError(Exception):
    """The run is stopping, so an image that waits for the engine is not described."""


class CaptionUnits:
    """One captioner, shared by all units of its actor.

    The captioner starts when the first image arrives, so a run without images starts no captioner.
    The captioner ends when this object is deleted or closed.

    Args:
        config: the caption settings.
        images: the pixel settings; they are part of the fingerprint.
        model: the checkpoint.
        prompt: the caption prompt.
        stop: the stop flag of the run. When the flag is raised, the units leave out all images that
            the engine has not started. These images get no row, so the next run describes them.
        location: the table. It may contain descriptions of identical bytes from earlier runs.
        ledger: decides which image is described for each content; None for a single engine.
        live_count: counts the images that have a result; None to count nothing.
        make_captioner: a function like `skytext.models.factory.make_captioner`.
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
        # Ray releases this object when the actor ends normally. If the actor is killed instead, the
        # processes of the engine detect this and exit.
        weakref.finalize(self, self._captioner.close)

    async def __call__(self, batch: pa.Table) -> pa.Table:
        """Return the unit with a description for each image."""
        head, samples = unpack(batch)
        put_off: list[str] = []
        found = await asyncio.gather(*(self._counted(row, put_off) for row in samples.to_pylist()))
        rows = [row for row in found if row is not None]
        unit = pack(head, pa.Table.from_pylist(rows, schema=CAPTIONED))
        unit = unit.append_column(PUT_OFF_COLUMN, pa.array([put_off], pa.list_(pa.string())))
        return unit.append_column(ENGINE_COLUMN, pa.array([self._clock()], pa.string()))

    def close(self) -> None:
        """End the captioner and wait until it has ended.

        Any thread may call this at any time. Units that are being processed fail with a JobError.
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
        """Wait until the engine has started; return the engine's properties.

        Raises:
            _StoppedError: the run is stopping.
        """
        if await self._is_stopping():
            raise _StoppedError
        if self._captioner.info is not None:
            return self._captioner.info
        start = asyncio.ensure_future(self._captioner.start())
        while not (await asyncio.wait({start}, timeout=_STOP_LOOK_S))[0]:
            if await self._is_stopping():
                # Other images may also wait for this start, so the start is not cancelled. Read its
                # later error here, or asyncio would log that nothing handled the error.
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
    """Return how many images may be decoded and sent to the engine at the same time.

    The number is twice the engine's batch size, so that the next image is always ready. The other
    images of the units stay encoded, which takes about a fiftieth of the memory.
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
