from __future__ import annotations

from typing import Any

import pytest

from skytext_client.geojson import geometry


@pytest.mark.parametrize(
    ("box", "kind"),
    [
        ((4, 51, 5, 52), "Polygon"),
        ((4, 51, 4, 52), "LineString"),
        ((4, 51, 5, 51), "LineString"),
        ((170, 5, -170, 5), "MultiLineString"),
        ((180, 5, -170, 5), "LineString"),
        ((4, 51, 4, 51), "Point"),
        ((170, -20, -170, -10), "MultiPolygon"),
        ((180, -20, -170, -10), "Polygon"),
        ((170, -20, -180, -10), "Polygon"),
        ((180, 0, -180, 1), "LineString"),
        ((180, 0, -180, 0), "Point"),
        ((-180, -90, 180, 90), "Polygon"),
    ],
)
def test_a_box_has_the_shape_of_its_footprint(box: Any, kind: str) -> None:
    west, south, east, north = box
    shape = geometry(*box)
    assert shape["type"] == kind
    points = {tuple(point) for point in _points(shape["coordinates"])}
    assert {y for _, y in points} == {south, north}
    assert {west % 360, east % 360} <= {x % 360 for x, _ in points}
    for ring in _rings(shape):
        assert ring[0] == ring[-1]
        assert len({tuple(point) for point in ring}) == 4


def _points(node: Any) -> list[Any]:
    if isinstance(node[0], list):
        return [point for item in node for point in _points(item)]
    return [node]


def _rings(shape: dict[str, Any]) -> list[Any]:
    if "Polygon" not in shape["type"]:
        return []
    parts = shape["coordinates"] if shape["type"] == "MultiPolygon" else [shape["coordinates"]]
    return [ring for part in parts for ring in part]


@pytest.mark.parametrize(
    ("box", "lines"),
    [
        ((4, 51, 4, 52), [[4, 51], [4, 52]]),
        ((180, 0, -180, 1), [[180, 0], [180, 1]]),
        ((170, 5, -170, 5), [[[170, 5], [180, 5]], [[-180, 5], [-170, 5]]]),
        ((-180, 5, 180, 5), [[-180, 5], [180, 5]]),
    ],
)
def test_a_box_without_width_or_height_is_a_line(box: Any, lines: Any) -> None:
    assert geometry(*box)["coordinates"] == lines
