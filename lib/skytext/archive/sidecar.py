"""Parse the sidecars of an image into typed STAC fields and a JSON object with all other values.

A JSON sidecar is a STAC Item (https://github.com/radiantearth/stac-spec, Item specification 1.x),
or a JSON object with the keys ``datetime``, ``bbox``, ``gsd`` and ``collection`` at the top level.
If a GeoJSON Feature has no ``bbox``, the bounding box is computed from its geometry.

If a value cannot be used, the typed field is null. In this case, ``metadata`` still contains the
value, and ``metadata["_invalid"]`` contains the name of the field. If a sidecar cannot be parsed,
``metadata`` is ``{"_sidecar_error": …}``. In both cases the image does not fail.

The text in a sidecar, for example a caption that a person wrote, is stored only in ``metadata``.
Searches do not use this text. They use only the captions that the model wrote.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

from skytext.archive.shards import BBox, Metadata
from skytext.geo.bounds import bounding_box, wrap_longitudes

_MAX_DETAIL_CHARS = 200
_INVALID, _ERROR = "_invalid", "_sidecar_error"
_NAMES = ("datetime", "bbox", "geometry", "gsd", "collection")
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")


def parse_sidecar(
    json_data: bytes | None = None,
    txt_data: bytes | None = None,
    *,
    errors: tuple[str, ...] = (),
) -> Metadata:
    """Parse the sidecars of one image. Invalid content does not raise an error.

    Args:
        json_data: the content of the ``.json`` sidecar in UTF-8, UTF-16 or UTF-32.
        txt_data: the content of the ``.txt`` sidecar in UTF-8. Bytes that cannot be decoded are
            replaced. The text is stored under the key ``txt``. If the JSON already contains the key
            ``txt``, the text is stored under ``_txt``.
        errors: messages about sidecars that could not be read. They are added to
            ``_sidecar_error``.
    """
    item: dict[str, Any] = {}
    problems = list(errors)
    if json_data is not None:
        try:
            item = _parse_object(json_data)
        except (ValueError, RecursionError) as err:
            problems.append(" ".join(str(err).split())[:_MAX_DETAIL_CHARS])
    fields, rest = _typed_fields(item)
    if txt_data is not None:
        text = txt_data.decode("utf-8-sig", "replace")
        rest["_txt" if "txt" in rest else "txt"] = text
    if problems:
        rest[_ERROR] = "; ".join(problems)
    return Metadata(**fields, metadata=_dump(rest) if rest else None)


_ITEM_KEYS = ("stac_item", "stac", "json")


def parse_item(item: dict[str, Any], *, max_bytes: int | None = None) -> Metadata:
    """Parse an object with JSON values, such as the columns of a row. Never raise an error.

    The keys ``stac_item``, ``stac`` and ``json`` can contain an inner object. It is a STAC Item or
    an object with the keys of a STAC Item, and it can be an object or JSON text. If ``item`` itself
    has no value for a field, the value in the inner object is used.

    Args:
        item: the object. It is not changed.
        max_bytes: the maximum length of ``metadata`` in UTF-8 bytes. If ``metadata`` is longer, it
            is replaced by an error message. None means that there is no maximum.
    """
    fields, rest = _typed_fields(item)
    for key in _ITEM_KEYS:
        inner = _inner_item(rest.get(key))
        if inner is not None:
            more, inner_rest = _typed_fields(inner)
            if more.keys() & fields.keys():
                named = [name for name in inner_rest.get(_INVALID, ()) if name not in fields]
                inner_rest = {**inner, _INVALID: named} if named else inner
            rest[key] = inner_rest
            fields = {**more, **fields}
    kept = _dump(rest) if rest else None
    if kept is not None and max_bytes is not None and len(kept.encode()) > max_bytes:
        kept = _dump(
            {_ERROR: f"the metadata in the columns of this row have more than {max_bytes} bytes"}
        )
    return Metadata(**fields, metadata=kept)


def unusable_values(metadata: str | None) -> Iterator[tuple[str, str]]:
    """Yield the unusable values in an image's ``metadata``, as pairs of field name and value.

    For a sidecar that could not be read, the field name is ``sidecar`` and the value is the error.
    """
    if metadata is None or (_INVALID not in metadata and _ERROR not in metadata):
        return
    item = json.loads(metadata)
    if isinstance(item.get(_ERROR), str):
        yield "sidecar", item[_ERROR]
    for holder in (item, *(item.get(key) for key in _ITEM_KEYS)):
        names = holder.get(_INVALID) if isinstance(holder, dict) else None
        for name in names if isinstance(names, list) else ():
            if name in _NAMES:
                yield name, _shown(holder, name)


def _shown(item: dict[str, Any], name: str) -> str:
    inner, when = _places(item)
    key = when if name == "datetime" else name
    value = inner.get(key) if name in ("datetime", "gsd") else item.get(key)
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= _MAX_DETAIL_CHARS else f"{text[:_MAX_DETAIL_CHARS]}…"


def _inner_item(value: object) -> dict[str, Any] | None:
    if isinstance(value, str) and value.lstrip().startswith("{"):
        try:
            return _parse_object(value.encode("utf-8", "replace"))
        except (ValueError, RecursionError):
            return None
    return value if isinstance(value, dict) else None


def _parse_object(data: bytes) -> dict[str, Any]:
    # NaN and Infinity are not JSON numbers, and 1e999 is too large for a float. Keep them as text.
    item = json.loads(data, parse_constant=str, parse_float=_float_or_text)
    if not isinstance(item, dict):
        raise ValueError(f"expected a JSON object, but got a {type(item).__name__}")
    # The json module can read some deeply nested objects that it cannot write. Refuse such objects.
    json.dumps(item)
    return item


def _float_or_text(text: str) -> float | str:
    value = float(text)
    return value if math.isfinite(value) else text


def _dump(value: dict[str, Any]) -> str:
    text = json.dumps(value, sort_keys=True, ensure_ascii=False, allow_nan=False)
    return _valid_unicode(text)


def _valid_unicode(text: str) -> str:
    """Replace lone surrogates. JSON allows lone surrogates, but UTF-8 and Arrow do not."""
    return text.encode("utf-8", "replace").decode("utf-8")


def _typed_fields(item: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Split an object into the typed fields of :class:`Metadata` and a dict of all other values."""
    rest = dict(item)
    inner, when = _places(rest)
    if inner is not rest:
        inner = rest["properties"] = dict(inner)
    places = {
        "datetime": (inner, when, parse_datetime),
        "bbox": (rest, "bbox", parse_bbox),
        "gsd": (inner, "gsd", _parse_gsd),
        "collection": (rest, "collection", _parse_collection),
    }
    fields: dict[str, Any] = {}
    invalid = []
    for name, (holder, key, parse) in places.items():
        raw = holder.get(key)
        if raw is None:
            continue
        try:
            fields[name] = parse(raw)
        except (ValueError, OverflowError):
            invalid.append(name)
        else:
            if not (name == "bbox" and len(raw) == 6):  # a box of 6 numbers also contains heights
                del holder[key]
    if item.get("type") == "Feature" and item.get("bbox") is None and item.get("geometry"):
        try:
            fields["bbox"] = bounding_box(item["geometry"])
        except ValueError:
            invalid.append("geometry")
    if invalid:
        rest[_INVALID] = sorted(invalid)
    return fields, rest


