"""Test how geometries of filters are read and compared with boxes, and test the error messages."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from skytext.errors import ConfigError
from skytext.geo.shapes import Shape, parse_geometry, read_geometry

TRIANGLE = {"type": "Polygon", "coordinates": [[[0, 0], [10, 0], [0, 10], [0, 0]]]}
HOLED = {
    "type": "Polygon",
    "coordinates": [
        [[170, 0], [-170, 0], [-170, 20], [170, 20], [170, 0]],
        [[-175, 5], [-174, 5], [-174, 15], [-175, 15], [-175, 5]],
    ],
}
CUT = {
    "type": "MultiPolygon",
    "coordinates": [
        [[[170, 0], [180, 0], [180, 5], [170, 0]]],
        [[[-180, 0], [-170, 0], [-180, 5], [-180, 0]]],
    ],
}
JUMPING = {"type": "Polygon", "coordinates": [[[170, 0], [-170, 0], [180, 5], [170, 0]]]}
BEYOND = {"type": "Polygon", "coordinates": [[[170, 0], [190, 0], [180, 5], [170, 0]]]}
BEFORE = {"type": "Polygon", "coordinates": [[[-190, 0], [-170, 0], [-180, 5], [-190, 0]]]}
LINE = {"type": "LineString", "coordinates": [[0, 0], [10, 10]]}


def met(geometry: dict[str, Any], *boxes: tuple[float, float, float, float]) -> list[bool]:
    sides = np.array(boxes, float).T
    return list(map(bool, Shape.of_geojson(geometry).intersects(*sides)))


def held(geometry: dict[str, Any], *boxes: tuple[float, float, float, float]) -> list[bool]:
    sides = np.array(boxes, float).T
    return list(map(bool, Shape.of_geojson(geometry).contains(*sides)))


def test_a_box_in_an_empty_corner_does_not_intersect_a_triangle() -> None:
    boxes = [(8, 8, 9, 9), (1, 1, 2, 2), (5, 5, 9, 9), (5.1, 5.1, 9, 9), (-1, -1, 0, 0)]
    assert met(TRIANGLE, *boxes) == [False, True, True, False, True]
    assert held(TRIANGLE, *boxes) == [False, True, False, False, False]


def test_points_and_lines_count_as_footprints() -> None:
    boxes = [(1, 1, 1, 1), (9, 9, 9, 9), (1, 1, 3, 1), (1, 9, 5, 9), (5, 5, 5, 5)]
    assert met(TRIANGLE, *boxes) == [True, False, True, True, True]
    assert held(TRIANGLE, *boxes) == [True, False, True, False, False]


def test_a_line_intersects_the_boxes_that_it_crosses() -> None:
    assert met(LINE, (4, 4, 5, 5), (4, 6, 5, 7), (5, 5, 5, 5)) == [True, False, True]


@pytest.mark.parametrize("geometry", [CUT, JUMPING, BEYOND, BEFORE])
def test_a_polygon_across_the_antimeridian_is_found_from_both_sides(
    geometry: dict[str, Any],
) -> None:
    boxes = [
        (178, 1, 179, 2),
        (-179, 1, -178, 2),
        (179, 3, -179, 4),
        (171, 4, 172, 5),
        (-172, 4, -171, 5),
        (0, 0, 1, 1),
        (100, 4.9, -100, 6),
        (180, 1, 180, 2),
        (-180, 1, -180, 2),
        (-150, 1, 150, 2),
    ]
    meets = [True, True, True, False, False, False, True, True, True, False]
    inside = [True, True, True, False, False, False, False, True, True, False]
    assert met(geometry, *boxes) == meets
    assert held(geometry, *boxes) == inside


def test_a_hole_belongs_to_its_polygon_across_the_antimeridian() -> None:
    boxes = [(-174.9, 6, -174.1, 7), (-176, 6, -175, 7), (176, 6, 177, 7), (0, 6, 1, 7)]
    assert met(HOLED, *boxes) == [False, True, True, False]


def test_a_box_at_longitude_180_touches_the_other_side() -> None:
    west = {"type": "Polygon", "coordinates": [[[170, 0], [180, 0], [180, 5], [170, 0]]]}
    assert met(west, (-180, 1, -179, 2), (-179.9, 1, -179, 2)) == [True, False]


def test_a_polygon_that_is_a_box_is_known_as_one() -> None:
    ring = [[170, 0], [190, 0], [190, 5], [180, 5], [170, 5], [170, 0]]
    assert Shape.of_geojson({"type": "Polygon", "coordinates": [ring]}).box == (170, 0, -170, 5)
    assert Shape.of_geojson({"type": "Point", "coordinates": [4, 51]}).box == (4, 51, 4, 51)
    world = [[-180, -90], [180, -90], [180, 90], [-180, 90], [-180, -90]]
    whole = Shape.of_geojson({"type": "Polygon", "coordinates": [world]})
    assert whole.box == (-180, -90, 180, 90)
    for geometry in (TRIANGLE, HOLED, CUT, LINE):
        assert Shape.of_geojson(geometry).box is None


def test_a_geometry_comes_from_text_or_from_a_file(tmp_path: Path) -> None:
    feature = {"type": "Feature", "properties": {}, "geometry": TRIANGLE}
    other = {"type": "Polygon", "coordinates": [[[20, 0], [30, 0], [20, 10], [20, 0]]]}
    features = [feature, {"type": "Feature", "properties": None, "geometry": other}]
    collection = {"type": "FeatureCollection", "features": features}
    file = tmp_path / "area.geojson"
    for geometry in (TRIANGLE, feature):
        file.write_text(json.dumps(geometry))
        assert read_geometry(str(file)) == TRIANGLE
        assert read_geometry(json.dumps(geometry)) == TRIANGLE
    both = read_geometry(json.dumps(collection))
    assert both["type"] == "MultiPolygon"
    assert met(both, (1, 1, 2, 2), (8, 8, 9, 9), (21, 1, 22, 2)) == [True, False, True]
    (tmp_path / "area.wkt").write_text("POLYGON ((0 0, 10 0, 0 10, 0 0))\n")
    for text in (str(tmp_path / "area.wkt"), "polygon z((0 0 1, 10 0 1, 0 10 1, 0 0 1))"):
        assert read_geometry(text) == TRIANGLE


def test_polygons_side_by_side_count_as_one() -> None:
    squares = [
        [[[x, y], [x + 1, y], [x + 1, y + 1], [x, y + 1], [x, y]]] for x in (0, 1) for y in (0, 1)
    ]
    grid = {"type": "MultiPolygon", "coordinates": squares}
    assert held(grid, (0.5, 0.5, 1.5, 1.5), (0, 0, 2, 2), (1.5, 1.5, 2.5, 1.9)) == [
        True,
        True,
        False,
    ]
    band = [[-180, -60], [180, -60], [180, 80], [-180, 70], [-180, -60]]
    world = {"type": "Polygon", "coordinates": [band]}
    assert held(world, (179, 0, -179, 1), (179, 71, -179, 72), (178, 71, 179, 72)) == [
        True,
        False,
        True,
    ]
    both = [
        [[[-190, 0], [-175, 0], [-175, 9], [-190, 0]]],
        [[[176, 0], [178, 0], [178, 9], [176, 0]]],
    ]
    for parts in ([squares[0], squares[0]], [squares[0]] * 1_500, both):
        with pytest.raises(ConfigError, match="the polygons overlap: merge them"):
            Shape.of_geojson({"type": "MultiPolygon", "coordinates": parts})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "not JSON"),
        ("{}", "the type of a geometry must be one of"),
        ("[" * 100_000, "neither GeoJSON nor WKT|cannot read"),
        ('{"a":' * 100_000, "not JSON"),
        ('{"type": "FeatureCollection", "features": []}', "no features"),
        ('{"type": "Feature", "geometry": null}', "must be an object"),
        ('{"type": "GeometryCollection", "geometries": []}', "one of Point"),
        ("POLYGON((0 0, 1 1", "neither GeoJSON nor WKT"),
        ("POLYGON EMPTY", "a list that is not empty|neither"),
        ("GEOMETRYCOLLECTION(" * 9_000 + ")" * 9_000, "collection of geometries"),
        ("POLYGON((" + "(" * 9_000, "collection of geometries"),
        ("POLYGON((0 0, 2 2, 2 0, 0 2, 0 0))", r"wrong at coordinates: .* not valid: Self-inter"),
        ("POLYGON((0 60, 120 60, -120 60, 0 60))", "around a pole"),
        ("LINESTRING(0 0, 170 0, -20 0, 160 0, -10 0)", "around the globe more than once"),
        ("POINT(0 91)", "latitudes must be"),
        ("POINT(500000 5)", "longitudes must be degrees"),
        ('{"type": "Point", "coordinates": [true, 1]}', "two finite numbers"),
        ('{"type": "Point", "coordinates": [1e999, 1]}', "two finite numbers"),
    ],
    ids=lambda text: text[:30],
)
def test_an_invalid_geometry_is_rejected(text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as raised:
        parse_geometry(text)
    assert "\n" not in str(raised.value)
    assert len(str(raised.value)) < 400


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"cannot read the file .*missing\.json.*No such file"):
        read_geometry(str(tmp_path / "missing.json"))
    (tmp_path / "picture").write_bytes(b"\xff\xd8\xff")
    with pytest.raises(ConfigError, match="not a text file"):
        read_geometry(str(tmp_path / "picture"))
