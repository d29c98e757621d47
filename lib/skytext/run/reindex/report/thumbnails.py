"""Make the small copies of images that a report shows."""

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
    """Return a small copy of an image as a WebP file.

    A report without images is still useful. So this function raises no error if the archive is not
    available.

    Returns:
        The WebP file and an empty string. If the image cannot be read, None and the reason.
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
        return None, f"the image cannot be shown: {' '.join(str(error).split())[:200]}"
    image.thumbnail((_SIDE_PX, _SIDE_PX), Image.Resampling.LANCZOS)
    encoded = io.BytesIO()
    image.save(encoded, "WEBP", quality=_QUALITY)
    return encoded.getvalue(), ""
