"""What a hit tells of its image, as one text in one column: ``hit``.

A search fetches few rows from anywhere in the table, and Lance pays for each column of each of
them, structs and lists by their leaves. Thirteen small columns of ten rows take 4.5 ms, one column
of the same 0.6 ms, for an eighth more on disk (docs/benchmarks.md).
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import pyarrow as pa
from pydantic_core import from_json, to_json

from skytext.captions.parsing import FIELDS

_COLUMNS = ("image_id", "uri", "captions", "datetime", "bbox", "gsd", "collection")


class HitRow(NamedTuple):
    """What a hit tells of its image.

    Attributes:
        image_id: the image.
        uri: where it lies.
        captions: of each variant its `skytext.captions.parsing.FIELDS`, in that order.
        datetime: when it was taken, or None.
        bbox: west, south, east, north in degrees, or None.
        gsd: metres, or None.
        collection: or None.
    """

    image_id: str
    uri: str
    captions: list[list[str]]
    datetime: dt.datetime | None
    bbox: tuple[float, float, float, float] | None
    gsd: float | None
    collection: str | None


def hit_texts(rows: pa.Table) -> pa.Array:
    """Return the column ``hit`` of rows of the table; null where an image is not described.

    Args:
        rows: with the columns that a hit tells of.
    """
    texts = [_text(row) for row in rows.select(_COLUMNS).to_pylist()]
    return pa.array(texts, pa.string())


def read_hits(texts: Iterable[str]) -> Iterator[HitRow]:
    """Read what `hit_texts` made of rows that are done."""
    for text in texts:
        image_id, uri, captions, taken, box, gsd, collection = from_json(text)
        yield HitRow(
            image_id,
            uri,
            captions,
            None if taken is None else dt.datetime.fromisoformat(taken),
            None if box is None else (box[0], box[1], box[2], box[3]),
            gsd,
            collection,
        )


def _text(row: dict[str, Any]) -> str | None:
    if row["captions"] is None:
        return None
    box = row["bbox"]
    told = HitRow(
        image_id=row["image_id"],
        uri=row["uri"],
        captions=[[variant[name] for name in FIELDS] for variant in row["captions"]],
        datetime=row["datetime"],
        bbox=None if box is None else (box["west"], box["south"], box["east"], box["north"]),
        gsd=row["gsd"],
        collection=row["collection"],
    )
    return to_json(tuple(told), inf_nan_mode="constants").decode()
