"""Parse geometries for search filters, and compare footprints with a geometry.

Edges are straight lines in longitude and latitude. There are three ways to write a geometry that
crosses the antimeridian. It can be split at the antimeridian (RFC 7946). Its longitudes can
continue beyond 180 degrees. Or its longitudes can jump from 180 to -180 degrees.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray
from shapely.geometry.base import BaseGeometry

from skytext.errors import ConfigError
from skytext.geo.bounds import MAX_LONGITUDE, Bounds, bounding_box, unroll

MAX_POSITIONS = 100_000
_PAIRS_A_POLYGON = 50
_MAX_FILE_BYTES = 16 * 1024**2
_LEVELS = {
    "Point": 0,
    "MultiPoint": 1,
    "LineString": 1,
    "MultiLineString": 2,
    "Polygon": 2,
    "MultiPolygon": 3,
}
"""For each GeoJSON type, the number of nested lists around a position."""
_PARTS = {"Multi" + name: name for name in ("Point", "LineString", "Polygon")}
_EXAMPLE = '{"type": "Polygon", "coordinates": [[[4, 51], [5, 51], [5, 52], [4, 51]]]}'

Booleans = NDArray[np.bool_]
Floats = NDArray[np.float64]


class PlaceError(ConfigError):
    """An error in one part of a GeoJSON object.

    Attributes:
        place: path of the faulty part in the GeoJSON object, as keys and indexes.
    """

    def __init__(self, message: str, place: tuple[str | int, ...] = ()) -> None:
        super().__init__(message)
        self.place = place

    def whole(self) -> ConfigError:
        """Return an error whose message contains the path of the faulty part."""
        place = ".".join(map(str, self.place))
        return ConfigError(f"the geometry is wrong{place and f' at {place}'}: {self}")


@dataclass(frozen=True, slots=True)
class Shape:
    """A geometry that is prepared for fast comparisons with many boxes.

    Attributes:
        geometry: three copies of the geometry, shifted by -360, 0 and 360 degrees. The copies are
            needed for boxes that cross the antimeridian.
        box: the bounding box if the geometry is a box or a point; None for all other geometries.
    """

    geometry: BaseGeometry
    box: Bounds | None

    @classmethod
    def of_geojson(cls, value: Mapping[str, Any]) -> Shape:
        """Parse a GeoJSON geometry.

        Raises:
            PlaceError: the value is not a GeoJSON geometry, a latitude or longitude is out of
                range, or the geometry crosses itself.
        """
        parts = list(_parts(check_geojson(value)))
        whole = _three_times(parts)
        shapely.prepare(whole)
        first = parts[0]
        is_box = len(parts) == 1 and (
            isinstance(first, shapely.Point) or shapely.equals(first, shapely.box(*first.bounds))
        )
        return cls(whole, bounding_box(value) if is_box else None)

    def intersects(self, west: Floats, south: Floats, east: Floats, north: Floats) -> Booleans:
        """Return whether each box intersects the geometry. The result has the shape (boxes,).

        Args:
            west: shape (boxes,), degrees. If the value for a box is larger than the value in
                ``east``, the box crosses the antimeridian.
            south: shape (boxes,), degrees.
            east: shape (boxes,), degrees.
            north: shape (boxes,), degrees.
        """
        found: Booleans = shapely.intersects(self.geometry, _boxes(west, south, east, north))
        return found

    def contains(self, west: Floats, south: Floats, east: Floats, north: Floats) -> Booleans:
        """Return whether each box is within the geometry. The arguments are as in `intersects`."""
        found: Booleans = shapely.within(_boxes(west, south, east, north), self.geometry)
        return found


def read_geometry(text: str) -> dict[str, Any]:
    """Parse a geometry in GeoJSON or WKT, or read it from a file in one of these formats.

    Args:
        text: GeoJSON, WKT or the name of a file. It is parsed as GeoJSON if it starts with ``{``.
            It is parsed as WKT if it starts with a word and ``(``. In all other cases, it is the
            name of a file.

    Raises:
        ConfigError: the file cannot be read, or the geometry is not valid.
    """
    is_text = re.match(r"\s*(?:\{|[A-Za-z]+\s*(?:[Zz]\s*)?\()", text) is not None
    return parse_geometry(text if is_text else _read_file(Path(text)))


def parse_geometry(text: str) -> dict[str, Any]:
    """Parse a geometry in GeoJSON or WKT.

    For a Feature, the geometry of the Feature is returned. For a FeatureCollection, one geometry is
    returned that combines the geometries of all features.

    Raises:
        ConfigError: the text is not valid GeoJSON or WKT, or the geometry is not valid.
    """
    try:
        found = _geojson_of(text.strip())
        Shape.of_geojson(found)
    except PlaceError as error:
        raise error.whole() from error
    return found


def check_geojson(value: object) -> dict[str, Any]:
    """Check a GeoJSON geometry, and return a copy of it without heights.

    Raises:
        PlaceError: the value is not a geometry.
    """
    if not isinstance(value, Mapping):
        raise PlaceError(f"a GeoJSON geometry must be an object. Write, for example, {_EXAMPLE}")
    kind = value.get("type")
    if not isinstance(kind, str) or kind not in _LEVELS:
        raise PlaceError(
            f"the type of a geometry must be one of {', '.join(_LEVELS)} (given: {kind!r:.60})",
            ("type",),
        )
    unknown = sorted(map(str, set(value) - {"type", "coordinates", "bbox"}))
    if unknown:
        raise PlaceError(
            f"the field {unknown[0]!r:.60} is not allowed in a geometry: remove this field",
            (unknown[0],),
        )
    count = [0]
    checked = _checked(value.get("coordinates"), _LEVELS[kind], ("coordinates",), count)
    return {"type": kind, "coordinates": checked}


def _checked(value: object, level: int, place: tuple[str | int, ...], count: list[int]) -> Any:
    """Check coordinates, and return a copy that has only longitude and latitude in each position.

    Args:
        value: the coordinates.
        level: number of nested lists around a position.
        place: path of ``value`` in the GeoJSON object, as keys and indexes. It is used in messages.
        count: a list that contains one number, the number of positions that were already checked.
            The function increases this number.
    """
    if not isinstance(value, (list, tuple)) or not value:
        raise PlaceError("expected a list that is not empty", place)
    if level:
        return [_checked(one, level - 1, (*place, i), count) for i, one in enumerate(value)]
    count[0] += 1
    if count[0] > MAX_POSITIONS:
        raise PlaceError(f"a geometry may have at most {MAX_POSITIONS:,} positions", place)
    if not 2 <= len(value) <= 4 or not all(map(_is_finite, value)):
        raise PlaceError(
            "a position must be a longitude and a latitude, as two finite numbers", place
        )
    longitude, latitude = float(value[0]), float(value[1])
    if not -90 <= latitude <= 90:
        raise PlaceError(
            f"latitudes must be between -90 and 90, but one latitude is {latitude:g}", place
        )
    if abs(longitude) > MAX_LONGITUDE:
        raise PlaceError(f"longitudes must be degrees, but one longitude is {longitude:g}", place)
    return [longitude, latitude]


def _is_finite(value: object) -> bool:
    try:
        return type(value) in (int, float) and math.isfinite(value)  # type: ignore[arg-type]
    except OverflowError:
        return False


def _three_times(parts: list[BaseGeometry]) -> BaseGeometry:
    """Combine parts of one type to one geometry that contains three copies of each part.

    The copies are shifted by -360, 0 and 360 degrees. Polygons that overlap are rejected, because
    merging polygons with 2,000 positions may take 20 s.
    """
    copies = [_turned(part, by) for by in (-360, 0, 360) for part in parts]
    if not isinstance(parts[0], shapely.Polygon):
        is_line = isinstance(parts[0], shapely.LineString)
        return shapely.MultiLineString(copies) if is_line else shapely.MultiPoint(copies)
    if len(parts) == 1:
        return shapely.union_all(copies)
    whole = shapely.MultiPolygon(copies)
    if whole.is_valid:
        return whole
    # The polygons are also accepted if they are adjacent. Examples are countries, and the two
    # halves of a polygon that is split at the antimeridian.
    if not _are_stacked(parts) and shapely.coverage_is_valid(copies):
        return shapely.coverage_union_all(copies)
    raise PlaceError("the polygons overlap: merge them into one polygon", ("coordinates",))


def _are_stacked(parts: list[BaseGeometry]) -> bool:
    """Return whether more pairs of bounding boxes overlap than adjacent polygons usually have."""
    tree, num_pairs = shapely.STRtree(parts), 0
    for first in range(0, len(parts), 100):
        num_pairs += tree.query(parts[first : first + 100]).shape[1]
        if num_pairs > _PAIRS_A_POLYGON * len(parts):
            return True
    return False


def _parts(geometry: Mapping[str, Any]) -> Iterator[BaseGeometry]:
    """Yield the points, lines and polygons of a geometry.

    The west end of each part is from -180 to 180. The east end of a part may be above 180.
    """
    kind, coordinates = geometry["type"], geometry["coordinates"]
    if kind in _PARTS:
        for i, one in enumerate(coordinates):
            yield from _parts_at({"type": _PARTS[kind], "coordinates": one}, ("coordinates", i))
    else:
        yield from _parts_at(geometry, ("coordinates",))


def _parts_at(geometry: Mapping[str, Any], place: tuple[str | int, ...]) -> Iterator[BaseGeometry]:
    kind, coordinates = geometry["type"], geometry["coordinates"]
    if kind == "Point":
        part: BaseGeometry = shapely.Point(coordinates)
    elif kind == "LineString":
        if len(coordinates) < 2:
            raise PlaceError("a line must have at least two positions", place)
        part = shapely.LineString(_unrolled(coordinates))
    else:
        part = _polygon(coordinates, place)
    west, _, east, _ = part.bounds
    if east - west > 360:
        raise PlaceError("a geometry must not go around the globe more than once", place)
    yield _turned(part, -360 * math.floor((west + 180) / 360))


def _polygon(rings: list[list[Any]], place: tuple[str | int, ...]) -> BaseGeometry:
    for i, ring in enumerate(rings):
        if len(ring) < 4 or ring[0] != ring[-1]:
            raise PlaceError(
                "a ring must have at least four positions, and its last position must equal its "
                "first position",
                (*place, i),
            )
    unrolled = [_unrolled(ring) for ring in rings]
    for i, ring in enumerate(unrolled):
        if ring[0] != ring[-1]:
            raise PlaceError(
                "a ring around a pole is not supported: use a box, for example "
                "BBOX(-180, 60, 180, 90)",
                (*place, i),
            )
    outer, *holes = unrolled
    west = min(x for x, _ in outer)
    polygon = shapely.Polygon(outer, [_beside(hole, west) for hole in holes])
    if not polygon.is_valid:
        raise PlaceError(f"the polygon is not valid: {shapely.is_valid_reason(polygon)}", place)
    return polygon


def _unrolled(line: list[Any]) -> list[tuple[float, float]]:
    return list(zip(unroll([x for x, _ in line]), [y for _, y in line], strict=True))


def _beside(hole: list[tuple[float, float]], west: float) -> list[tuple[float, float]]:
    """Add a multiple of 360 degrees to the longitudes of a hole.

    ``west`` is the western end of the polygon. The western end of the result is between ``west``
    and ``west`` + 360, so that the hole and its polygon use the same range of longitudes.
    """
    turn = 360 * math.floor((min(x for x, _ in hole) - west) / 360)
    return [(x - turn, y) for x, y in hole]


def _turned(geometry: BaseGeometry, by: float) -> BaseGeometry:
    return shapely.transform(geometry, lambda positions: positions + np.array([by, 0.0]))


def _boxes(west: Floats, south: Floats, east: Floats, north: Floats) -> NDArray[np.object_]:
    """Convert boxes to polygons. A box without width or height becomes a line or a point."""
    east = np.where(west > east, east + 360, east)
    found: NDArray[np.object_] = np.array(shapely.box(west, south, east, north), object)
    is_point = (west == east) & (south == north)
    is_line = ((west == east) | (south == north)) & ~is_point
    ends = np.stack([np.stack([west, south], 1), np.stack([east, north], 1)], 1)
    found[is_line] = shapely.linestrings(ends[is_line])
    found[is_point] = shapely.points(ends[is_point, 0])
    return found


def _read_file(path: Path) -> str:
    try:
        if path.stat().st_size > _MAX_FILE_BYTES:
            raise ConfigError(f"the file {path} has more than {_MAX_FILE_BYTES >> 20} MiB")
        return path.read_text("utf-8-sig")
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not a text file"
        raise ConfigError(f"cannot read the file {str(path)!r:.200}: {reason}") from error


def _geojson_of(text: str) -> dict[str, Any]:
    if not text.startswith("{"):
        return _of_wkt(text)
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"this is not JSON: {error}") from error
    features = [found]
    if found.get("type") == "FeatureCollection":
        features = found.get("features")
        if not isinstance(features, list) or not features:
            raise ConfigError("the FeatureCollection has no features")
    return _together([_geometry_of(feature) for feature in features])


def _geometry_of(found: Any) -> dict[str, Any]:
    is_feature = isinstance(found, Mapping) and found.get("type") == "Feature"
    return check_geojson(found["geometry"] if is_feature and "geometry" in found else found)


def _of_wkt(text: str) -> dict[str, Any]:
    # Check the nesting before the text is parsed, because the parser is recursive.
    if re.search(r"\(\s*\(\s*\(\s*\(|COLLECTION", text, re.IGNORECASE):
        raise ConfigError("a collection of geometries is not supported in WKT")
    try:
        found: dict[str, Any] = json.loads(shapely.to_geojson(shapely.from_wkt(text)))
    except (shapely.errors.ShapelyError, ValueError, TypeError) as error:
        reason = str(error).splitlines()[0][:100]
        raise ConfigError(
            f"this is neither GeoJSON nor WKT ({reason}): write, for example, {_EXAMPLE}"
        ) from error
    return check_geojson(found)


def _together(geometries: list[dict[str, Any]]) -> dict[str, Any]:
    """Combine several polygons to one geometry. A single geometry is returned unchanged."""
    if len(geometries) == 1:
        return geometries[0]
    polygons: list[Any] = []
    for geometry in geometries:
        if geometry["type"] not in ("Polygon", "MultiPolygon"):
            raise ConfigError("several features can be combined only if all of them are polygons")
        own = geometry["coordinates"]
        polygons += [own] if geometry["type"] == "Polygon" else own
    return {"type": "MultiPolygon", "coordinates": polygons}
