"""Parse an image's sidecars: STAC fields become typed fields; the rest is kept as JSON.

A sidecar is a STAC Item (https://github.com/radiantearth/stac-spec, Item specification 1.x) or a
JSON object with the same top-level keys (``datetime``, ``bbox``, ``gsd``, ``collection``). A
Feature without a ``bbox`` gets the box of its geometry. An unusable value leaves its field null,
stays in ``metadata`` and is named in ``metadata["_invalid"]``. A sidecar that cannot be parsed
leaves ``{"_sidecar_error": …}``. Neither makes the image fail.

Text in a sidecar, such as captions by other people, is kept in ``metadata`` only. It is never
searched: search uses only the captions of the model.
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
    """Parse the sidecars of one image; never raises for bad content.

    Args:
        json_data: a ``.json`` sidecar in UTF-8, UTF-16 or UTF-32.
        txt_data: a ``.txt`` sidecar in UTF-8; undecodable bytes are replaced. Its text gets the
            key ``txt``, or ``_txt`` if the JSON already has ``txt``.
        errors: sentences on sidecars that were not read, for ``_sidecar_error``.
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
    """Parse an object of JSON values, such as the columns of a row; never raises.

    A STAC Item, or an object with the same keys, under ``stac_item``, ``stac`` or ``json`` (or
    its JSON text) fills the fields that the object's own keys leave empty.

    Args:
        item: the object; it is not changed.
        max_bytes: the remaining ``metadata`` is dropped if it is longer.
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
        kept = _dump({_ERROR: f"the other columns hold more than {max_bytes} bytes"})
    return Metadata(**fields, metadata=kept)


def unusable_values(metadata: str | None) -> Iterator[tuple[str, str]]:
    """Yield the unusable values of an image's ``metadata``: the field and its value.

    A sidecar that could not be read has the field name ``sidecar``.
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
    # NaN, Infinity and 1e999 are not JSON numbers; keep their text.
    item = json.loads(data, parse_constant=str, parse_float=_float_or_text)
    if not isinstance(item, dict):
        raise ValueError(f"not a JSON object but a {type(item).__name__}")
    # Nesting that json can parse but not write must fail here, not later.
    json.dumps(item)
    return item


def _float_or_text(text: str) -> float | str:
    value = float(text)
    return value if math.isfinite(value) else text


def _dump(value: dict[str, Any]) -> str:
    text = json.dumps(value, sort_keys=True, ensure_ascii=False, allow_nan=False)
    return _valid_unicode(text)


def _valid_unicode(text: str) -> str:
    """Replace lone surrogates: JSON allows them, UTF-8 (and so Arrow) does not."""
    return text.encode("utf-8", "replace").decode("utf-8")


def _typed_fields(item: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Split an object into the typed fields of :class:`Metadata` and a copy of the rest."""
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
            if not (name == "bbox" and len(raw) == 6):  # keep the heights
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
    """Return the object that holds ``datetime`` and ``gsd``, and the key of the first."""
    properties = item.get("properties")
    is_inside = item.get("type") == "Feature" and isinstance(properties, dict)
    inner: dict[str, Any] = properties if is_inside else item  # type: ignore[assignment]
    return inner, "datetime" if inner.get("datetime") is not None else "start_datetime"


def parse_datetime(value: object) -> datetime:
    """Parse an RFC 3339 / ISO 8601 date and time into UTC; without a zone it is taken as UTC.

    Raises:
        ValueError: not such a text.
        OverflowError: outside the years 1 to 9999 in UTC.
    """
    if not isinstance(value, str):
        raise ValueError(f"not a date and time: {value!r}")
    moment = datetime.fromisoformat(value.strip().upper())  # RFC 3339 allows t and z
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


def parse_bbox(value: object) -> BBox:
    """Parse a bounding box of 4 or 6 numbers (RFC 7946, section 5) into west, south, east, north.

    Longitudes beyond 180 are wrapped. West > east is valid: the box crosses the antimeridian.

    Raises:
        ValueError: not such a list, or not on the globe.
    """
    if not isinstance(value, (list, tuple)) or len(value) not in (4, 6):
        raise ValueError(f"not a list of 4 or 6 numbers: {value!r}")
    numbers = [_number(part) for part in value]
    half = len(numbers) // 2
    west, south, east, north = *numbers[:2], *numbers[half : half + 2]
    if not -90 <= south <= north <= 90:
        raise ValueError(f"latitudes must be -90 <= south <= north <= 90: {value!r}")
    west, east = wrap_longitudes(west, east)
    return (west, south, east, north)


def _parse_gsd(value: object) -> float:
    number = _number(value)
    if number <= 0:
        raise ValueError(f"gsd must be positive: {value!r}")
    return number


def _parse_collection(value: object) -> str:
    if not isinstance(value, str) or not value:
        raise ValueError(f"not a collection's id: {value!r}")
    return _valid_unicode(value)


def _number(value: object) -> float:
    if isinstance(value, str) and _NUMBER.fullmatch(value.strip()):
        value = float(value)
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise ValueError(f"not a number: {value!r}")
    number = float(value)
    if not math.isfinite(number):
        raise ValueError(f"not finite: {value!r}")
    return number
