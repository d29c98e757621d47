"""Convert the columns of a Parquet row, except the image column, to metadata about the image.

The row is parsed like a JSON sidecar. Each column that is not null is one key. A column
``stac_item``, ``stac`` or ``json`` can contain a STAC Item or an object with the keys of a STAC
Item. It can be a struct or JSON text. A value in this object is used if the other columns of the
row have no value for the field. If there is a geometry column, the bounding box is computed from
the geometry. A caption in a string column is stored only as metadata, as in a sidecar. Searches do
not use this caption.
"""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Iterator
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import numpy as np
import pyarrow as pa

from skytext.archive.formats.parquet_columns import Columns, is_list, is_text
from skytext.archive.shards import Metadata
from skytext.archive.sidecar import parse_item
from skytext.geo.bounds import bounding_box

_ANY = pa.null()
_SHORT_FLOATS = {pa.float16(): np.float16, pa.float32(): np.float32}
_CORNERS = (("xmin", "ymin", "xmax", "ymax"), ("west", "south", "east", "north"))


def metadata_rows(batch: pa.RecordBatch, columns: Columns) -> Iterator[dict[str, Any]]:
    """Yield the metadata of each row in a batch, as JSON values."""
    named = [(name, *_values(batch.column(name))) for name in columns.metadata_names]
    boxes = _boxes(batch, columns)
    for row in range(len(batch)):
        row_values = {name: _jsonable(values[row], kind) for name, values, kind in named}
        if boxes:
            row_values["bbox"] = boxes[row]
        yield {name: value for name, value in row_values.items() if value is not None}


def row_metadata(row_values: dict[str, Any], max_bytes: int) -> Metadata:
    """Convert the values of a row to metadata. Invalid values do not raise an error.

    Args:
        row_values: the row, from `metadata_rows`.
        max_bytes: the maximum length of ``metadata`` in UTF-8 bytes. If ``metadata`` is longer, it
            is replaced by an error message.
    """
    bbox = row_values.get("bbox")
    if isinstance(bbox, dict):
        for corners in _CORNERS:
            if all(corner in bbox for corner in corners):
                row_values = {**row_values, "bbox": [bbox[corner] for corner in corners]}
    return parse_item(row_values, max_bytes=max_bytes)


def _boxes(batch: pa.RecordBatch, columns: Columns) -> list[list[float] | str | None]:
    """Return for each row the bounding box of its geometry, or the reason why there is no box.

    The list is empty if the file has no geometry column. The reason is stored as the value of
    ``bbox``. So the reason is later counted and reported as an unusable box.
    """
    if columns.geometry is None:
        return []
    if columns.other_crs is not None:
        problem = f"the geometry is in {columns.other_crs}, not in longitude and latitude"
        return [problem if cell.is_valid else None for cell in batch.column(columns.geometry)]
    return [_box(wkb) for wkb in batch.column(columns.geometry).to_pylist()]


def _box(wkb: bytes | None) -> list[float] | str | None:
    import shapely

    if not wkb:
        return None
    try:
        geometry = shapely.from_wkb(wkb)
        if geometry.is_empty:
            return None
        srid = int(shapely.get_srid(geometry))
        if srid not in (0, 4326):
            return f"the geometry has the SRID {srid}, not 4326"
        return list(bounding_box(json.loads(shapely.to_geojson(geometry))))
    except (shapely.errors.ShapelyError, ValueError) as error:
        return f"the geometry cannot be used: {error}"


def _values(column: pa.Array) -> tuple[list[Any], pa.DataType]:
    """Return the values of a column, and their type."""
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    if pa.types.is_timestamp(column.type):
        # A datetime in Python has no nanoseconds, so convert to microseconds. This machine may have
        # no data about the time zone, so convert to UTC.
        unit = "us" if column.type.unit == "ns" else column.type.unit
        column = column.cast(pa.timestamp(unit, column.type.tz and "UTC"), safe=False)
    if is_text(column.type):
        texts = column.cast(pa.large_binary()).to_pylist()
        decoded = [None if text is None else text.decode("utf-8", "replace") for text in texts]
        return decoded, column.type
    try:
        return column.to_pylist(), column.type
    except (ValueError, TypeError, OverflowError):
        return [_value(cell) for cell in column], column.type


def _value(cell: pa.Scalar) -> Any:
    try:
        return cell.as_py()
    except (ValueError, TypeError, OverflowError) as err:
        return f"cannot be read: {err}"


def _jsonable(value: Any, kind: pa.DataType) -> Any:
    """Convert the Python value of an Arrow cell to a JSON value.

    Args:
        value: the Python value.
        kind: the Arrow type of the value. It is the null type if the type is not known.
    """
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, float):
        # Tables often use NaN for missing values, so convert NaN to null. JSON has no infinities,
        # so convert them to text.
        if not math.isfinite(value):
            return None if math.isnan(value) else str(value)
        # For a float32, use the shortest decimal number: 0.3 instead of 0.30000001192092896.
        short = _SHORT_FLOATS.get(kind)
        return value if short is None else float(str(short(value)))
    if isinstance(value, Decimal):
        return int(value) if value == value.to_integral_value() else float(value)
    if isinstance(value, dict):
        return {
            str(key): _jsonable(inner, kind.field(key).type if pa.types.is_struct(kind) else _ANY)
            for key, inner in value.items()
        }
    if isinstance(value, (list, tuple)):
        inner_kind = kind.value_type if is_list(kind) else _ANY
        return [_jsonable(inner, inner_kind) for inner in value]
    if isinstance(value, (datetime, date, time)):
        return value.isoformat()
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, UUID):
        return str(value)
    if isinstance(value, (bytes, bytearray)):
        return base64.b64encode(value).decode()
    return str(value)
