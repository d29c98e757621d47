"""Hits as GeoJSON (RFC 7946), for QGIS and web maps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

MEDIA_TYPE = "application/geo+json"


def feature_collection(answer: Mapping[str, Any]) -> dict[str, Any]:
    """Return a search's answer as a FeatureCollection, best hit first.

    Args:
        answer: with ``hits``, ``table_version`` and ``next_cursor``, as the service answers.
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
    feature["geometry"] = None if box is None else footprint(box)
    feature["properties"] = {"rank": rank} | {k: v for k, v in hit.items() if k != "bbox"}
    return feature


def footprint(box: Sequence[float]) -> dict[str, Any]:
    """Return a box as a Polygon, cut in two at the antimeridian (RFC 7946, 3.1.9).

    Args:
        box: west, south, east, north in degrees; west > east crosses the antimeridian.
    """
    west, south, east, north = box
    if west <= east:
        return {"type": "Polygon", "coordinates": [_ring(west, south, east, north)]}
    halves = [_ring(west, south, 180.0, north), _ring(-180.0, south, east, north)]
    return {"type": "MultiPolygon", "coordinates": [[ring] for ring in halves]}


def _ring(west: float, south: float, east: float, north: float) -> list[list[float]]:
    """Return the outline counter-clockwise, as an outer ring must be."""
    return [[west, south], [east, south], [east, north], [west, north], [west, south]]
