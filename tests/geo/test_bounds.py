from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skytext.geo.bounds import Bounds, bounding_box, wrap_longitudes
from skytext_client.geojson import geometry


@pytest.mark.parametrize(
    ("given_sides", "wrapped"),
    [
        ((-180, 180), (-180, 180)),
        ((170, -170), (170, -170)),
        ((-190, -170), (170, -170)),
        ((-190.5, -185.25), (169.5, 174.75)),
        ((-200, -180), (160, 180)),
        ((170, 190), (170, -170)),
        ((180, 190), (-180, -170)),
        ((190, 200), (-170, -160)),
        ((350, 10), (-10, 10)),
        ((350, 370), (-10, 10)),
        ((-181, 1), (179, 1)),
        ((0, 360), (-180, 180)),
        ((-180.05, 180.05), (-180, 180)),
        ((-180.1, 179.9), (-180, 180)),
    ],
)
def test_longitudes_beyond_180_are_wrapped(
    given_sides: tuple[float, float], wrapped: tuple[float, float]
) -> None:
    assert wrap_longitudes(*given_sides) == pytest.approx(wrapped, abs=1e-12)


def test_metres_are_rejected_as_longitudes() -> None:
    with pytest.raises(ValueError, match="not longitudes"):
        wrap_longitudes(500_000, 500_100)


def ring(west: float, south: float, east: float, north: float) -> list[list[float]]:
    return [[west, south], [east, south], [east, north], [west, north], [west, south]]


def polygon(*box: float) -> dict[str, Any]:
    return {"type": "Polygon", "coordinates": [ring(*box)]}


def multi_polygon(*boxes: tuple[float, float, float, float]) -> dict[str, Any]:
    return {"type": "MultiPolygon", "coordinates": [[ring(*box)] for box in boxes]}


@pytest.mark.parametrize(
    ("shape", "box"),
    [
        ({"type": "Point", "coordinates": [7.5, 50.25, 300]}, (7.5, 50.25, 7.5, 50.25)),
        ({"type": "Point", "coordinates": [190, 5]}, (-170, 5, -170, 5)),
        ({"type": "LineString", "coordinates": [[1, 2], [3, -4], [2, 0]]}, (1, -4, 3, 2)),
        ({"type": "LineString", "coordinates": [[179, 2], [-179, 3]]}, (179, 2, -179, 3)),
        ({"type": "MultiPoint", "coordinates": [[10, 0], [20, 1]]}, (10, 0, 20, 1)),
        ({"type": "MultiPoint", "coordinates": [[170, 0], [-170, 1]]}, (170, 0, -170, 1)),
        (polygon(10.1, 20, 10.3, 21), (10.1, 20, 10.3, 21)),
        (polygon(-120, 0, 100, 1), (100, 0, -120, 1)),
        (polygon(-180, -90, 180, 90), (-180, -90, 180, 90)),
        (polygon(170, -20, 190, -10), (170, -20, -170, -10)),
        (polygon(-190, -20, -170, -10), (170, -20, -170, -10)),
        (polygon(179, -20, -179, -10), (179, -20, -179, -10)),
        (multi_polygon((177, -20, 180, -16), (-180, -19, -179, -15)), (177, -20, -179, -15)),
        (multi_polygon((-10, 0, -5, 1), (5, 0, 10, 1)), (-10, 0, 10, 1)),
        (multi_polygon((-10, 0, 10, 1), (-5, 0, 5, 1)), (-10, 0, 10, 1)),
        (multi_polygon((170, 0, 205, 1), (-170, 0, -160, 1)), (170, 0, -155, 1)),
        (
            {
                "type": "Polygon",
                "coordinates": [[[0, 80], [90, 70], [180, 80], [-90, 75], [0, 80]]],
            },
            (-180, 70, 180, 90),
        ),
        (
            {
                "type": "Polygon",
                "coordinates": [[[0, -80], [90, -70], [179, -80], [-91, -75], [0, -80]]],
            },
            (-180, -90, 180, -70),
        ),
        (
            {
                "type": "GeometryCollection",
                "geometries": [polygon(1, 1, 2, 2), {"type": "Point", "coordinates": [5, 0]}],
            },
            (1, 0, 5, 2),
        ),
    ],
)
def test_a_geometry_has_a_box_around_it(shape: dict[str, Any], box: Bounds) -> None:
    assert bounding_box(shape) == box


@pytest.mark.parametrize(
    "shape",
    [
        {},
        {"type": "Circle", "coordinates": [0, 0]},
        {"type": "Point"},
        {"type": "Point", "coordinates": []},
        {"type": "Point", "coordinates": ["x", 0]},
        {"type": "Point", "coordinates": [1]},
        {"type": "Point", "coordinates": [math.nan, 0]},
        {"type": "Point", "coordinates": [0, 91]},
        {"type": "Point", "coordinates": {"x": 1}},
        {"type": "Polygon", "coordinates": []},
        {"type": "Polygon", "coordinates": [[]]},
        {"type": "Polygon", "coordinates": None},
        {"type": "GeometryCollection", "geometries": [None]},
        {"type": "GeometryCollection", "geometries": 5},
        polygon(500_000, 5, 500_100, 6),
        polygon(600, 5, 601, 6),
    ],
)
def test_an_invalid_geometry_has_no_box(shape: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"."):
        bounding_box(shape)


def test_a_geometry_in_very_many_others_has_no_box() -> None:
    shape: dict[str, Any] = {"type": "Point", "coordinates": [0, 0]}
    for _ in range(5000):
        shape = {"type": "GeometryCollection", "geometries": [shape]}
    with pytest.raises(ValueError, match="not a GeoJSON geometry"):
        bounding_box(shape)


SIDES = st.integers(-1800, 1799).map(lambda tenth: tenth / 10)


@given(SIDES, st.integers(1, 1790).map(lambda tenth: tenth / 10))
def test_the_box_of_a_box_drawn_as_geojson_is_the_box(west: float, width: float) -> None:
    west, east = wrap_longitudes(west, west + width)
    assert bounding_box(geometry(west, -10.0, east, 10.0)) == (west, -10.0, east, 10.0)
