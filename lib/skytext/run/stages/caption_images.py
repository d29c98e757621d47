"""Describe the images of a unit. Each actor runs one captioner.

INPUT    units of decoded `skytext.table.schema.SAMPLE` rows.
OUTPUT   units of `skytext.table.schema.CAPTIONED` rows, without the bytes of the images.
FAN-OUT  one input unit gives one output unit. The actor is asynchronous and processes several units
         at the same time. So the engine always has enough requests for a full batch.
ON ERROR an image becomes a failed row in three cases: the engine returned no valid variant, the
         engine rejected the image, or the image crashed the engine. If a captioner cannot start or
         fails permanently, the job ends.
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
"""Name of a column that this stage adds to a unit. The column contains a JSON string with the id of
the engine, the values ``span_s`` and ``idle_s`` of `skytext.captions.captioner.BusyClock`, and the
number of times that the engine has been restarted."""

PUT_OFF_COLUMN = "put_off"
"""Name of a column that this stage adds to a unit. The column contains the ids of the images that a
later pass of the run must process."""

_STOP_LOOK_S = 2.0


class _StoppedError(Exception):
    """The run is stopping, so an image that is waiting for the engine is not described."""


class CaptionUnits:
    """A stage with one captioner. All units of an actor share the captioner.

    The captioner starts when the first image arrives, so a run without images starts no captioner.
    The captioner ends when this object is deleted or closed.

    Args:
        config: the caption settings.
        images: the pixel settings. They are used only to compute the caption fingerprint.
        model: the checkpoint of the caption model.
        prompt: the caption prompt.
        stop: the stop flag of the run. After the flag is raised, the engine does not start to
            describe further images. These images get no row, and the next run describes them.
        location: the table. It may contain the description of an image with the same bytes, which
            an earlier run made. This description is then reused.
        ledger: the object that decides, for each content, which image is described; None if the run
            has a single engine.
        live_count: records that the engine starts, and counts the images that have a result; None
            if nothing must be recorded.
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
        # If the actor ends normally, Ray deletes this object, and the captioner is closed. If the
        # actor is killed, the processes of the engine detect this and exit.
        weakref.finalize(self, self._captioner.close)

    async def __call__(self, batch: pa.Table) -> pa.Table:
        """Describe the images of a unit; return the unit with the descriptions."""
        head, samples = unpack(batch)
        put_off: list[str] = []
        found = await asyncio.gather(*(self._counted(row, put_off) for row in samples.to_pylist()))
        rows = [row for row in found if row is not None]
        unit = pack(head, pa.Table.from_pylist(rows, schema=CAPTIONED))
        unit = unit.append_column(PUT_OFF_COLUMN, pa.array([put_off], pa.list_(pa.string())))
        return unit.append_column(ENGINE_COLUMN, pa.array([self._clock()], pa.string()))

    def close(self) -> None:
        """End the captioner and wait until it has ended.

        Any thread may call this method at any time. Units in progress then fail with a JobError.
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
        """Start the engine if it has not started, wait for it, and return its properties.

        Raises:
            _StoppedError: the run is stopping.
        """
        if await self._is_stopping():
            raise _StoppedError
        if self._captioner.info is not None:
            return self._captioner.info
        if self._live_count is not None:
            await self._live_count.begin()
        start = asyncio.ensure_future(self._captioner.start())
        while not (await asyncio.wait({start}, timeout=_STOP_LOOK_S))[0]:
            if await self._is_stopping():
                # Other images may also wait for the engine, so the start is not cancelled. If the
                # start fails later, read the error here. Otherwise asyncio would log that the error
                # was not handled.
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
    """Return the maximum number of images that are decoded and sent to the engine at the same time.

    These images give twice as many requests as the engine's batch size, so the next request is
    always ready. The other images of the units stay encoded. An encoded image needs about 2 % of
    the memory of a decoded image.
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
