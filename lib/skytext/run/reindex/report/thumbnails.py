"""Small pictures of some images of a table, for a report."""

from __future__ import annotations

import io
from collections.abc import Mapping
from functools import partial
from typing import Any

from PIL import Image

from skytext.archive import fetch_row
from skytext.archive.shards import ReadOptions
from skytext.config.settings import Config
from skytext.errors import SkytextError
from skytext.pixels.decode import ImageLimits, decode_rgb, normalise
from skytext.table.location import TableLocation
from skytext.table.shards.moved_images import moved_row

COLUMNS = (
    "uri",
    "member",
    "byte_offset",
    "byte_length",
    "row_group",
    "row",
    "shard_etag",
    "image_id",
    "archive",
    "shard",
    "content_sha256",
)
"""The columns that `thumbnail` needs."""
_SIDE_PX = 320
_QUALITY = 70
_RETRY_S = 5.0


def thumbnail(
    row: Mapping[str, Any], location: TableLocation, config: Config
) -> tuple[bytes | None, str]:
    """Return an image as a small WebP file, or None and the reason.

    A report is useful without pictures, so an unavailable archive must not make it fail.
    """
    options = ReadOptions(config.sources.image_column, min(config.sources.retry_s, _RETRY_S))
    limits = ImageLimits(
        max_pixels=config.images.max_pixels,
        min_side_px=1,
        max_side_px=2 * _SIDE_PX,
        bands=config.images.bands,
    )
    try:
        data = fetch_row(row, options, partial(moved_row, location))
        image = decode_rgb(normalise(data, limits).data)
    except (OSError, SkytextError) as error:
        return None, f"no picture: {' '.join(str(error).split())[:200]}"
    image.thumbnail((_SIDE_PX, _SIDE_PX), Image.Resampling.LANCZOS)
    encoded = io.BytesIO()
    image.save(encoded, "WEBP", quality=_QUALITY)
    return encoded.getvalue(), ""
