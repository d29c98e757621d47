"""Make units of samples for each stage, without Ray."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from skytext.archive.shards import image_id
from skytext.config.captioning import CaptionConfig
from skytext.config.embedding import EmbedConfig
from skytext.config.pixels import ImageConfig
from skytext.models.checkpoints import caption_model, embed_model
from skytext.models.factory import CaptionerFactory, make_captioner
from skytext.models.fingerprints import prompt_of
from skytext.run.stages.caption_images import CaptionUnits
from skytext.run.stages.embed_text import EmbedUnits
from skytext.run.units import UnitHead, pack
from skytext.table.schema import SAMPLE
from tests.archives import jpeg

HEAD = UnitHead("unit-0", "aerial", "a.tar", 7, 2, 12345)
REFUSED = {"stage": "decode", "reason": "empty", "detail": "it has 0 bytes", "attempts": 1}


def sample(member: str, data: bytes | None, **more: Any) -> dict[str, Any]:
    row = dict.fromkeys(SAMPLE.names) | {
        "image_id": image_id("aerial", "a.tar", member, 0),
        "archive": "aerial",
        "shard": "a.tar",
        "member": member,
        "uri": f"file:///x/a.tar#{member}",
        "content_sha256": None if data is None else hashlib.sha256(data).hexdigest(),
        "data": data,
    }
    return row | more


def good(count: int, first: int = 0) -> list[dict[str, Any]]:
    return [sample(f"{i}.jpg", jpeg(i)) for i in range(first, first + count)]


def bad(member: str = "bad.jpg") -> dict[str, Any]:
    return sample(member, None, failure=REFUSED)


def unit(rows: Sequence[dict[str, Any]], head: UnitHead = HEAD) -> pa.Table:
    return pack(head, pa.Table.from_pylist(list(rows), schema=SAMPLE))


def rows_of(batch: pa.Table) -> list[dict[str, Any]]:
    return list(batch.column("samples")[0].as_py())


def captioner(
    model: str = "fake", make_captioner: CaptionerFactory = make_captioner, **settings: Any
) -> CaptionUnits:
    config = CaptionConfig(model=model, **settings)
    return CaptionUnits(
        config,
        ImageConfig(),
        caption_model(config),
        prompt_of(config),
        make_captioner=make_captioner,
    )


def caption(batch: pa.Table, model: str = "fake", **settings: Any) -> pa.Table:
    return asyncio.run(captioner(model, **settings)(batch))


def embedder() -> EmbedUnits:
    config = EmbedConfig(model="fake")
    return EmbedUnits(config, embed_model(config))
