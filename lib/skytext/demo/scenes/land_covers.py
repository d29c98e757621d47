"""The land covers of scenes. Each land cover has a function that paints it, and names.

To add a land cover, write a function that paints it, and add an entry to ``LAND_COVERS``. The scene
generator, the captions and the scores then use the new land cover.
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
    Field,
    mix,
    rotated_rectangle,
)

Box = tuple[float, float, float, float]
"""West, south, east, north in degrees, EPSG:4326."""
Rng = np.random.Generator
Painter = Callable[[Canvas, Rng, str | None], None]
"""A function that draws a whole tile. Its last argument is the side with water, or None."""

SEA_COLOURS: tuple[Colour, ...] = ((18, 52, 92), (22, 68, 106), (16, 60, 84), (30, 78, 112))

SIDE_VECTORS: Mapping[str, tuple[float, float]] = MappingProxyType(
    {"north": (0.0, -1.0), "south": (0.0, 1.0), "east": (1.0, 0.0), "west": (-1.0, 0.0)}
)


@dataclass(frozen=True)
class LandCover:
    """One land cover.

    Attributes:
        names: Noun phrases with articles. The most common phrase is first. If the articles are
            removed, no name contains a name of another land cover.
        textures: Phrases that describe the surface.
        paint: The function that draws the land cover.
        extent_m: Minimum and maximum side length of a plausible tile in metres.
        regions: Regions of the world in which scenes with this land cover are placed.
        sided: True if one side of the tile is water (see ``Scene.water_side``).
    """

    names: tuple[str, ...]
    textures: tuple[str, ...]
    paint: Painter
    extent_m: tuple[float, float]
    regions: tuple[Box, ...]
    sided: bool = False

    @property
    def words(self) -> tuple[str, ...]:
        """The names without their articles."""
        return tuple(
            name.removeprefix("the ").removeprefix("an ").removeprefix("a ") for name in self.names
        )


def _choose(rng: Rng, colours: tuple[Colour, ...]) -> Colour:
    return colours[int(rng.integers(len(colours)))]


def _flat(canvas: Canvas, colour: Colour) -> Field:
    pixels = np.empty((canvas.size_px, canvas.size_px, 3), dtype=np.float32)
    pixels[:] = colour
    return pixels


def _green(canvas: Canvas, lush: Colour, dry: Colour) -> Colour:
    return mix(dry, lush, canvas.light.greenness)


def _modulate(pixels: Field, amount: Field) -> Field:
    # Change the array in place. The allocation of a new array would take more time than the
    # arithmetic.
    pixels *= (1.0 + amount)[..., None]
    return pixels


def _farmland(canvas: Canvas, rng: Rng, _side: str | None) -> None:
    u, v = canvas.turned(float(rng.uniform(0.0, math.pi)))
    # A tile with a larger extent has more parcels.
    num_columns = round(canvas.by_extent(2.6, 5.4) + float(rng.uniform(-0.4, 0.4)))
    num_rows = round(canvas.by_extent(2.8, 6.2) + float(rng.uniform(-0.5, 0.5)))
    cuts_u = np.sort(
        np.linspace(-0.72, 0.72, num_columns + 1) + rng.uniform(-0.07, 0.07, num_columns + 1)
    ).astype(np.float32)
    column = np.searchsorted(cuts_u, u.ravel()).reshape(u.shape)
    jitter = rng.uniform(-0.12, 0.12, num_columns + 2).astype(np.float32)
    rows_at = v * np.float32(num_rows / 1.1) + np.float32(10.0) + jitter[column] * num_rows
    row = rows_at.astype(np.int64)
    parcel = (column * 31 + row * 17) % 23
    lush = canvas.light.greenness
    crops: tuple[Colour, ...] = (
        mix((168, 150, 96), (104, 150, 66), lush),
        mix((150, 128, 88), (74, 122, 52), lush),
        mix((186, 168, 112), (142, 168, 84), lush),
        (196, 176, 108),
        (134, 104, 72),
        (160, 130, 92),
        mix((170, 156, 110), (124, 158, 92), lush),
    )
    palette = np.asarray([_choose(rng, crops) for _ in range(23)], dtype=np.float32)
    palette += rng.uniform(-10, 10, palette.shape).astype(np.float32)
    pixels = palette[parcel]
    stripes = np.where(
        (parcel % 2 == 0), np.sin(u * np.float32(170.0)), np.sin(v * np.float32(170.0))
    )
    furrows = rng.uniform(0.0, 0.07, 23).astype(np.float32)[parcel]
    pixels = _modulate(pixels, stripes * furrows + 0.05 * canvas.noise(rng, 8, 40))
    hedge = (rows_at - row < 0.045 * num_rows / 4).astype(np.float32)
    for cut in cuts_u[1:-1].tolist():
        hedge[np.abs(u - np.float32(cut)) < 0.011] = 1.0
    hedge *= np.float32(0.75)
    canvas.paint(canvas.blend(_choose(rng, ((72, 84, 48), (176, 160, 124))), hedge, pixels))


def _forest(canvas: Canvas, rng: Rng, _side: str | None) -> None:
    crowns = canvas.noise(rng, round(canvas.by_extent(24, 36)), round(canvas.by_extent(42, 60)))
    colour = _choose(
        rng,
        (
            _green(canvas, (38, 76, 36), (72, 82, 46)),
            _green(canvas, (30, 64, 40), (40, 66, 44)),
            _green(canvas, (50, 86, 40), (110, 92, 50)),
        ),
    )
    pixels = _modulate(_flat(canvas, colour), 0.25 * canvas.noise(rng, 5, 9))
    shaded = canvas.shade(crowns, 0.028)
    canvas.paint(_modulate(pixels, 0.42 * shaded + 0.36 * crowns))


def _desert(canvas: Canvas, rng: Rng, _side: str | None) -> None:
    u, _ = canvas.turned(float(rng.uniform(0.0, math.pi)))
    waves = canvas.by_extent(30.0, 60.0) + float(rng.uniform(-4.0, 4.0))
    phase = u * np.float32(waves) + canvas.noise(rng, 4, 8) * np.float32(3.4)
    crest = np.sin(phase)
    dune = crest + np.float32(0.35) * np.cos(phase * np.float32(2.0))
    colour = _choose(rng, ((214, 178, 122), (222, 192, 140), (206, 154, 96), (226, 202, 160)))
    pixels = _modulate(_flat(canvas, colour), 0.05 * canvas.noise(rng, 4, 48))
    canvas.paint(_modulate(pixels, 0.14 * dune + 0.02))


def _bare_land(canvas: Canvas, rng: Rng, _side: str | None) -> None:
    colour = _choose(rng, ((150, 122, 98), (138, 112, 92), (162, 136, 112), (146, 108, 82)))
    pixels = _modulate(_flat(canvas, colour), 0.12 * canvas.noise(rng, 3, 6, 12))
    scraped = np.clip(canvas.noise(rng, 4, 7) * 2.2 - 0.7, 0.0, 0.6)
    pixels = canvas.blend((190, 172, 152), scraped, pixels)
    canvas.paint(_modulate(pixels, 0.13 * canvas.noise(rng, 56, 80)))
    for _ in range(int(rng.integers(1, 4))):
        start, end = rng.random(2), rng.random(2)
        bend = rng.uniform(-0.12, 0.12, 2) + (start + end) / 2
        track = [(float(p[0]), float(p[1])) for p in (start, bend, end)]
        canvas.line(track, 0.009, mix(colour, (255, 240, 220), 0.35))


def _sea(canvas: Canvas, rng: Rng, _side: str | None) -> None:
    canvas.paint(_water(canvas, rng, _choose(rng, SEA_COLOURS)))


def _water(canvas: Canvas, rng: Rng, colour: Colour) -> Field:
    u, v = canvas.turned(float(rng.uniform(0.0, math.pi)))
    swell = np.sin(u * np.float32(95.0) + 3.0 * canvas.noise(rng, 6, 12) + 9.0 * v)
    amount = 0.07 * canvas.noise(rng, 3, 5) + 0.05 * swell + 0.08 * canvas.noise(rng, 40, 72)
    return _modulate(_flat(canvas, colour), amount)


def _beach(canvas: Canvas, rng: Rng, side: str | None) -> None:
    if side is None:
        raise ValueError("a beach has water on one side: water_side is missing")
    towards_x, towards_y = SIDE_VECTORS[side]
    along_x, along_y = -towards_y, towards_x
    x, y = canvas.x - np.float32(0.5), canvas.y - np.float32(0.5)
    along = x * np.float32(along_x) + y * np.float32(along_y)
    reach = x * np.float32(towards_x) + y * np.float32(towards_y)
    bend = np.sin(along * np.float32(rng.uniform(3.0, 7.0)) + np.float32(rng.uniform(0.0, 6.0)))
    depth = (
        reach
        + 0.035 * bend
        + 0.012 * canvas.noise(rng, 5, 12)
        + np.float32(rng.uniform(-0.02, 0.06))
    )
    sand = _choose(rng, ((226, 206, 164), (214, 194, 154), (232, 216, 182)))
    pixels = _modulate(_flat(canvas, sand), 0.05 * canvas.noise(rng, 8, 60))
    scrub = np.clip((-depth - 0.26) * 12.0 + 0.8 * canvas.noise(rng, 9, 20), 0.0, 1.0)
    pixels = canvas.blend(_green(canvas, (88, 112, 64), (128, 120, 78)), scrub, pixels)
    water = _water(canvas, rng, _choose(rng, SEA_COLOURS))
    shallow = np.clip(1.0 - depth * 5.0, 0.0, 0.75)
    water = canvas.blend(_choose(rng, ((72, 170, 176), (58, 150, 160))), shallow, water)
    wet = np.clip(depth * 60.0 + 0.5, 0.0, 1.0)
    pixels = pixels + (water - pixels) * wet[..., None]
    surf = np.exp(-((depth - 0.012) ** 2) / np.float32(2 * 0.009**2))
    second = np.exp(-((depth - 0.055) ** 2) / np.float32(2 * 0.006**2))
    foam = np.clip(surf * 0.85 + second * np.clip(canvas.noise(rng, 14) + 0.3, 0, 0.7), 0, 1)
    canvas.paint(canvas.blend((246, 248, 248), foam.astype(np.float32), pixels))


def _snow(canvas: Canvas, rng: Rng, _side: str | None) -> None:
    drifts = canvas.noise(rng, 3, 6, 12) + 0.25 * canvas.noise(rng, 30)
    shaded = canvas.shade(drifts, 0.11)
    pixels = canvas.blend(
        (178, 196, 224), np.clip(-shaded, 0.0, 1.0), _flat(canvas, (240, 243, 248))
    )
    canvas.paint(pixels + 4.0 * canvas.noise(rng, 60)[..., None])


def _grassland(canvas: Canvas, rng: Rng, _side: str | None) -> None:
    lush, dry = _choose(rng, ((126, 160, 84), (112, 150, 74), (140, 166, 92))), (172, 166, 104)
    pixels = _modulate(_flat(canvas, _green(canvas, lush, dry)), 0.09 * canvas.noise(rng, 3, 6))
    canvas.paint(_modulate(pixels, 0.05 * canvas.noise(rng, 40, 70)))
    shrub = _green(canvas, (62, 92, 46), (98, 96, 58))
    for x, y, size in rng.random((int(rng.integers(5, 20)), 3)).tolist():
        radius = 0.006 + 0.007 * size
        canvas.round_shadow(x, y, radius, 0.008)
        canvas.ellipse(x, y, radius, shrub)


def _residential(canvas: Canvas, rng: Rng, _side: str | None) -> None:
    lawn = _green(canvas, (118, 146, 86), (150, 146, 102))
    canvas.paint(_modulate(_flat(canvas, lawn), 0.14 * canvas.noise(rng, 12, 40)))
    angle = float(rng.uniform(0.0, math.pi))
    cos, sin = math.cos(angle), math.sin(angle)
    pitch = canvas.by_extent(0.13, 0.1) + float(rng.uniform(-0.005, 0.005))
    depth = canvas.by_extent(0.13, 0.105) + float(rng.uniform(-0.005, 0.005))
    roofs: tuple[Colour, ...] = (
        (176, 92, 66),
        (152, 84, 70),
        (128, 122, 120),
        (196, 128, 92),
        (110, 98, 96),
        (170, 150, 136),
    )
    choice = [_choose(rng, roofs) for _ in range(3)]
    jitter = rng.random((16, 16, 5)).tolist()
    for row in range(-7, 8):
        # Draw two rows of houses, and then a street.
        street = row % 2 == 0
        offset_v = row * depth + (0.018 if street else -0.018)
        if street:
            middle = row * depth - depth / 2
            ends = [(0.5 + u * cos - middle * sin, 0.5 + u * sin + middle * cos) for u in (-1, 1)]
            canvas.line(ends, 0.022, (158, 156, 152))
        for column in range(-7, 8):
            shift, width, height, keep, tone = jitter[row + 7][column + 7]
            u, v = column * pitch + 0.02 * shift, offset_v
            x, y = 0.5 + u * cos - v * sin, 0.5 + u * sin + v * cos
            if keep < 0.08 or not (-0.06 < x < 1.06 and -0.06 < y < 1.06):
                continue
            _house(
                canvas,
                (x, y),
                0.027 + 0.011 * width,
                0.021 + 0.009 * height,
                angle,
                choice[int(tone * 2.999)],
            )


def _house(
    canvas: Canvas,
    at: tuple[float, float],
    width: float,
    height: float,
    angle: float,
    roof: Colour,
) -> None:
    x, y = at
    corners = rotated_rectangle(x, y, width, height, angle)
    canvas.shadow_of(corners, 0.017)
    canvas.polygon(corners, roof)
    # A gable roof has two halves. The half that faces away from the sun is darker.
    ridge = [
        corners[0],
        corners[1],
        _middle(corners[1], corners[2]),
        _middle(corners[3], corners[0]),
    ]
    canvas.polygon(ridge, mix(roof, (255, 255, 255), 0.16))


def _middle(a: tuple[float, float], b: tuple[float, float]) -> tuple[float, float]:
    return (a[0] + b[0]) / 2, (a[1] + b[1]) / 2


def _industrial(canvas: Canvas, rng: Rng, _side: str | None) -> None:
    yard = _choose(rng, ((150, 148, 144), (138, 138, 138), (162, 156, 146)))
    canvas.paint(_modulate(_flat(canvas, yard), 0.07 * canvas.noise(rng, 5, 30)))
    angle = float(rng.uniform(0.0, math.pi))
    cos, sin = math.cos(angle), math.sin(angle)
    roofs: tuple[Colour, ...] = (
        (214, 216, 218),
        (232, 230, 226),
        (120, 146, 178),
        (176, 178, 180),
        (104, 106, 112),
        (170, 120, 100),
    )
    step = 0.31
    for row in range(-2, 3):
        for column in range(-2, 3):
            width, height, roof = (
                rng.uniform(0.095, 0.135),
                rng.uniform(0.08, 0.125),
                _choose(rng, roofs),
            )
            u, v = column * step, row * step
            x, y = 0.5 + u * cos - v * sin, 0.5 + u * sin + v * cos
            corners = rotated_rectangle(x, y, float(width), float(height), angle)
            canvas.shadow_of(corners, 0.035)
            canvas.polygon(corners, roof)
            seams = int(rng.integers(3, 6))
            for part in range(1, seams):
                share = part / seams
                top = mix_point(corners[0], corners[1], share)
                bottom = mix_point(corners[3], corners[2], share)
                canvas.line([top, bottom], 0.006, mix(roof, (40, 40, 50), 0.2))


def mix_point(a: tuple[float, float], b: tuple[float, float], share: float) -> tuple[float, float]:
    """Interpolate between two points. The result is ``a`` for ``share`` 0 and ``b`` for 1."""
    return a[0] + (b[0] - a[0]) * share, a[1] + (b[1] - a[1]) * share


def _commercial(canvas: Canvas, rng: Rng, _side: str | None) -> None:
    paving = _choose(rng, ((186, 182, 174), (174, 172, 168), (192, 184, 172)))
    canvas.paint(_modulate(_flat(canvas, paving), 0.05 * canvas.noise(rng, 8, 40)))
    angle = float(rng.uniform(0.0, math.pi))
    cos, sin = math.cos(angle), math.sin(angle)
    step = canvas.by_extent(0.3, 0.25)

    def place(u: float, v: float) -> tuple[float, float]:
        return 0.5 + u * cos - v * sin, 0.5 + u * sin + v * cos

    for row in range(-3, 4):
        across = (row + 0.5) * step
        for ends in (
            [place(-1.0, across), place(1.0, across)],
            [place(across, -1.0), place(across, 1.0)],
        ):
            canvas.line(ends, 0.046, (86, 86, 92))
            canvas.line(ends, 0.007, (226, 200, 120))
    dice = rng.random((7, 7, 2, 2, 5)).tolist()
    for row in range(-3, 4):
        for column in range(-3, 4):
            x, y = place(column * step, row * step)
            if not (-0.2 < x < 1.2 and -0.2 < y < 1.2):
                continue
            for i, j in ((-1, -1), (1, -1), (-1, 1), (1, 1)):
                draw = dice[row + 3][column + 3][(i + 1) // 2][(j + 1) // 2]
                at = place(column * step + i * 0.21 * step, row * step + j * 0.21 * step)
                _tower(canvas, at, step, angle, draw)


def _tower(
    canvas: Canvas, at: tuple[float, float], step: float, angle: float, draw: list[float]
) -> None:
    """Draw one office block.

    ``draw`` contains five random numbers from 0 to 1. They determine the width, depth, height,
    colour and use of the block.
    """
    x, y = at
    if draw[4] < 0.1:
        # Draw a small green area instead of a building.
        canvas.ellipse(x, y, 0.13 * step, _green(canvas, (84, 124, 62), (112, 116, 70)))
        return
    tones: tuple[Colour, ...] = (
        (96, 122, 150),
        (206, 204, 200),
        (150, 140, 130),
        (120, 128, 136),
        (188, 170, 150),
        (70, 92, 116),
    )
    tone = tones[int(draw[3] * 5.999)]
    width, depth = step * (0.12 + 0.07 * draw[0]), step * (0.12 + 0.07 * draw[1])
    corners = rotated_rectangle(x, y, width, depth, angle)
    canvas.shadow_of(corners, 0.03 + 0.06 * draw[2])
    canvas.polygon(corners, mix(tone, (30, 34, 40), 0.3))
    canvas.polygon(rotated_rectangle(x, y, width * 0.84, depth * 0.84, angle), tone)
    plant = rotated_rectangle(x, y, width * 0.34, depth * 0.34, angle)
    canvas.polygon(plant, mix(tone, (255, 255, 255), 0.5))


def _harbour(canvas: Canvas, rng: Rng, side: str | None) -> None:
    if side is None:
        raise ValueError("a harbour has water on one side: water_side is missing")
    towards_x, towards_y = SIDE_VECTORS[side]
    edge = float(rng.uniform(-0.02, 0.03))
    water = _water(canvas, rng, _choose(rng, ((38, 78, 92), (46, 88, 96), (30, 66, 88))))
    canvas.paint(water)
    # The direction u is along the quay, and the direction v is towards the water.
    turn = float(rng.uniform(-0.05, 0.05))
    base = math.atan2(towards_y, towards_x) - math.pi / 2 + turn
    cos, sin = math.cos(base), math.sin(base)

    def block(u: float, v: float, half_u: float, half_v: float, colour: Colour) -> None:
        x, y = 0.5 + u * cos - v * sin, 0.5 + u * sin + v * cos
        canvas.polygon(rotated_rectangle(x, y, half_u, half_v, base), colour)

    concrete = _choose(rng, ((176, 174, 168), (188, 182, 172), (162, 164, 164)))
    for jetty in range(int(rng.integers(2, 4))):
        u = -0.36 + 0.36 * jetty + float(rng.uniform(-0.05, 0.05))
        block(u, edge, 0.026, 0.13, mix(concrete, (60, 60, 60), 0.15))
    block(0.0, edge - 0.5, 1.0, 0.5, concrete)
    block(0.0, edge - 0.012, 1.0, 0.012, (112, 108, 100))
    block(0.0, edge - 0.06, 1.0, 0.005, (222, 196, 92))
    boxes: tuple[Colour, ...] = (
        (176, 62, 50),
        (52, 96, 152),
        (206, 138, 58),
        (72, 128, 98),
        (214, 214, 212),
        (120, 70, 60),
    )
    picks = rng.random((4, 24)).tolist()
    for row in range(4):
        v = edge - 0.125 - 0.115 * row
        for column in range(24):
            pick = picks[row][column]
            if pick > 0.86:
                continue
            u = -0.69 + 0.06 * column
            block(u + 0.006, v + 0.006, 0.026, 0.034, (84, 84, 84))
            block(u, v, 0.026, 0.034, boxes[int(pick / 0.86 * 5.999)])


def _wetland(canvas: Canvas, rng: Rng, _side: str | None) -> None:
    reeds = _green(canvas, (106, 120, 62), (142, 128, 76))
    pixels = _modulate(_flat(canvas, reeds), 0.16 * canvas.noise(rng, 10, 36))
    wet = canvas.noise(rng, 6, 11, 18)
    pixels = canvas.blend((76, 92, 60), np.clip(wet * 7.0 + 1.6, 0.0, 0.8), pixels)
    pixels = canvas.blend((34, 54, 62), np.clip(wet * 9.0 - 0.2, 0.0, 1.0), pixels)
    canvas.paint(pixels)


def _mountains(canvas: Canvas, rng: Rng, _side: str | None) -> None:
    rough = 1.0 - np.abs(canvas.noise(rng, 4)) * 1.6
    height = (
        rough + 0.45 * (1.0 - np.abs(canvas.noise(rng, 9)) * 2.0) + 0.16 * canvas.noise(rng, 20, 40)
    )
    rock = _choose(rng, ((128, 116, 104), (112, 106, 104), (138, 118, 98)))
    pixels = _flat(canvas, rock)
    low: Field = np.clip(-height * 1.4 + 0.6, 0.0, 0.85)
    pixels = canvas.blend(_green(canvas, (84, 100, 66), (116, 104, 78)), low, pixels)
    canvas.paint(_modulate(pixels, 0.62 * canvas.shade(height, 0.13)))


def _orchard(canvas: Canvas, rng: Rng, _side: str | None) -> None:
    soil = _choose(rng, ((184, 160, 124), (172, 150, 112), (196, 174, 140)))
    soil = mix(soil, (150, 164, 100), 0.5 * canvas.light.greenness * float(rng.random()))
    pixels = _modulate(_flat(canvas, soil), 0.06 * canvas.noise(rng, 6, 40))
    u, v = canvas.turned(float(rng.uniform(0.0, math.pi)))
    rate = np.float32((canvas.by_extent(12.5, 17.0) + rng.uniform(-0.5, 0.5)) * 2 * math.pi)
    trees = np.cos(u * rate) + np.cos(v * rate)
    crown = np.clip((trees - 0.75) * 3.0, 0.0, 1.0)
    ring = np.clip((trees - 0.35) * 1.8, 0.0, 0.45)
    pixels = canvas.blend((84, 74, 56), ring, pixels)
    leaf = _green(canvas, (58, 98, 46), (84, 98, 52))
    canvas.paint(canvas.blend(leaf, crown, pixels))


LAND_COVERS: Mapping[str, LandCover] = MappingProxyType(
    {
        "farmland": LandCover(
            ("farmland", "cropland", "cultivated land"),
            ("divided into rectangular fields", "with a patchwork of green and brown parcels"),
            _farmland,
            (400.0, 2200.0),
            ((-100.0, 36.0, -90.0, 46.0), (0.0, 44.0, 24.0, 52.0), (75.0, 24.0, 84.0, 30.0)),
        ),
        "forest": LandCover(
            ("a forest", "woodland"),
            ("with dense tree crowns", "with a closed dark green canopy"),
            _forest,
            (100.0, 2200.0),
            ((-124.0, 44.0, -118.0, 56.0), (10.0, 48.0, 30.0, 62.0), (-70.0, -10.0, -56.0, 2.0)),
        ),
        "desert": LandCover(
            ("a desert", "a sandy desert"),
            ("with rippled sand", "with long wavy ridges of sand"),
            _desert,
            (200.0, 2200.0),
            ((-8.0, 20.0, 28.0, 29.0), (44.0, 18.0, 54.0, 27.0), (124.0, -30.0, 134.0, -23.0)),
        ),
        "bare_land": LandCover(
            ("bare land", "bare soil"),
            ("with rough brown earth", "with mottled brown ground and faint tracks"),
            _bare_land,
            (80.0, 2000.0),
            ((-112.0, 32.0, -104.0, 38.0), (30.0, 36.0, 44.0, 40.0), (-70.0, -34.0, -66.0, -24.0)),
        ),
        "sea": LandCover(
            ("the open sea", "the ocean", "open water"),
            ("with small waves", "with a dark blue rippled surface"),
            _sea,
            (200.0, 2200.0),
            ((-60.0, 20.0, -20.0, 45.0), (60.0, -30.0, 90.0, 0.0), (-170.0, -20.0, -130.0, 20.0)),
        ),
        "beach": LandCover(
            ("a sandy beach", "a sandy coast"),
            ("with white surf along the waterline", "with breaking waves and pale sand"),
            _beach,
            (100.0, 1500.0),
            ((-9.0, 36.0, -8.0, 42.0), (114.0, -34.0, 116.0, -28.0), (-81.0, 26.0, -79.0, 32.0)),
            sided=True,
        ),
        "snow": LandCover(
            ("a snowfield", "snow-covered land"),
            ("with soft white drifts", "with bluish shadows on smooth white ground"),
            _snow,
            (200.0, 2200.0),
            ((-50.0, 64.0, -40.0, 76.0), (14.0, 66.0, 26.0, 70.0), (90.0, 66.0, 120.0, 74.0)),
        ),
        "grassland": LandCover(
            ("grassland", "a meadow"),
            ("with scattered shrubs", "with a smooth green surface and a few bushes"),
            _grassland,
            (80.0, 2000.0),
            ((-106.0, 40.0, -98.0, 48.0), (60.0, 48.0, 80.0, 53.0), (-62.0, -38.0, -58.0, -32.0)),
        ),
        "residential": LandCover(
            ("a residential area", "a housing estate"),
            ("with rows of small houses", "with many little roofs and gardens"),
            _residential,
            (80.0, 350.0),
            ((-84.0, 33.0, -83.0, 35.0), (-3.0, 51.0, 0.0, 54.0), (139.0, 35.0, 140.5, 36.5)),
        ),
        "industrial": LandCover(
            ("an industrial area", "an industrial zone"),
            ("with large flat roofs", "with wide halls on paved ground"),
            _industrial,
            (150.0, 900.0),
            ((6.0, 50.5, 9.0, 52.0), (-88.5, 41.0, -87.0, 42.5), (120.0, 30.0, 122.0, 32.5)),
        ),
        "commercial": LandCover(
            ("a commercial district", "a business district", "a downtown area"),
            ("with tall buildings along a street grid", "with office blocks and long shadows"),
            _commercial,
            (120.0, 500.0),
            ((-74.05, 40.6, -73.9, 40.85), (139.6, 35.6, 139.85, 35.75), (8.5, 50.0, 8.8, 50.2)),
        ),
        "harbour": LandCover(
            ("a harbour", "a port"),
            (
                "with stacked containers on a straight quay",
                "with a concrete quay and short jetties",
            ),
            _harbour,
            (200.0, 1200.0),
            ((4.0, 51.9, 4.4, 52.0), (103.7, 1.2, 103.9, 1.3), (-118.3, 33.7, -118.2, 33.8)),
            sided=True,
        ),
        "wetland": LandCover(
            ("a wetland", "a marsh"),
            ("with dark pools between reeds", "with winding patches of dark water"),
            _wetland,
            (100.0, 2200.0),
            ((22.0, -20.0, 24.0, -18.5), (-81.5, 25.2, -80.5, 26.5), (28.5, 44.5, 29.8, 45.5)),
        ),
        "mountains": LandCover(
            ("mountains", "mountainous terrain"),
            ("with rocky ridges and shaded valleys", "with steep bare slopes"),
            _mountains,
            (800.0, 2200.0),
            ((6.0, 45.0, 13.0, 47.0), (78.0, 30.0, 90.0, 34.0), (-72.0, -20.0, -68.0, -12.0)),
        ),
        "orchard": LandCover(
            ("an orchard", "a tree plantation"),
            ("with trees in regular rows", "with evenly spaced trees on pale soil"),
            _orchard,
            (80.0, 500.0),
            ((-6.0, 37.0, -3.0, 39.0), (-120.5, 35.5, -118.8, 37.5), (15.0, 40.5, 18.0, 41.8)),
        ),
    }
)
