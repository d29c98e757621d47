"""Generate remote-sensing scenes: the ground truth of a scene, and its image.

``make_scene`` makes the ground truth from a seed, and ``render`` draws the scene at any size. All
random choices depend only on the seed. The ground truth is exact, so a description can be compared
with the ground truth.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import math
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from skytext.demo.scenes.canvas import Canvas, Light, Point, Sensor
from skytext.demo.scenes.land_covers import LAND_COVERS, SIDE_VECTORS, Box
from skytext.demo.scenes.linear_features import (
    LINEAR_KINDS,
    ORIENTATIONS,
    LinearKind,
    Path,
    make_path,
)
from skytext.demo.scenes.object_kinds import OBJECT_KINDS, ObjectKind, group_slots

REFERENCE_PX = 224
"""Side length in pixels of a tile in which a pixel has the size ``Scene.gsd``."""
HELD_OUT_SEED = 1_000_000_000
"""The first held-out seed. This seed and all higher seeds are never used for training."""
METRES_PER_DEGREE = 111_320.0
"""Length of one degree of latitude in metres."""

Rng = np.random.Generator
Size = Literal["small", "large"]
Arrangement = Literal["close", "row", "block", "scattered"]

POSITIONS: Mapping[str, tuple[int, int]] = MappingProxyType(
    {
        "northwest": (0, 0),
        "north": (1, 0),
        "northeast": (2, 0),
        "west": (0, 1),
        "centre": (1, 1),
        "east": (2, 1),
        "southwest": (0, 2),
        "south": (1, 2),
        "southeast": (2, 2),
    }
)
"""Column and row of each of the nine positions. The top of a tile is north."""

_SIDE_OFFSET = 0.3
_LINE_SIDES: Mapping[str, tuple[str, str]] = MappingProxyType(
    {
        # Positions of a line with a negative offset and with a positive offset.
        "east-west": ("north", "south"),
        "northwest-southeast": ("northeast", "southwest"),
        "north-south": ("east", "west"),
        "northeast-southwest": ("southeast", "northwest"),
    }
)
_OBJECT_CLEARANCE = 0.2


@dataclass(frozen=True)
class LinearFeature:
    """A linear feature that crosses the tile.

    Attributes:
        kind: A key of ``LINEAR_KINDS``.
        orientation: A key of ``ORIENTATIONS``.
        position: The part of the tile through which the feature passes. It is a key of
            ``POSITIONS``.
        offset: Distance from the tile's centre, as a share of the tile's side. If you look in the
            direction of the feature, the distance is positive on the right side.
    """

    kind: str
    orientation: str
    position: str
    offset: float


@dataclass(frozen=True)
class SceneObject:
    """A group of objects of the same kind and size.

    Attributes:
        kind: A key of ``OBJECT_KINDS``.
        count: Number of objects, 1 to 6.
        position: A key of ``POSITIONS``.
        size: Size of the objects, ``small`` or ``large``.
        arrangement: The arrangement of the objects, which is one of ``ARRANGEMENTS``.
    """

    kind: str
    count: int
    position: str
    size: Size
    arrangement: Arrangement


@dataclass(frozen=True)
class Scene:
    """The ground truth of one scene.

    Attributes:
        seed: The seed, which determines all other values.
        land_cover: A key of ``LAND_COVERS``.
        water_side: Side with water ("north", "east", "south" or "west"). None if no side has water.
        linear_features: Linear features that cross the tile, in the order of drawing.
        objects: Groups of objects. Each group has a different position.
        gsd: Ground sampling distance of a tile of ``REFERENCE_PX`` pixels, in metres per pixel.
        datetime: Acquisition time, UTC.
        bbox: West, south, east and north in degrees, EPSG:4326.
        light: The sun, the haze and the season.
        sensor: The effects of the camera.
    """

    seed: int
    land_cover: str
    water_side: str | None
    linear_features: tuple[LinearFeature, ...]
    objects: tuple[SceneObject, ...]
    gsd: float
    datetime: dt.datetime
    bbox: Box
    light: Light
    sensor: Sensor

    def gsd_at(self, size_px: int) -> float:
        """Return the ground sampling distance (metres per pixel) of a tile with this size."""
        return self.gsd * REFERENCE_PX / size_px

    def as_dict(self) -> dict[str, Any]:
        """Return the ground truth as JSON values."""
        record = dataclasses.asdict(self)
        record["datetime"] = self.datetime.strftime("%Y-%m-%dT%H:%M:%SZ")
        record["bbox"] = list(self.bbox)
        record["linear_features"] = list(record["linear_features"])
        record["objects"] = list(record["objects"])
        return record


def make_scene(seed: int) -> Scene:
    """Return the scene of a seed. The seed must be 0 or more."""
    rng = np.random.default_rng((seed, 0))
    covers = list(LAND_COVERS)
    land_cover = covers[int(rng.integers(len(covers)))]
    water_side: str | None = None
    if LAND_COVERS[land_cover].sided:
        water_side = list(SIDE_VECTORS)[int(rng.integers(len(SIDE_VECTORS)))]
    lines = _choose_lines(rng, land_cover)
    objects, extent_m = _choose_objects(rng, land_cover, water_side, lines)
    bbox = _choose_bbox(rng, land_cover, extent_m)
    when, light = _choose_light(rng, bbox)
    return Scene(
        seed=seed,
        land_cover=land_cover,
        water_side=water_side,
        linear_features=lines,
        objects=objects,
        gsd=round(extent_m / REFERENCE_PX, 3),
        datetime=when,
        bbox=bbox,
        light=light,
        sensor=Sensor(noise=int(rng.integers(1, 9)), blur=round(0.005 * float(rng.random()), 5)),
    )


def render(scene: Scene, size_px: int = REFERENCE_PX) -> npt.NDArray[np.uint8]:
    """Draw a scene.

    Args:
        scene: The scene.
        size_px: Side length of the tile in pixels. The content of the tile does not depend on this
            length.

    Returns:
        uint8 of shape (size_px, size_px, 3), RGB. North is at the top.
    """
    cover = LAND_COVERS[scene.land_cover]
    low, high = (math.log(extent_m) for extent_m in cover.extent_m)
    share = (math.log(scene.gsd * REFERENCE_PX) - low) / (high - low)
    canvas = Canvas(size_px, scene.light, scene.sensor, extent_share=min(max(share, 0.0), 1.0))
    # Use one random generator for each layer. If one painter is changed, the other layers do not
    # change.
    cover.paint(canvas, np.random.default_rng((scene.seed, 1)), scene.water_side)
    for index, (line, path) in enumerate(
        zip(scene.linear_features, line_paths(scene), strict=True)
    ):
        LINEAR_KINDS[line.kind].paint(canvas, np.random.default_rng((scene.seed, 5, index)), path)
    for index, (group, (points, angle)) in enumerate(
        zip(scene.objects, group_places(scene), strict=True)
    ):
        _paint_group(canvas, np.random.default_rng((scene.seed, 3, index)), group, points, angle)
    return canvas.finish(np.random.default_rng((scene.seed, 4)))


def line_paths(scene: Scene) -> list[Path]:
    """Return the middle line of each linear feature: (n, 2) in unit coordinates.

    Points outside the tile have coordinates below 0 or above 1.
    """
    return [
        make_path(
            np.random.default_rng((scene.seed, 2, index)),
            line.orientation,
            line.offset,
            LINEAR_KINDS[line.kind].wiggle,
        )
        for index, line in enumerate(scene.linear_features)
    ]


def group_places(scene: Scene) -> list[tuple[list[Point], float]]:
    """Return, for each group of objects, the unit coordinates and the rotation of the objects.

    The rotation is the clockwise angle from east, in radians. Objects on a linear feature have the
    rotation of this feature.
    """
    paths = {
        line.kind: path for line, path in zip(scene.linear_features, line_paths(scene), strict=True)
    }
    return [
        _group_place(np.random.default_rng((scene.seed, 6, index)), group, paths)
        for index, group in enumerate(scene.objects)
    ]


def _group_place(
    rng: Rng, group: SceneObject, paths: Mapping[str, Path]
) -> tuple[list[Point], float]:
    kind = OBJECT_KINDS[group.kind]
    x, y = cell_centre(group.position)
    if kind.on in paths:
        path = paths[kind.on]
        nearest = int(np.hypot(path[:, 0] - x, path[:, 1] - y).argmin())
        x, y = (float(part) for part in path[nearest])
        before, after = path[max(nearest - 1, 0)], path[min(nearest + 1, len(path) - 1)]
        angle = math.atan2(float(after[1] - before[1]), float(after[0] - before[0]))
    else:
        x, y = x + float(rng.uniform(-0.012, 0.012)), y + float(rng.uniform(-0.012, 0.012))
        angle = float(rng.uniform(0.0, 2.0 * math.pi))
    return group_slots(group.arrangement, group.count, x, y, rng), angle


def _paint_group(
    canvas: Canvas, rng: Rng, group: SceneObject, slots: list[Point], angle: float
) -> None:
    kind = OBJECT_KINDS[group.kind]
    radius = kind.radius_small if group.size == "small" else kind.radius_large
    if kind.pad is not None:
        reach = radius * 1.25
        west, east = min(p[0] for p in slots) - reach, max(p[0] for p in slots) + reach
        north, south = min(p[1] for p in slots) - reach, max(p[1] for p in slots) + reach
        canvas.polygon([(west, north), (east, north), (east, south), (west, south)], kind.pad)
    spread = 0.0 if kind.on in LINEAR_KINDS else 0.3
    for x, y in slots:
        # The objects of a group have similar directions, like parked aircraft.
        kind.paint(canvas, rng, x, y, radius, angle + spread * float(rng.uniform(-1.0, 1.0)))


def cell_centre(position: str) -> tuple[float, float]:
    """Return the unit coordinates (x, y) of the centre of one of the nine positions."""
    column, row = POSITIONS[position]
    return (column + 0.5) / 3.0, (row + 0.5) / 3.0


def _distance(line: LinearFeature, position: str) -> float:
    x, y = cell_centre(position)
    angle = ORIENTATIONS[line.orientation]
    return abs(-(x - 0.5) * math.sin(angle) + (y - 0.5) * math.cos(angle) - line.offset)


def _choose_lines(rng: Rng, land_cover: str) -> tuple[LinearFeature, ...]:
    allowed = [name for name, kind in LINEAR_KINDS.items() if land_cover in kind.covers]
    number = min(len(allowed), int(rng.choice(3, p=(0.35, 0.47, 0.18))))
    if not number:
        return ()
    chosen = sorted(rng.permutation(len(allowed))[:number].tolist())
    names = [allowed[index] for index in chosen]
    turns = rng.permutation(len(ORIENTATIONS))[:number].tolist()
    sides = rng.integers(-1, 2, size=number).tolist()
    if number == 2 and "runway" in names:
        # A linear feature must not cross a runway. Therefore the feature is parallel to the runway,
        # on the opposite side of the tile.
        turns[1] = turns[0]
        sides = [-1, 1] if rng.random() < 0.5 else [1, -1]
    return tuple(
        _line(rng, LINEAR_KINDS[name], name, list(ORIENTATIONS)[turn], side)
        for name, turn, side in zip(names, turns, sides, strict=True)
    )


def _line(rng: Rng, kind: LinearKind, name: str, orientation: str, side: int) -> LinearFeature:
    slack = 0.03 - min(0.02, kind.wiggle[1])
    offset = side * _SIDE_OFFSET + float(rng.uniform(-slack, slack))
    position = "centre" if side == 0 else _LINE_SIDES[orientation][0 if side < 0 else 1]
    return LinearFeature(name, orientation, position, round(offset, 4))


def _choose_objects(
    rng: Rng, land_cover: str, water_side: str | None, lines: tuple[LinearFeature, ...]
) -> tuple[tuple[SceneObject, ...], float]:
    """Return the groups of objects, and the side length of the tile in metres."""
    low, high = LAND_COVERS[land_cover].extent_m
    present = {line.kind for line in lines}
    number = int(rng.choice(3, p=(0.2, 0.5, 0.3)))
    groups: list[SceneObject] = []
    # Draw a weighted random order. A kind with twice the weight is the first kind twice as often.
    race = {name: float(rng.exponential()) / kind.weight for name, kind in OBJECT_KINDS.items()}
    for name in sorted(race, key=race.__getitem__):
        kind = OBJECT_KINDS[name]
        if len(groups) == number:
            break
        fits = min(high, kind.extent_m[1]) > 1.1 * max(low, kind.extent_m[0])
        if land_cover not in kind.covers or not fits:
            continue
        if kind.beside is not None and kind.beside not in present:
            continue
        cells = _free_cells(kind, water_side, lines, {group.position for group in groups})
        if not cells:
            continue
        low, high = max(low, kind.extent_m[0]), min(high, kind.extent_m[1])
        count = int(rng.integers(kind.counts[0], kind.counts[1] + 1))
        arrangement = _choose_arrangement(rng, count)
        # Five or six large objects do not fit in a ninth of a tile. A row of three large objects
        # does not fit either.
        roomy = count <= 4 and arrangement in ("close", "block")
        size: Size = "large" if roomy and rng.random() < 0.5 else "small"
        position = cells[int(rng.integers(len(cells)))]
        groups.append(SceneObject(name, count, position, size, arrangement))
    extent_m = math.exp(float(rng.uniform(math.log(low), math.log(high))))
    return tuple(groups), extent_m


def _choose_arrangement(rng: Rng, count: int) -> Arrangement:
    if count <= 2:
        return "close"
    choices: tuple[Arrangement, ...] = (
        ("row", "scattered") if count == 3 else ("block", "scattered")
    )
    return choices[int(rng.integers(2))]


def _free_cells(
    kind: ObjectKind, water_side: str | None, lines: tuple[LinearFeature, ...], taken: set[str]
) -> list[str]:
    free = []
    for position in POSITIONS:
        x, y = cell_centre(position)
        if position in taken:
            continue
        if water_side is not None:
            towards = SIDE_VECTORS[water_side]
            reach = (x - 0.5) * towards[0] + (y - 0.5) * towards[1]
            if (reach < 0.1) if kind.on == "water" else (reach > -0.1):
                continue
        under = [line for line in lines if line.kind == kind.on]
        if any(_distance(line, position) > 0.1 for line in under):
            continue
        others = [line for line in lines if line not in under]
        if all(_distance(line, position) >= _OBJECT_CLEARANCE for line in others):
            free.append(position)
    return free


def _choose_bbox(rng: Rng, land_cover: str, extent_m: float) -> Box:
    regions = LAND_COVERS[land_cover].regions
    west, south, east, north = regions[int(rng.integers(len(regions)))]
    longitude, latitude = float(rng.uniform(west, east)), float(rng.uniform(south, north))
    half_height = extent_m / METRES_PER_DEGREE / 2
    half_width = half_height / math.cos(math.radians(latitude))
    return (
        round(longitude - half_width, 7),
        round(latitude - half_height, 7),
        round(longitude + half_width, 7),
        round(latitude + half_height, 7),
    )


def _choose_light(rng: Rng, bbox: Box) -> tuple[dt.datetime, Light]:
    """Return a time and the light (sun, season and haze) at this time."""
    day = dt.datetime(2017, 1, 1, tzinfo=dt.UTC) + dt.timedelta(days=int(rng.integers(3285)))
    solar_hour = float(rng.uniform(9.5, 14.5))
    when = day + dt.timedelta(seconds=round((solar_hour - (bbox[0] + bbox[2]) / 30.0) * 3600))
    northern = bbox[1] >= 0.0
    # Before noon, the sun is in the east. In the northern hemisphere, the sun is in the south. In
    # the southern hemisphere, the sun is in the north.
    shadow_x, shadow_y = (solar_hour - 12.0) / 2.5, -0.8 if northern else 0.8
    length = math.hypot(shadow_x, shadow_y)
    season = math.cos(2.0 * math.pi * (when.timetuple().tm_yday - 196) / 365.25)
    greenness = 0.5 + 0.45 * (season if northern else -season) + float(rng.uniform(-0.15, 0.15))
    return when, Light(
        brightness=round(float(rng.uniform(0.85, 1.12)), 3),
        haze=round(0.2 * float(rng.random()) ** 2, 3),
        warmth=round(float(rng.uniform(-0.04, 0.04)), 3),
        shadow_x=round(shadow_x / length, 3),
        shadow_y=round(shadow_y / length, 3),
        greenness=round(min(max(greenness, 0.0), 1.0), 3),
    )
