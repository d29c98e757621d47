"""Boxes and hits as GeoJSON (RFC 7946), for QGIS and web maps."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

MEDIA_TYPE = "application/geo+json"


def feature_collection(answer: Mapping[str, Any]) -> dict[str, Any]:
    """Return the result of a search as a GeoJSON FeatureCollection. The best hit is first.

    Args:
        answer: the result, in the form that the service returns. The function uses the fields
            ``hits``, ``table_version`` and ``next_cursor``.
    """
    return {
        "type": "FeatureCollection",
        "features": [_feature(rank, hit) for rank, hit in enumerate(answer["hits"], start=1)],
        "table_version": answer["table_version"],
        "next_cursor": answer.get("next_cursor"),
    }


def _feature(rank: int, hit: Mapping[str, Any]) -> dict[str, Any]:
    box = hit["bbox"]
    feature: dict[str, Any] = {"type": "Feature", "id": hit["image_id"]}
    if box is not None:
        feature["bbox"] = list(box)
    feature["geometry"] = None if box is None else geometry(*box)
    feature["properties"] = {"rank": rank} | {k: v for k, v in hit.items() if k != "bbox"}
    return feature


def geometry(west: float, south: float, east: float, north: float) -> dict[str, Any]:
    """Return a box as a GeoJSON geometry.

    The geometry is usually a polygon. A box that crosses the antimeridian is cut there into two
    polygons. A box without width or without height becomes a line. If such a box crosses the
    antimeridian, it becomes two lines. A box without width and without height becomes a point. The
    rings of polygons are counter-clockwise.
    """
    if (west, east) == (180, -180):  # both numbers mean the antimeridian
        east = west
    if west == east and south == north:
        return {"type": "Point", "coordinates": [west, south]}
    # The antimeridian cuts the box into two parts. If one of them has no width, it is an edge of
    # the other part, so omit it.
    parts = [(west, 180.0)] if west < 180 else []
    parts += [(-180.0, east)] if east > -180 else []
    if west <= east:
        parts = [(west, east)]
    is_line = west == east or south == north
    kind = "LineString" if is_line else "Polygon"
    shapes: list[list[Any]] = [
        [[first, south], [last, north]] if is_line else [_ring(first, south, last, north)]
        for first, last in parts
    ]
    if len(shapes) == 1:
        return {"type": kind, "coordinates": shapes[0]}
    return {"type": f"Multi{kind}", "coordinates": shapes}


def _ring(west: float, south: float, east: float, north: float) -> list[list[float]]:
    return [[west, south], [east, south], [east, north], [west, north], [west, south]]
