"""Convert an image of a table to a JSON object."""

from __future__ import annotations

import datetime as dt
import json
import math
from collections.abc import Iterator, Sequence
from typing import Any

from skytext.captions.parsing import FIELDS
from skytext.table.images_dataset import ImagesTable
from skytext.table.rows.scan import done_batches

COLUMNS = (
    "image_id",
    "archive",
    "shard",
    "member",
    "uri",
    "datetime",
    "bbox",
    "gsd",
    "collection",
    "metadata",
    "width_px",
    "height_px",
    "captions",
    "caption_model",
)
"""The columns of the table that `described` needs."""


def rows(table: ImagesTable, columns: Sequence[str]) -> Iterator[dict[str, Any]]:
    """Yield the described images as dictionaries."""
    for batch in done_batches(table, columns):
        yield from batch.to_pylist()


def variants(row: dict[str, Any]) -> list[dict[str, str]]:
    """Return the descriptions of a row. Each description is a dictionary with three texts."""
    return [{name: caption[name] for name in FIELDS} for caption in row["captions"]]


def described(row: dict[str, Any]) -> dict[str, Any]:
    """Return the fields of an image as JSON values.

    ``bbox`` is the list [west, south, east, north] in degrees. ``datetime`` is an ISO 8601 string
    in UTC.
    """
    taken: dt.datetime | None = row["datetime"]
    metadata = row["metadata"]
    return {
        "image_id": row["image_id"],
        "archive": row["archive"],
        "shard": row["shard"],
        "member": row["member"],
        "uri": row["uri"],
        "datetime": None if taken is None else taken.isoformat().replace("+00:00", "Z"),
        "bbox": bbox(row["bbox"]),
        "gsd": finite(row["gsd"]),
        "collection": row["collection"],
        "metadata": None if metadata is None else json.loads(metadata),
        "width_px": row["width_px"],
        "height_px": row["height_px"],
        "captions": variants(row),
        "caption_model": row["caption_model"],
    }


def bbox(value: dict[str, float | None] | None) -> list[float] | None:
    """Return [west, south, east, north] in degrees, or None if one of these numbers is missing."""
    if value is None:
        return None
    sides = [finite(value[side]) for side in ("west", "south", "east", "north")]
    known = [side for side in sides if side is not None]
    return known if len(known) == len(sides) else None


def finite(value: float | None) -> float | None:
    """Return a number, or None if the number is NaN or infinite (JSON has no such numbers)."""
    return value if value is not None and math.isfinite(value) else None


def to_line(value: Any) -> bytes:
    """Return a value as one line of JSON in UTF-8."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return text.encode() + b"\n"
