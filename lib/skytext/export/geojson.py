"""A GeoJSON FeatureCollection (RFC 7946), written feature by feature."""

from __future__ import annotations

from typing import Any, BinaryIO

from skytext.export.rows import COLUMNS, described, rows, to_line
from skytext.table.images import ImagesTable

Ring = list[list[float]]


def write_geojson(table: ImagesTable, out: BinaryIO) -> int:
    """Write one feature an image, one a line; an image without a bbox has null geometry."""
    out.write(b'{"type":"FeatureCollection","features":[\n')
    count = 0
    for row in rows(table, COLUMNS):
        out.write((b"," if count else b"") + to_line(feature(described(row))))
        count += 1
    out.write(b"]}\n")
    return count


def feature(image: dict[str, Any]) -> dict[str, Any]:
    """Return an image, as `described` returns it, as a GeoJSON feature."""
    box = image["bbox"]
    made: dict[str, Any] = {"type": "Feature", "id": image["image_id"]}
    if box is not None:
        made["bbox"] = box
    names = (name for name in image if name not in ("image_id", "bbox"))
    return made | {
        "geometry": None if box is None else geometry(*box),
        "properties": {name: image[name] for name in names},
    }


def geometry(west: float, south: float, east: float, north: float) -> dict[str, Any]:
    """Return a box as a polygon; one that crosses the antimeridian as two, cut there.

    A box without extent is a point. Rings run counter-clockwise.
    """
    if west == east and south == north:
        return {"type": "Point", "coordinates": [west, south]}
    if west <= east:
        return {"type": "Polygon", "coordinates": [_ring(west, south, east, north)]}
    # A part that has no width is the antimeridian itself, an edge of the other part.
    parts = [(west, 180.0)] if west < 180 else []
    parts += [(-180.0, east)] if east > -180 else []
    rings = [[_ring(first, south, last, north)] for first, last in parts]
    if len(rings) == 1:
        return {"type": "Polygon", "coordinates": rings[0]}
    return {"type": "MultiPolygon", "coordinates": rings}


def _ring(west: float, south: float, east: float, north: float) -> Ring:
    return [[west, south], [east, south], [east, north], [west, north], [west, south]]
