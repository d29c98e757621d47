"""The kinds of objects in scenes. Each kind has a painter, names, and land covers.

To add a kind, write a function that paints one object, and add an entry to ``OBJECT_KINDS``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np

from skytext.demo.scenes.canvas import (
    Canvas,
    Colour,
    Point,
    mix,
    rotated_rectangle,
)

Rng = np.random.Generator
Painter = Callable[[Canvas, Rng, float, float, float, float], None]
"""A function that draws one object.

Its arguments are the canvas, the random generator, the x and y coordinates of the centre, the
radius and the angle. Coordinates and radius are in unit coordinates. The angle is in radians.
"""

ARRANGEMENTS = ("close", "row", "block", "scattered")
"""The possible arrangements of the objects in a group.

One or two objects are ``close``. Three objects are in a ``row`` or ``scattered``. Four to six
objects are in a ``block`` or ``scattered``.
"""

_IRREGULAR: Mapping[int, tuple[tuple[tuple[int, int], ...], ...]] = MappingProxyType(
    {
        # Each pair is the column and the row of an object, counted from the centre of the group.
        3: (((-1, -1), (1, 0), (-1, 1)), ((-1, -1), (0, 1), (1, -1)), ((-1, -1), (1, 0), (0, 1))),
        4: (((-1, -1), (1, -1), (0, 0), (-1, 1)), ((0, -1), (-1, 0), (1, 0), (1, 1))),
        5: (
            ((-1, -1), (1, -1), (0, 0), (-1, 1), (1, 1)),
            ((-1, -1), (0, -1), (1, 0), (-1, 1), (1, 1)),
        ),
        6: (
            ((-1, -1), (1, -1), (0, 0), (1, 0), (-1, 1), (1, 1)),
            ((-1, -1), (0, -1), (1, 0), (-1, 0), (0, 1), (1, 1)),
        ),
    }
)


@dataclass(frozen=True)
class ObjectKind:
    """One kind of object.

    Attributes:
        names: Pairs of names (singular, plural). The most common pair is first. No name contains a
            name of another kind.
        covers: Land covers on which the object can occur. If ``beside`` is set, the linear feature
            in ``beside`` can also cross these land covers.
        counts: Minimum and maximum number of objects in one group.
        radius_small: Radius of a small object, as a share of the tile's side.
        radius_large: Radius of a large object, as a share of the tile's side.
        extent_m: Minimum and maximum side length, in metres, of a tile in which the object can have
            a radius from ``radius_small`` to ``radius_large``.
        paint: The function that draws one object.
        on: Where the object is: "land", "water", or the name of a kind of linear feature. If it is
            a kind of linear feature, the object is on the middle line of the feature, and has the
            direction of the feature.
        beside: The kind of linear feature that must be in the scene, or None.
        pad: Colour of the ground around the object. None if the ground is not changed.
        weight: Relative frequency with which this kind is chosen, if several kinds fit in a scene.
            The weight is higher for kinds that fit in few scenes.
    """

    names: tuple[tuple[str, str], ...]
    covers: frozenset[str]
    counts: tuple[int, int]
    radius_small: float
    radius_large: float
    extent_m: tuple[float, float]
    paint: Painter
    on: str = "land"
    beside: str | None = None
    pad: Colour | None = None
    weight: float = 1.0


def group_slots(arrangement: str, count: int, x: float, y: float, rng: Rng) -> list[Point]:
    """Return the unit coordinates of the objects of a group around (x, y).

    Args:
        arrangement: One of ``ARRANGEMENTS``.
        count: Number of objects, 1 to 6.
        x: X coordinate of the centre of the group.
        y: Y coordinate of the centre of the group.
        rng: Random generator that rotates and scatters the objects. The number of draws does not
            depend on the resolution.
    """
    if arrangement == "row":
        upright = bool(rng.random() < 0.5)
        steps = [(index - (count - 1) / 2) * 0.11 for index in range(count)]
        return [(x, y + step) if upright else (x + step, y) for step in steps]
    if arrangement == "scattered":
        return _scattered(count, x, y, rng)
    columns = 3 if count > 4 else 2
    rows = math.ceil(count / columns)
    step_x = 0.105 if columns == 3 else 0.15
    step_y = 0.14
    slots = []
    for index in range(count):
        row, column = divmod(index, columns)
        in_row = min(columns, count - row * columns)
        slots.append(
            (x + (column - (in_row - 1) / 2) * step_x, y + (row - (rows - 1) / 2) * step_y)
        )
    return slots


def _scattered(count: int, x: float, y: float, rng: Rng) -> list[Point]:
    """Return ``count`` points of a 3 × 3 grid in an irregular pattern, with small random shifts."""
    patterns = _IRREGULAR[count]
    pattern = patterns[int(rng.integers(len(patterns)))]
    # An irregular pattern is still irregular after a rotation by a quarter turn.
    turns = int(rng.integers(4))
    points = [((i, j), (-j, i), (-i, -j), (j, -i))[turns] for i, j in pattern]
    mean_i = sum(i for i, _ in points) / count
    mean_j = sum(j for _, j in points) / count
    shakes = rng.uniform(-0.008, 0.008, (count, 2)).tolist()
    return [
        (x + (i - mean_i) * 0.112 + shake[0], y + (j - mean_j) * 0.112 + shake[1])
        for (i, j), shake in zip(points, shakes, strict=True)
    ]


def _tank(canvas: Canvas, rng: Rng, x: float, y: float, radius: float, _angle: float) -> None:
    canvas.round_shadow(x, y, radius, 0.03)
    tone = float(rng.uniform(205, 240))
    canvas.ellipse(x, y, radius, (tone - 50, tone - 48, tone - 44))
    canvas.ellipse(x, y, radius * 0.86, (tone, tone, tone - 3))
    canvas.ellipse(x, y, radius * 0.16, (tone - 70, tone - 68, tone - 66))


def _ship(canvas: Canvas, rng: Rng, x: float, y: float, radius: float, angle: float) -> None:
    cos, sin = math.cos(angle), math.sin(angle)

    def place(u: float, v: float) -> Point:
        return x + radius * (u * cos - v * sin), y + radius * (u * sin + v * cos)

    wake = [place(-1.0, 0.2), place(-2.1, 0.5), place(-2.1, -0.5), place(-1.0, -0.2)]
    canvas.polygon(wake, (150, 178, 196))
    hull = [
        place(-1.15, 0.3),
        place(0.65, 0.32),
        place(1.25, 0.0),
        place(0.65, -0.32),
        place(-1.15, -0.3),
    ]
    canvas.shadow_of(hull, 0.012)
    hulls: tuple[Colour, ...] = ((168, 70, 56), (96, 92, 96), (188, 120, 72))
    canvas.polygon(hull, hulls[int(rng.integers(len(hulls)))])
    deck = [place(-0.55, 0.2), place(0.6, 0.2), place(0.6, -0.2), place(-0.55, -0.2)]
    canvas.polygon(deck, (214, 206, 190))
    bridge = [place(-1.0, 0.24), place(-0.65, 0.24), place(-0.65, -0.24), place(-1.0, -0.24)]
    canvas.polygon(bridge, (248, 248, 248))


def _aircraft(canvas: Canvas, _rng: Rng, x: float, y: float, radius: float, angle: float) -> None:
    cos, sin = math.cos(angle), math.sin(angle)

    def place(u: float, v: float) -> Point:
        return x + radius * (u * cos - v * sin), y + radius * (u * sin + v * cos)

    wings = [
        place(0.35, 0.0),
        place(-0.35, 1.15),
        place(-0.55, 1.1),
        place(-0.15, 0.0),
        place(-0.55, -1.1),
        place(-0.35, -1.15),
    ]
    body = [
        place(1.2, 0.0),
        place(0.95, 0.16),
        place(-1.0, 0.12),
        place(-1.1, 0.0),
        place(-1.0, -0.12),
        place(0.95, -0.16),
    ]
    tail = [
        place(-0.7, 0.0),
        place(-1.1, 0.48),
        place(-1.2, 0.4),
        place(-1.05, 0.0),
        place(-1.2, -0.4),
        place(-1.1, -0.48),
    ]
    white = (246.0, 246.0, 248.0)
    for part in (wings, body, tail):
        shift = (canvas.light.shadow_x * 0.016, canvas.light.shadow_y * 0.016)
        canvas.polygon([(px + shift[0], py + shift[1]) for px, py in part], (46, 46, 52))
    for part in (wings, tail, body):
        canvas.polygon(part, white)


def _solar_farm(canvas: Canvas, _rng: Rng, x: float, y: float, radius: float, angle: float) -> None:
    canvas.polygon(rotated_rectangle(x, y, radius, radius * 0.85, angle), (150, 146, 132))
    rows = max(3, round(radius * 2 * 0.85 / 0.03))
    cos, sin = math.cos(angle), math.sin(angle)
    for row in range(rows):
        v = (row - (rows - 1) / 2) * (1.7 * radius / rows)
        at_x, at_y = x - v * sin, y + v * cos
        half = 0.85 * radius / rows * 0.62
        canvas.polygon(rotated_rectangle(at_x, at_y, radius * 0.94, half, angle), (30, 42, 92))


def _pool(canvas: Canvas, rng: Rng, x: float, y: float, radius: float, angle: float) -> None:
    ratio = float(rng.uniform(0.55, 0.75))
    canvas.polygon(
        rotated_rectangle(x, y, radius * 1.3, radius * (ratio + 0.35), angle), (226, 218, 204)
    )
    canvas.polygon(rotated_rectangle(x, y, radius, radius * ratio, angle), (64, 190, 222))


def _baseball(canvas: Canvas, _rng: Rng, x: float, y: float, radius: float, angle: float) -> None:
    def fan(reach: float) -> list[Point]:
        arc = [angle - math.pi / 4 + math.pi / 2 * step / 10 for step in range(11)]
        home = (x - radius * math.cos(angle), y - radius * math.sin(angle))
        return [
            home,
            *((home[0] + reach * math.cos(a), home[1] + reach * math.sin(a)) for a in arc),
        ]

    canvas.polygon(fan(radius * 2.05), (206, 176, 130))
    canvas.polygon(fan(radius * 1.9), (84, 148, 70))
    canvas.polygon(fan(radius * 1.1), (196, 132, 88))
    home_x, home_y = x - radius * math.cos(angle), y - radius * math.sin(angle)
    infield = rotated_rectangle(
        home_x + radius * 0.52 * math.cos(angle),
        home_y + radius * 0.52 * math.sin(angle),
        radius * 0.33,
        radius * 0.33,
        angle + math.pi / 4,
    )
    canvas.polygon(infield, (92, 158, 76))


def _stadium(canvas: Canvas, rng: Rng, x: float, y: float, radius: float, _angle: float) -> None:
    wide, tall = (1.0, 0.78) if rng.random() < 0.5 else (0.78, 1.0)
    canvas.ellipse(
        x + canvas.light.shadow_x * 0.03,
        y + canvas.light.shadow_y * 0.03,
        radius * wide,
        (60, 60, 64),
        radius_y=radius * tall,
    )
    stands: tuple[Colour, ...] = ((226, 226, 230), (198, 202, 214), (224, 206, 196))
    tone = stands[int(rng.integers(len(stands)))]
    for scale, colour in (
        (1.0, tone),
        (0.86, mix(tone, (60, 60, 80), 0.35)),
        (0.68, (184, 84, 66)),
        (0.56, (72, 152, 66)),
    ):
        canvas.ellipse(x, y, radius * wide * scale, colour, radius_y=radius * tall * scale)


def _parking(canvas: Canvas, rng: Rng, x: float, y: float, radius: float, angle: float) -> None:
    # A light border separates the parking lot from the streets around it.
    canvas.polygon(rotated_rectangle(x, y, radius * 1.1, radius * 0.9, angle), (224, 218, 204))
    canvas.polygon(rotated_rectangle(x, y, radius, radius * 0.8, angle), (82, 82, 88))
    cos, sin = math.cos(angle), math.sin(angle)
    columns, rows = max(4, round(radius / 0.015)), 4 if radius > 0.1 else 3
    cars: tuple[Colour, ...] = (
        (232, 232, 236),
        (176, 44, 40),
        (40, 70, 140),
        (200, 204, 210),
        (236, 236, 232),
    )
    picks = rng.random((rows, columns)).tolist()
    for row in range(rows):
        for column in range(columns):
            pick = picks[row][column]
            if pick > 0.8:
                continue
            u = (column - (columns - 1) / 2) * (1.8 * radius / columns)
            v = (row - (rows - 1) / 2) * (1.45 * radius / rows)
            at = x + u * cos - v * sin, y + u * sin + v * cos
            colour = cars[int(pick / 0.8 * 4.999)]
            canvas.polygon(
                rotated_rectangle(*at, 0.58 * radius / columns, 0.46 * radius / rows, angle), colour
            )


def _roundabout(canvas: Canvas, _rng: Rng, x: float, y: float, radius: float, _a: float) -> None:
    canvas.ellipse(x, y, radius * 1.12, (176, 170, 156))
    canvas.ellipse(x, y, radius, (98, 98, 102))
    canvas.ellipse(x, y, radius * 0.56, (240, 238, 224))
    canvas.ellipse(x, y, radius * 0.5, (86, 150, 72))


def _pivot(canvas: Canvas, rng: Rng, x: float, y: float, radius: float, angle: float) -> None:
    greens: tuple[Colour, ...] = ((70, 140, 58), (92, 156, 66), (58, 120, 62))
    tone = greens[int(rng.integers(len(greens)))]
    canvas.ellipse(x, y, radius, mix(tone, (150, 130, 90), 0.35))
    canvas.ellipse(x, y, radius * 0.95, tone)
    for share in (0.72, 0.46, 0.22):
        canvas.ellipse(x, y, radius * share, mix(tone, (210, 220, 150), 0.13 + 0.2 * (share < 0.5)))
        canvas.ellipse(x, y, radius * (share - 0.07), tone)
    end = (x + radius * 0.93 * math.cos(angle), y + radius * 0.93 * math.sin(angle))
    canvas.line([(x, y), end], 0.008, (236, 238, 226))


def _turbine(canvas: Canvas, _rng: Rng, x: float, y: float, radius: float, angle: float) -> None:
    light = canvas.light
    foot = (x, y)
    shade = canvas.ground(x, y, 0.45)
    top = (x + light.shadow_x * radius * 1.1, y + light.shadow_y * radius * 1.1)
    canvas.line([foot, top], 0.014, shade)
    canvas.ellipse(x, y, radius * 0.3, (214, 212, 206))
    for blade in range(3):
        turn = angle + blade * 2 * math.pi / 3
        tip = (x + radius * 1.15 * math.cos(turn), y + radius * 1.15 * math.sin(turn))
        # Draw a dark border around the white blades, so that they are visible on snow.
        canvas.line([foot, tip], 0.03, mix(shade, (110, 110, 116), 0.5))
        canvas.line([foot, tip], 0.017, (252, 252, 252))
        far = (top[0] + radius * 0.7 * math.cos(turn), top[1] + radius * 0.7 * math.sin(turn))
        canvas.line([top, far], 0.012, shade)


def _pond(canvas: Canvas, rng: Rng, x: float, y: float, radius: float, _angle: float) -> None:
    turns = np.linspace(0.0, 2 * math.pi, 25)[:-1]
    phase = rng.uniform(0.0, 6.28, 2)
    reach = 1.0 + 0.13 * np.sin(2 * turns + phase[0]) + 0.08 * np.sin(3 * turns + phase[1])
    for scale, colour in ((1.0, (150, 150, 112)), (0.88, (36, 74, 96))):
        outline = [
            (x + radius * scale * r * math.cos(t), y + radius * scale * r * math.sin(t))
            for r, t in zip(reach.tolist(), turns.tolist(), strict=True)
        ]
        canvas.polygon(outline, colour)


def _barn(canvas: Canvas, rng: Rng, x: float, y: float, radius: float, angle: float) -> None:
    roofs: tuple[Colour, ...] = ((164, 52, 42), (178, 66, 50), (142, 46, 44))
    roof = roofs[int(rng.integers(len(roofs)))]
    corners = rotated_rectangle(x, y, radius, radius * 0.6, angle)
    canvas.shadow_of(corners, 0.03)
    canvas.polygon(corners, roof)
    upper = rotated_rectangle(
        x + radius * 0.3 * math.sin(angle),
        y - radius * 0.3 * math.cos(angle),
        radius,
        radius * 0.3,
        angle,
    )
    canvas.polygon(upper, mix(roof, (255, 255, 255), 0.22))


def _tennis(canvas: Canvas, rng: Rng, x: float, y: float, radius: float, angle: float) -> None:
    outer = (54.0, 120.0, 84.0) if rng.random() < 0.6 else (176.0, 92.0, 66.0)
    inner = (60.0, 100.0, 170.0) if outer[0] < 100 else (204.0, 116.0, 82.0)
    canvas.polygon(rotated_rectangle(x, y, radius * 0.75, radius, angle), outer)
    canvas.polygon(rotated_rectangle(x, y, radius * 0.5, radius * 0.78, angle), (240, 240, 240))
    for sign in (-1, 1):
        at_x = x - sign * radius * 0.36 * math.sin(angle)
        at_y = y + sign * radius * 0.36 * math.cos(angle)
        canvas.polygon(rotated_rectangle(at_x, at_y, radius * 0.4, radius * 0.3, angle), inner)


def _greenhouse(canvas: Canvas, _rng: Rng, x: float, y: float, radius: float, angle: float) -> None:
    corners = rotated_rectangle(x, y, radius, radius * 0.85, angle)
    canvas.shadow_of(corners, 0.014)
    canvas.polygon(corners, (150, 166, 168))
    cos, sin = math.cos(angle), math.sin(angle)
    spans = max(3, round(radius / 0.018))
    for span in range(spans):
        v = (span - (spans - 1) / 2) * (1.66 * radius / spans)
        canvas.polygon(
            rotated_rectangle(x - v * sin, y + v * cos, radius * 0.96, 0.5 * radius / spans, angle),
            (236, 242, 242),
        )


def _island(canvas: Canvas, rng: Rng, x: float, y: float, radius: float, _angle: float) -> None:
    turns = np.linspace(0.0, 2 * math.pi, 31)[:-1]
    phase = rng.uniform(0.0, 6.28, 2)
    reach = 1.0 + 0.16 * np.sin(2 * turns + phase[0]) + 0.1 * np.sin(5 * turns + phase[1])
    layers: tuple[tuple[float, Colour], ...] = (
        (1.05, (62, 140, 156)),
        (0.88, (226, 208, 166)),
        (0.72, (70, 106, 54)),
        (0.4, (56, 90, 46)),
    )
    for scale, colour in layers:
        canvas.polygon(
            [
                (x + radius * scale * r * math.cos(t), y + radius * scale * r * math.sin(t))
                for r, t in zip(reach.tolist(), turns.tolist(), strict=True)
            ],
            colour,
        )


def _clearing(canvas: Canvas, rng: Rng, x: float, y: float, radius: float, angle: float) -> None:
    tones: tuple[Colour, ...] = ((170, 140, 102), (150, 128, 92), (184, 156, 116))
    tone = tones[int(rng.integers(len(tones)))]
    edge = rotated_rectangle(x, y, radius, radius * 0.85, angle)
    canvas.polygon(edge, tone)
    for part in rng.uniform(-0.75, 0.75, (7, 2)).tolist():
        canvas.ellipse(x + part[0] * radius, y + part[1] * radius * 0.8, 0.008, (112, 92, 66))


def _warehouse(canvas: Canvas, rng: Rng, x: float, y: float, radius: float, angle: float) -> None:
    cos, sin = math.cos(angle), math.sin(angle)

    def block(u: float, v: float, half_u: float, half_v: float, colour: Colour) -> None:
        at = x + radius * (u * cos - v * sin), y + radius * (u * sin + v * cos)
        canvas.polygon(rotated_rectangle(*at, radius * half_u, radius * half_v, angle), colour)

    block(0.0, 0.12, 1.12, 0.86, (118, 118, 122))
    hall = rotated_rectangle(
        x + radius * 0.2 * sin, y - radius * 0.2 * cos, radius, radius * 0.46, angle
    )
    canvas.shadow_of(hall, 0.03)
    tones: tuple[Colour, ...] = ((240, 240, 238), (226, 232, 238), (236, 228, 214))
    tone = tones[int(rng.integers(len(tones)))]
    canvas.polygon(hall, tone)
    block(0.0, -0.2, 0.94, 0.03, mix(tone, (60, 70, 84), 0.4))
    for light in (-0.7, -0.35, 0.0, 0.35, 0.7):
        block(light, -0.2, 0.05, 0.34, (126, 152, 176))
    # Draw trucks at the loading docks. The trucks face away from the building.
    for dock, pick in zip(
        (-0.8, -0.48, -0.16, 0.16, 0.48, 0.8), rng.random(6).tolist(), strict=True
    ):
        if pick < 0.8:
            colours: tuple[Colour, ...] = ((200, 60, 48), (238, 238, 236), (56, 92, 158))
            block(dock, 0.55, 0.09, 0.24, colours[int(pick / 0.8 * 2.999)])


def _bridge(canvas: Canvas, _rng: Rng, x: float, y: float, radius: float, angle: float) -> None:
    across = angle + math.pi / 2
    deck = rotated_rectangle(x, y, radius * 1.25, radius * 0.3, across)
    canvas.shadow_of(deck, 0.03)
    canvas.polygon(deck, (222, 216, 204))
    canvas.polygon(rotated_rectangle(x, y, radius * 1.25, radius * 0.2, across), (104, 104, 108))
    cos, sin = math.cos(across), math.sin(across)
    for part in (-1.0, -0.4, 0.2, 0.8):
        first = x + radius * part * cos, y + radius * part * sin
        second = x + radius * (part + 0.3) * cos, y + radius * (part + 0.3) * sin
        canvas.line([first, second], 0.008, (244, 242, 230))
    for end in (-1.25, 1.25):
        middle = x + radius * end * cos, y + radius * end * sin
        canvas.polygon(
            rotated_rectangle(*middle, radius * 0.12, radius * 0.42, across), (170, 160, 142)
        )


def _quarry(canvas: Canvas, rng: Rng, x: float, y: float, radius: float, _angle: float) -> None:
    light = canvas.light
    turns = np.linspace(0.0, 2 * math.pi, 19)[:-1]
    jag = 1.0 + rng.uniform(-0.1, 0.1, len(turns))
    tones: tuple[Colour, ...] = ((214, 206, 190), (200, 198, 194), (222, 202, 170))
    tone = tones[int(rng.integers(len(tones)))]

    def outline(scale: float, shift: float) -> list[Point]:
        # Each terrace of the quarry is bright on the side that faces the sun, and dark on the
        # opposite side.
        dx, dy = light.shadow_x * shift * radius, light.shadow_y * shift * radius
        return [
            (x + dx + radius * scale * r * math.cos(t), y + dy + radius * scale * r * math.sin(t))
            for r, t in zip(jag.tolist(), turns.tolist(), strict=True)
        ]

    for step, scale in enumerate((1.05, 0.8, 0.56, 0.32)):
        canvas.polygon(outline(scale, 0.0), mix(tone, (66, 60, 54), 0.62))
        canvas.polygon(outline(scale - 0.05, 0.07), mix(tone, (120, 112, 104), 0.22 * step))


def _interchange(
    canvas: Canvas, _rng: Rng, x: float, y: float, radius: float, angle: float
) -> None:
    cos, sin = math.cos(angle), math.sin(angle)

    def place(u: float, v: float) -> Point:
        return x + radius * (u * cos - v * sin), y + radius * (u * sin + v * cos)

    asphalt, verge = (108.0, 108.0, 114.0), (122.0, 162.0, 88.0)
    for scale, colour in ((1.3, asphalt), (1.16, verge)):
        # The outer ramps form a diamond. The corners of the diamond are on the two roads.
        corners = ((scale, 0.0), (0.0, scale), (-scale, 0.0), (0.0, -scale))
        canvas.polygon([place(u, v) for u, v in corners], colour)
    for i, j in ((-1, -1), (1, -1), (-1, 1), (1, 1)):
        loop = place(0.5 * i, 0.52 * j)
        for scale, colour in ((0.44, (226, 222, 210)), (0.39, asphalt), (0.22, verge)):
            canvas.ellipse(*loop, radius * scale, colour)
    for half, colour in ((0.052, (150.0, 152.0, 136.0)), (0.044, asphalt)):
        canvas.polygon(rotated_rectangle(x, y, radius * 1.3, half, angle), colour)
    canvas.line([place(-1.3, 0.0), place(1.3, 0.0)], 0.016, verge)
    over = rotated_rectangle(x, y, radius * 1.35, radius * 0.2, angle + math.pi / 2)
    canvas.shadow_of(over, 0.012)
    canvas.polygon(over, (232, 228, 216))
    canvas.polygon(
        rotated_rectangle(x, y, radius * 1.25, radius * 0.15, angle + math.pi / 2), (96, 96, 102)
    )
    canvas.line([place(0, -1.25), place(0, 1.25)], 0.008, (240, 236, 220))


_DRY = frozenset({"desert", "bare_land"})
_GREEN = frozenset({"grassland", "farmland"})

OBJECT_KINDS: Mapping[str, ObjectKind] = MappingProxyType(
    {
        "storage_tank": ObjectKind(
            (("storage tank", "storage tanks"), ("fuel tank", "fuel tanks")),
            _DRY | {"industrial", "grassland", "harbour"},
            (1, 6),
            0.043,
            0.066,
            (150.0, 900.0),
            _tank,
            pad=(168, 160, 146),
        ),
        "ship": ObjectKind(
            (("ship", "ships"), ("vessel", "vessels")),
            frozenset({"sea", "beach", "harbour"}),
            (1, 6),
            0.043,
            0.066,
            (200.0, 1500.0),
            _ship,
            on="water",
        ),
        "aircraft": ObjectKind(
            (("airplane", "airplanes"), ("aircraft", "aircraft")),
            frozenset({"grassland", "bare_land", "desert", "farmland"}),
            (1, 6),
            0.045,
            0.07,
            (150.0, 1200.0),
            _aircraft,
            beside="runway",
            pad=(128, 128, 130),
            weight=12.0,
        ),
        "solar_farm": ObjectKind(
            (("solar farm", "solar farms"), ("solar park", "solar parks")),
            _DRY | _GREEN,
            (1, 1),
            0.085,
            0.14,
            (200.0, 2200.0),
            _solar_farm,
        ),
        "swimming_pool": ObjectKind(
            (("swimming pool", "swimming pools"), ("blue pool", "blue pools")),
            frozenset({"residential"}),
            (1, 2),
            0.045,
            0.066,
            (80.0, 250.0),
            _pool,
            pad=(134, 154, 100),
            weight=4.0,
        ),
        "baseball_field": ObjectKind(
            (("baseball field", "baseball fields"), ("baseball diamond", "baseball diamonds")),
            frozenset({"residential", "grassland"}),
            (1, 1),
            0.085,
            0.14,
            (150.0, 700.0),
            _baseball,
            weight=2.0,
        ),
        "stadium": ObjectKind(
            (("stadium", "stadiums"), ("sports stadium", "sports stadiums")),
            frozenset({"residential", "commercial", "grassland", "bare_land"}),
            (1, 1),
            0.085,
            0.145,
            (200.0, 1200.0),
            _stadium,
        ),
        "parking_lot": ObjectKind(
            (("parking lot", "parking lots"), ("car park", "car parks")),
            frozenset({"industrial", "residential", "commercial", "beach"}),
            (1, 1),
            0.085,
            0.145,
            (100.0, 600.0),
            _parking,
        ),
        "warehouse": ObjectKind(
            (("warehouse", "warehouses"), ("logistics hall", "logistics halls")),
            _GREEN | {"bare_land", "commercial", "harbour", "snow"},
            (1, 1),
            0.085,
            0.14,
            (150.0, 1200.0),
            _warehouse,
        ),
        "bridge": ObjectKind(
            (("bridge", "bridges"), ("concrete bridge", "concrete bridges")),
            frozenset(
                {"grassland", "farmland", "forest", "bare_land", "residential", "mountains"}
                | {"wetland", "snow"}
            ),
            (1, 1),
            0.085,
            0.125,
            (100.0, 1500.0),
            _bridge,
            on="river",
            beside="river",
            weight=4.0,
        ),
        "interchange": ObjectKind(
            (("interchange", "interchanges"), ("cloverleaf junction", "cloverleaf junctions")),
            frozenset(
                {"grassland", "farmland", "forest", "bare_land", "desert", "residential"}
                | {"industrial", "commercial"}
            ),
            (1, 1),
            0.105,
            0.15,
            (250.0, 2000.0),
            _interchange,
            on="motorway",
            beside="motorway",
            weight=6.0,
        ),
        "quarry": ObjectKind(
            (("quarry", "quarries"), ("open pit", "open pits")),
            frozenset({"forest", "grassland", "bare_land", "mountains", "desert", "farmland"}),
            (1, 1),
            0.085,
            0.145,
            (200.0, 2200.0),
            _quarry,
        ),
        "roundabout": ObjectKind(
            (("roundabout", "roundabouts"), ("traffic circle", "traffic circles")),
            frozenset({"grassland", "farmland", "residential", "bare_land", "forest"}),
            (1, 1),
            0.075,
            0.12,
            (80.0, 600.0),
            _roundabout,
            on="road",
            beside="road",
            weight=4.0,
        ),
        "irrigated_circle": ObjectKind(
            (
                ("circular irrigated field", "circular irrigated fields"),
                ("center pivot field", "center pivot fields"),
            ),
            _DRY | {"farmland"},
            (1, 1),
            0.095,
            0.15,
            (700.0, 2200.0),
            _pivot,
        ),
        "wind_turbine": ObjectKind(
            (("wind turbine", "wind turbines"),),
            _GREEN | {"desert", "sea", "mountains", "snow"},
            (1, 6),
            0.045,
            0.068,
            (300.0, 2200.0),
            _turbine,
        ),
        "pond": ObjectKind(
            (("pond", "ponds"), ("lake", "lakes")),
            _GREEN | {"forest", "orchard", "residential", "mountains"},
            (1, 1),
            0.08,
            0.14,
            (80.0, 2000.0),
            _pond,
        ),
        "barn": ObjectKind(
            (("red barn", "red barns"), ("farm building", "farm buildings")),
            _GREEN | {"orchard", "snow"},
            (1, 4),
            0.045,
            0.068,
            (80.0, 1200.0),
            _barn,
        ),
        "tennis_court": ObjectKind(
            (("tennis court", "tennis courts"),),
            frozenset({"residential", "grassland"}),
            (1, 4),
            0.05,
            0.07,
            (80.0, 400.0),
            _tennis,
            weight=2.5,
        ),
        "greenhouse": ObjectKind(
            (("greenhouse", "greenhouses"), ("glasshouse", "glasshouses")),
            frozenset({"farmland", "bare_land", "orchard"}),
            (1, 1),
            0.08,
            0.135,
            (80.0, 1500.0),
            _greenhouse,
        ),
        "island": ObjectKind(
            (("island", "islands"), ("green island", "green islands")),
            frozenset({"sea"}),
            (1, 1),
            0.07,
            0.13,
            (200.0, 2200.0),
            _island,
            weight=2.0,
        ),
        "clearing": ObjectKind(
            (("clearing", "clearings"), ("logged patch", "logged patches")),
            frozenset({"forest"}),
            (1, 1),
            0.085,
            0.14,
            (100.0, 2200.0),
            _clearing,
        ),
    }
)
