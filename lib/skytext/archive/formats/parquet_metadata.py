"""What the other columns of a Parquet row say of its image.

They are read like a JSON sidecar with a key for each column; nulls are left out. Where a column
``stac_item``, ``stac`` or ``json`` holds a STAC Item or an object of the same keys, as a struct or
as JSON text, it fills what the row's own columns leave open. Captions in text columns are
metadata, as those in sidecars are: they never become text of ours.
"""

from __future__ import annotations

import base64
import math
from collections.abc import Iterator
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import pyarrow as pa

from skytext.archive.formats.parquet_columns import Columns
from skytext.archive.shards import Metadata
from skytext.archive.sidecar import parse_item

_CORNERS = (("xmin", "ymin", "xmax", "ymax"), ("west", "south", "east", "north"))


def said_rows(batch: pa.RecordBatch, columns: Columns) -> Iterator[dict[str, Any]]:
    """Yield what each row of a batch says, as values of JSON."""
    named = [(name, _values(batch.column(name))) for name in columns.said]
    for row in range(len(batch)):
        said = {name: _jsonable(values[row]) for name, values in named}
        yield {name: value for name, value in said.items() if value is not None}


def row_metadata(said: dict[str, Any], max_bytes: int) -> Metadata:
    """Return what a row says as the metadata of its image; never raises for what it says.

    Args:
        said: the row, from `said_rows`.
        max_bytes: a longer rest is not kept.
    """
    bbox = said.get("bbox")
    if isinstance(bbox, dict):
        for corners in _CORNERS:
            if all(corner in bbox for corner in corners):
                said = {**said, "bbox": [bbox[corner] for corner in corners]}
    return parse_item(said, max_bytes=max_bytes)


def _values(column: pa.Array) -> list[Any]:
    if pa.types.is_timestamp(column.type):
        # Python's datetime knows no nanoseconds.
        column = column.cast(pa.timestamp("us", column.type.tz), safe=False)
    if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
        texts = column.cast(pa.large_binary()).to_pylist()
        return [None if text is None else text.decode("utf-8", "replace") for text in texts]
    try:
        return column.to_pylist()  # type: ignore[no-any-return]
    except (ValueError, TypeError, OverflowError):
        return [_value(cell) for cell in column]


def _value(cell: pa.Scalar) -> Any:
    try:
        return cell.as_py()
    except (ValueError, TypeError, OverflowError) as err:
        return f"cannot be read: {err}"


def _jsonable(value: Any) -> Any:
    """Turn a value of Arrow's into one of JSON's."""
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, float):
        # NaN is how tables say that there is nothing; infinities are no JSON.
        return None if math.isnan(value) else value if math.isfinite(value) else str(value)
    if isinstance(value, dict):
        return {str(key): _jsonable(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_jsonable(inner) for inner in value]
    if isinstance(value, (datetime, date, time)):
        return value.isoformat()
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, (Decimal, UUID)):
        return str(value)
    if isinstance(value, (bytes, bytearray)):
        return base64.b64encode(value).decode()
    return str(value)
