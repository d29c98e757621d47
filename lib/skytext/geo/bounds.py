"""Normalise the longitudes of boxes, and compute the bounding box of a geometry, in degrees."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

MAX_LONGITUDE = 540
"""Maximum absolute value of a longitude, in degrees. A larger value is probably in metres."""

_ROUNDING = 1e-9

Bounds = tuple[float, float, float, float]
"""West, south, east, north, in degrees. If west > east, the box crosses the antimeridian."""


class _Part(NamedTuple):
    """The extent of a line or ring. ``west`` is from -180 to 180. ``east`` may be above 180."""

    west: float
    south: float
    east: float
    north: float


def wrap_longitudes(west: float, east: float) -> tuple[float, float]:
    """Convert the west and the east side of a box to the range from -180 to 180.

    If both sides are in this range, they are not changed.

    Raises:
        ValueError: the absolute value of a side is larger than `MAX_LONGITUDE`.
    """
    if max(abs(west), abs(east)) > MAX_LONGITUDE:
        raise ValueError(f"these are not longitudes in degrees: {west!r}, {east!r}")
    if abs(west) <= 180 and abs(east) <= 180:
        return west, east
    if east - west >= 360 - _ROUNDING:
        return -180.0, 180.0
    return _turned(west), east - 360 * math.ceil((east - 180) / 360)


def bounding_box(geometry: Mapping[str, Any]) -> Bounds:
    """Return the smallest box around a GeoJSON geometry (RFC 7946), in degrees.

    If the longitudes of two consecutive positions differ by more than 180 and less than 360
    degrees, the line between them crosses the antimeridian. If a ring goes around a pole, the box
    contains this pole.

    Raises:
        ValueError: the value is not a GeoJSON geometry, the geometry is empty, or a latitude or
            longitude is out of range.
    """
    try:
        parts = [_part(line) for line in _lines(geometry)]
    except (LookupError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(f"not a GeoJSON geometry: {error}") from error
    if not parts:
        raise ValueError("the geometry is empty")
    south, north = min(part.south for part in parts), max(part.north for part in parts)
    if not -90 <= south <= north <= 90:
        raise ValueError(f"latitudes must be between -90 and 90 (given: {south!r}, {north!r})")
    west, east = _around([(part.west, part.east) for part in parts])
    return west, south, east, north


def _lines(geometry: Mapping[str, Any]) -> Iterator[Sequence[Sequence[float]]]:
    """Yield one list of positions for each point, line and ring of a geometry."""
    kind = geometry["type"]
    if kind == "GeometryCollection":
        for inner in geometry["geometries"]:
            yield from _lines(inner)
        return
    coordinates = geometry["coordinates"]
    if kind == "Point":
        yield from [[coordinates]] if coordinates else []
    elif kind == "MultiPoint":
        yield from ([position] for position in coordinates)
    elif kind == "LineString":
        yield from [coordinates] if coordinates else []
    elif kind in ("Polygon", "MultiLineString"):
        yield from coordinates
    elif kind == "MultiPolygon":
        yield from (ring for polygon in coordinates for ring in polygon)
    else:
        raise LookupError(f"its type is {kind!r}")


def _part(line: Sequence[Sequence[float]]) -> _Part:
    longitudes = [float(position[0]) for position in line]
    latitudes = [float(position[1]) for position in line]
    if not all(map(math.isfinite, [*longitudes, *latitudes])):
        raise LookupError("a coordinate is not finite")
    if max(map(abs, longitudes)) > MAX_LONGITUDE:
        raise ValueError(f"a longitude is not between -{MAX_LONGITUDE} and {MAX_LONGITUDE} degrees")
    south, north = min(latitudes), max(latitudes)
    unrolled = unroll(longitudes)
    if unrolled[-1] != longitudes[-1] and longitudes[0] == longitudes[-1]:
        south, north = (south, 90.0) if south + north > 0 else (-90.0, north)
        return _Part(-180.0, south, 180.0, north)
    west, east = min(unrolled), max(unrolled)
    return _Part(_turned(west), south, east - (west - _turned(west)), north)


def unroll(longitudes: Sequence[float]) -> list[float]:
    """Return the longitudes of a line, changed so that they do not jump at the antimeridian.

    The returned longitudes may be above 180 or below -180.

    If two consecutive longitudes differ by more than 180 and less than 360 degrees, the line
    crosses the antimeridian between them.
    """
    shift, unrolled = 0, list(longitudes[:1])
    for before, longitude in itertools.pairwise(longitudes):
        if 180 < abs(longitude - before) < 360:
            shift -= int(math.copysign(360, longitude - before))
        unrolled.append(longitude + shift)
    return unrolled


def _around(arcs: Sequence[tuple[float, float]]) -> tuple[float, float]:
    """Return the shortest arc that contains all given arcs.

    An arc is a range of longitudes. The result is the full circle without the widest gap between
    the given arcs.
    """
    widest, first = 0.0, None
    reach = max(east for _, east in arcs) - 360
    for west, east in sorted(arcs):
        if west - reach > widest + _ROUNDING:
            widest, first = west - reach, west
        reach = max(reach, east)
    if first is None:
        return -180.0, 180.0
    last = max(arcs, key=lambda arc: (arc[0] - first) % 360 + arc[1] - arc[0])[1]
    return wrap_longitudes(first, last)


def _turned(longitude: float) -> float:
    """Convert a longitude to the range from -180 (included) to 180 (excluded)."""
    return longitude - 360 * math.floor((longitude + 180) / 360)
