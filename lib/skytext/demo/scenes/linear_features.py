"""The kinds of linear features, such as rivers and power lines. Each kind has a painter and names.

To add a kind of linear feature, write a function that paints it, and add an entry to
``LINEAR_KINDS``. The entry lists the land covers that the feature may cross.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
import numpy.typing as npt

from skytext.demo.scenes.canvas import Canvas, Colour, Point, mix

Rng = np.random.Generator
Path = npt.NDArray[np.float64]
"""Points on the middle line of a feature: shape (n, 2), unit coordinates.

The distances between the points are equal along the direction of the feature.
"""

ORIENTATIONS: Mapping[str, float] = MappingProxyType(
    {
        "east-west": 0.0,
        "northwest-southeast": math.pi / 4,
        "north-south": math.pi / 2,
        "northeast-southwest": 3 * math.pi / 4,
    }
)
"""The clockwise angle of each orientation from east, in radians. (y increases to the south.)"""

_NUM_POINTS = 41
_HALF_LENGTH = 0.85


@dataclass(frozen=True)
class LinearKind:
    """One kind of linear feature.

    Attributes:
        names: Names of the kind. The most common name is first. All names have the article "a".
        covers: Land covers that the feature may cross.
        wiggle: Minimum and maximum amplitude of the curves of the feature, as a share of the tile's
            side.
        paint: The function that draws the feature.
    """

    names: tuple[str, ...]
    covers: frozenset[str]
    wiggle: tuple[float, float]
    paint: Callable[[Canvas, Rng, Path], None]


def make_path(rng: Rng, orientation: str, offset: float, wiggle: tuple[float, float]) -> Path:
    """Return the middle line of a feature that crosses the whole tile.

    Args:
        rng: Random generator that chooses the exact direction and the curves of the feature.
        orientation: A key of ``ORIENTATIONS``.
        offset: Distance from the tile's centre, as a share of the tile's side. If you look in the
            direction of the feature, the distance is positive on the right side.
        wiggle: Minimum and maximum amplitude of the curves of the feature, as a share of the tile's
            side.
    """
    angle = ORIENTATIONS[orientation] + float(rng.uniform(-0.07, 0.07))
    t = np.linspace(-_HALF_LENGTH, _HALF_LENGTH, _NUM_POINTS)
    swing = float(rng.uniform(*wiggle))
    phase, rate = float(rng.uniform(0.0, 6.28)), float(rng.uniform(4.0, 8.0))
    side = offset + swing * (np.sin(rate * t + phase) + 0.35 * np.sin(2.3 * rate * t + 2 * phase))
    cos, sin = math.cos(angle), math.sin(angle)
    return np.stack([0.5 + t * cos - side * sin, 0.5 + t * sin + side * cos], axis=1)


def _points(path: Path) -> list[Point]:
    return [(float(x), float(y)) for x, y in path.tolist()]


def _normals(path: Path) -> Path:
    along = np.gradient(path, axis=0)
    along /= np.linalg.norm(along, axis=1, keepdims=True)
    return np.stack([-along[:, 1], along[:, 0]], axis=1)


def _river(canvas: Canvas, rng: Rng, path: Path) -> None:
    half = float(rng.uniform(0.03, 0.045))
    widths = half * (1.0 + 0.25 * np.sin(np.linspace(0.0, 11.0, len(path)) + rng.uniform(0, 6)))
    normals = _normals(path)
    colours: tuple[Colour, ...] = ((58, 92, 96), (70, 96, 84), (46, 80, 104))
    water = colours[int(rng.integers(len(colours)))]
    for extra, colour in ((0.012, (168, 158, 124)), (0.0, water)):
        reach = (widths + extra)[:, None] * normals
        canvas.polygon(_points(np.concatenate([path + reach, (path - reach)[::-1]])), colour)


def _canal(canvas: Canvas, rng: Rng, path: Path) -> None:
    width = float(rng.uniform(0.042, 0.052))
    canvas.line(_points(path), width + 0.03, (206, 200, 188))
    canvas.line(_points(path), width, (44, 128, 142))


def _road(canvas: Canvas, rng: Rng, path: Path) -> None:
    width = float(rng.uniform(0.036, 0.048))
    canvas.line(_points(path), width + 0.014, (172, 166, 150))
    canvas.line(_points(path), width, (98, 98, 102))
    for start in range(0, len(path) - 1, 2):
        canvas.line(_points(path[start : start + 2]), 0.008, (240, 238, 224))


def _railway(canvas: Canvas, rng: Rng, path: Path) -> None:
    width = float(rng.uniform(0.044, 0.052))
    canvas.line(_points(path), width + 0.016, (136, 118, 102))
    normals = _normals(path) * (width / 2)
    fine = np.linspace(0, len(path) - 1, len(path) * 2 - 1)
    index = np.arange(len(path))
    steps = np.stack([np.interp(fine, index, path[:, i]) for i in (0, 1)], axis=1)
    across = np.stack([np.interp(fine, index, normals[:, i]) for i in (0, 1)], axis=1)
    for middle, reach in zip(steps, across, strict=True):
        canvas.line(_points(np.stack([middle - reach, middle + reach])), 0.014, (66, 52, 46))
    for side in (-0.5, 0.5):
        canvas.line(_points(path + side * normals), 0.007, (186, 188, 194))


def _runway(canvas: Canvas, rng: Rng, path: Path) -> None:
    width = float(rng.uniform(0.1, 0.12))
    canvas.line(_points(path), width + 0.03, (122, 132, 98))
    canvas.line(_points(path), width, (70, 70, 76))
    normals = _normals(path)
    for side in (-0.44, 0.44):
        canvas.line(_points(path + side * width * normals), 0.008, (228, 228, 228))
    for start in range(1, len(path) - 2, 4):
        canvas.line(_points(path[start : start + 3]), 0.013, (238, 238, 238))
    # Draw the touchdown bars where the runway is inside the tile.
    middle, direction = path[12], path[13] - path[12]
    for offset in (-0.32, -0.19, 0.19, 0.32):
        start_at = middle + offset * width * normals[12]
        bar = np.stack([start_at, start_at + 1.6 * direction])
        canvas.line(_points(bar), 0.014, mix((238, 238, 238), (70, 70, 76), 0.1))


def _motorway(canvas: Canvas, rng: Rng, path: Path) -> None:
    width = float(rng.uniform(0.086, 0.096))
    canvas.line(_points(path), width + 0.014, (150, 152, 136))
    canvas.line(_points(path), width, (116, 116, 120))
    normals = _normals(path) * width
    canvas.line(_points(path), 0.017, (104, 138, 78))
    for side in (-0.47, -0.13, 0.13, 0.47):
        canvas.line(_points(path + side * normals), 0.006, (236, 236, 232))
    for side in (-0.3, 0.3):
        lane = path + side * normals
        for start in range(0, len(path) - 1, 2):
            canvas.line(_points(lane[start : start + 2]), 0.006, (226, 226, 222))
    # Draw a few vehicles. Each vehicle is in a lane.
    vehicles: tuple[Colour, ...] = ((244, 244, 244), (180, 40, 36), (36, 56, 110))
    for at, lane_at, tone in rng.random((8, 3)).tolist():
        index = int(at * (len(path) - 2))
        side = (-0.39, -0.215, 0.215, 0.39)[int(lane_at * 3.999)]
        middle = path[index] + side * normals[index]
        end = middle + 0.45 * (path[index + 1] - path[index])
        canvas.line(_points(np.stack([middle, end])), 0.013, vehicles[int(tone * 2.999)])


def _power_line(canvas: Canvas, rng: Rng, path: Path) -> None:
    normals = _normals(path)
    shift = np.asarray([canvas.light.shadow_x, canvas.light.shadow_y]) * 0.03
    wires = (-0.026, 0.0, 0.026)
    for side in wires:
        # Draw a light wire over a dark shadow, so that the wire is visible on snow and on forest.
        canvas.line(_points(path + side * normals + 0.25 * shift), 0.007, (58, 60, 58))
        canvas.line(_points(path + side * normals), 0.007, (222, 222, 216))
    for index in range(int(rng.integers(1, 7)), len(path), 7):
        foot, reach = path[index], 0.042 * normals[index]
        along = np.stack([-reach[1], reach[0]]) * 0.55
        dark = canvas.ground(float(foot[0]), float(foot[1]), 0.4)
        canvas.line(_points(np.stack([foot, foot + 2.2 * shift])), 0.018, dark)
        body = np.stack([foot + 0.5 * reach, foot + along, foot - 0.5 * reach, foot - along])
        canvas.polygon(_points(body), (70, 72, 76))
        canvas.line(_points(np.stack([foot - reach, foot + reach])), 0.014, (238, 238, 234))


_OPEN = frozenset({"farmland", "grassland", "bare_land", "desert"})

LINEAR_KINDS: Mapping[str, LinearKind] = MappingProxyType(
    {
        "river": LinearKind(
            ("river", "winding river"),
            frozenset(
                {
                    "farmland",
                    "grassland",
                    "forest",
                    "bare_land",
                    "residential",
                    "mountains",
                    "wetland",
                    "snow",
                }
            ),
            (0.035, 0.055),
            _river,
        ),
        "canal": LinearKind(
            ("canal", "straight canal"),
            frozenset(
                {
                    "farmland",
                    "grassland",
                    "bare_land",
                    "desert",
                    "residential",
                    "industrial",
                    "commercial",
                    "orchard",
                }
            ),
            (0.0, 0.0),
            _canal,
        ),
        "road": LinearKind(
            ("road", "paved road"),
            _OPEN
            | {"forest", "residential", "industrial", "snow", "mountains", "orchard", "wetland"},
            (0.003, 0.018),
            _road,
        ),
        "railway": LinearKind(
            ("railway", "railway line"),
            _OPEN | {"forest", "residential", "industrial", "commercial", "snow", "wetland"},
            (0.0, 0.008),
            _railway,
        ),
        "runway": LinearKind(
            ("runway", "paved runway"),
            frozenset({"grassland", "bare_land", "desert", "farmland"}),
            (0.0, 0.0),
            _runway,
        ),
        "motorway": LinearKind(
            ("motorway", "freeway"),
            _OPEN | {"forest", "residential", "industrial", "commercial"},
            (0.0, 0.01),
            _motorway,
        ),
        "power_line": LinearKind(
            ("power line", "transmission line"),
            _OPEN | {"forest", "snow", "mountains", "wetland", "orchard"},
            (0.0, 0.0),
            _power_line,
        ),
    }
)