def _places(item: dict[str, Any]) -> tuple[dict[str, Any], str]:
    """Return the object that contains the date and ``gsd``, and the key of the date.

    The key is ``datetime``, or ``start_datetime`` if ``datetime`` is missing or null.
    """
    properties = item.get("properties")
    is_inside = item.get("type") == "Feature" and isinstance(properties, dict)
    inner: dict[str, Any] = properties if is_inside else item  # type: ignore[assignment]
    return inner, "datetime" if inner.get("datetime") is not None else "start_datetime"


def parse_datetime(value: object) -> datetime:
    """Parse an RFC 3339 / ISO 8601 date and time, and convert it to UTC.

    A date and time without a time zone is read as UTC.

    Raises:
        ValueError: the value is not a string with an RFC 3339 / ISO 8601 date and time.
        OverflowError: the year in UTC is not between 1 and 9999.
    """
    if not isinstance(value, str):
        raise ValueError(f"{value!r} is not a date and time")
    moment = datetime.fromisoformat(value.strip().upper())  # RFC 3339 allows t and z
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


def parse_bbox(value: object) -> BBox:
    """Parse a bounding box of 4 or 6 numbers (RFC 7946, section 5) into west, south, east, north.

    If a longitude is not between -180 and 180, it is converted to this range. If west > east in the
    result, the box crosses the antimeridian.

    Raises:
        ValueError: the value is not a list of 4 or 6 finite numbers, or is not a valid box.
    """
    if not isinstance(value, (list, tuple)) or len(value) not in (4, 6):
        raise ValueError(f"{value!r} is not a list of 4 or 6 numbers")
    numbers = [_number(part) for part in value]
    half = len(numbers) // 2
    west, south, east, north = *numbers[:2], *numbers[half : half + 2]
    if not -90 <= south <= north <= 90:
        raise ValueError(f"latitudes must be -90 <= south <= north <= 90 (given: {value!r})")
    west, east = wrap_longitudes(west, east)
    return (west, south, east, north)


def _parse_gsd(value: object) -> float:
    number = _number(value)
    if number <= 0:
        raise ValueError(f"gsd must be positive (given: {value!r})")
    return number


def _parse_collection(value: object) -> str:
    if not isinstance(value, str) or not value:
        raise ValueError(f"{value!r} is not the id of a collection")
    return _valid_unicode(value)


def _number(value: object) -> float:
    if isinstance(value, str) and _NUMBER.fullmatch(value.strip()):
        value = float(value)
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise ValueError(f"{value!r} is not a number")
    number = float(value)
    if not math.isfinite(number):
        raise ValueError(f"{value!r} is not finite")
    return number
