"""A drawing surface in unit coordinates. A scene has the same content at any size in pixels.

Coordinates are from 0 to 1. The x axis points east, and the y axis points south. Therefore the top
of a tile is north. The number of random draws does not depend on the resolution. Therefore a seed
gives the same scene at 112 px and at 224 px.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFilter

Field = npt.NDArray[np.float32]
"""A float32 array with one value per pixel, shape (height, width)."""
Colour = tuple[float, float, float]
"""Red, green and blue, each from 0 to 255."""
Point = tuple[float, float]
"""(x, y) in unit coordinates."""

_OVERSAMPLING = 2


@dataclass(frozen=True)
class Light:
    """The light of a scene, and the season of its plants.

    Attributes:
        brightness: Factor for every pixel, about 0.85 to 1.12.
        haze: Share of white haze in a pixel, from 0 (clear) to 0.25.
        warmth: The red values are increased by this share, and the blue values are decreased by it.
            The share is from -0.05 to 0.05.
        shadow_x: East component of the direction of the shadows. The direction is a unit vector.
        shadow_y: South component of the direction of the shadows.
        greenness: State of the plants, from 0 (dry season) to 1 (growing season).
    """

    brightness: float
    haze: float
    warmth: float
    shadow_x: float
    shadow_y: float
    greenness: float


@dataclass(frozen=True)
class Sensor:
    """The effects of the camera.

    Attributes:
        noise: Maximum error of a pixel value (0 to 255), from 1 to 8. The error is uniformly
            distributed.
        blur: Radius of the blur, as a share of the tile's side, from 0 to 0.005.
    """

    noise: int
    blur: float


_CLEAR_SENSOR = Sensor(noise=1, blur=0.0)
_LEAST_BLUR_PX = 0.2
"""Minimum radius of the blur in pixels. A smaller radius has no visible effect."""


def mix(first: Colour, second: Colour, share: float) -> Colour:
    """Mix two colours. With ``share`` 0 the result is ``first``, and with 1 it is ``second``."""
    return (
        first[0] + (second[0] - first[0]) * share,
        first[1] + (second[1] - first[1]) * share,
        first[2] + (second[2] - first[2]) * share,
    )


def rotated_rectangle(
    x: float, y: float, half_width: float, half_height: float, angle: float
) -> list[Point]:
    """Return the four corners of a rectangle with centre (x, y), rotated by ``angle`` radians."""
    cos, sin = math.cos(angle), math.sin(angle)
    corners = ((-1.0, -1.0), (1.0, -1.0), (1.0, 1.0), (-1.0, 1.0))
    return [
        (
            x + i * half_width * cos - j * half_height * sin,
            y + i * half_width * sin + j * half_height * cos,
        )
        for i, j in corners
    ]


class Canvas:
    """A square RGB surface. It is drawn at twice its size, and then scaled down."""

    def __init__(
        self,
        size_px: int,
        light: Light,
        sensor: Sensor = _CLEAR_SENSOR,
        *,
        extent_share: float = 0.5,
    ) -> None:
        """Make an empty surface.

        Args:
            size_px: Side length in pixels.
            light: The light of the scene.
            sensor: The effects of the camera.
            extent_share: Extent of the tile on the ground, from 0 to 1. 0 is the minimum plausible
                extent for the land cover, and 1 is the maximum plausible extent. A tile with a
                larger extent has a finer texture.
        """
        self.size_px = size_px
        self.light = light
        self.sensor = sensor
        self.extent_share = extent_share
        self._big = size_px * _OVERSAMPLING
        self._image = Image.new("RGB", (self._big, self._big))
        self._draw = ImageDraw.Draw(self._image)
        axis = (np.arange(size_px, dtype=np.float32) + 0.5) / size_px
        self.x: Field = np.broadcast_to(axis[None, :], (size_px, size_px))
        self.y: Field = np.broadcast_to(axis[:, None], (size_px, size_px))

    def by_extent(self, close: float, wide: float) -> float:
        """Interpolate between ``close`` (for the minimum extent) and ``wide`` (for the maximum)."""
        return close + (wide - close) * self.extent_share

    def noise(self, rng: np.random.Generator, *cells: int) -> Field:
        """Return smooth noise.

        It is the scaled sum of several random grids, one for each value of ``cells``.

        Args:
            rng: Random generator for the grids. The number of draws does not depend on the
                resolution.
            cells: Number of cells along one side of each grid. A higher number gives finer noise.

        Returns:
            float32 of shape (size_px, size_px), about -1 to 1, with a mean near 0.
        """
        total = np.zeros((self.size_px, self.size_px), dtype=np.float32)
        for count in cells:
            grid = rng.random((count, count), dtype=np.float32) * 2.0 - 1.0
            image = Image.fromarray(grid)
            total += np.asarray(
                image.resize((self.size_px, self.size_px), Image.Resampling.BICUBIC)
            )
        return total / np.float32(math.sqrt(len(cells)))

    def shade(self, height: Field, strength: float) -> Field:
        """Return the hill shading of a height field. Slopes that face the sun have positive values.

        Args:
            height: float32 of shape (size_px, size_px), about -1 to 1.
            strength: Height of one unit, as a share of the tile's side.

        Returns:
            float32 of shape (size_px, size_px), clipped to the range -1 to 1.
        """
        rise_y, rise_x = np.gradient(height)
        slope = rise_x * self.light.shadow_x + rise_y * self.light.shadow_y
        shaded: Field = np.clip(slope * np.float32(strength * self.size_px), -1.0, 1.0)
        return shaded

    def turned(self, angle: float) -> tuple[Field, Field]:
        """Return the pixel coordinates rotated by ``angle`` (radians) around the centre."""
        cos, sin = np.float32(math.cos(angle)), np.float32(math.sin(angle))
        x, y = self.x - np.float32(0.5), self.y - np.float32(0.5)
        return x * cos + y * sin, y * cos - x * sin

    def paint(self, pixels: Field) -> None:
        """Replace the content by ``pixels``: float32 of shape (size_px, size_px, 3), 0 to 255."""
        small = Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))
        self._image.paste(small.resize((self._big, self._big), Image.Resampling.NEAREST))

    def blend(self, colour: Colour, amount: Field, base: Field) -> Field:
        """Mix ``colour`` into the pixels ``base``.

        Args:
            colour: The colour.
            amount: Share of the colour in each pixel, shape (H, W), from 0 to 1.
            base: Pixels, shape (H, W, 3).

        Returns:
            The mixed pixels, shape (H, W, 3).
        """
        moved: Field = np.asarray(colour, dtype=np.float32) - base
        moved *= amount[..., None]
        moved += base
        return moved

    def polygon(self, points: Sequence[Point], colour: Colour) -> None:
        """Fill a polygon."""
        self._draw.polygon([(x * self._big, y * self._big) for x, y in points], fill=_rgb(colour))

    def line(self, points: Sequence[Point], width: float, colour: Colour) -> None:
        """Draw a polyline. ``width`` is a share of the tile's side."""
        self._draw.line(
            [(x * self._big, y * self._big) for x, y in points],
            fill=_rgb(colour),
            width=max(1, round(width * self._big)),
            joint="curve",
        )

    def ellipse(
        self, x: float, y: float, radius: float, colour: Colour, *, radius_y: float | None = None
    ) -> None:
        """Fill a circle. With ``radius_y``, fill an ellipse with this vertical radius."""
        tall = radius if radius_y is None else radius_y
        scale = self._big
        self._draw.ellipse(
            ((x - radius) * scale, (y - tall) * scale, (x + radius) * scale, (y + tall) * scale),
            fill=_rgb(colour),
        )

    def shadow_of(self, points: Sequence[Point], height: float) -> None:
        """Draw the shadow of a flat roof. ``height`` is a share of the tile's side."""
        x, y = points[0]
        dark = self.ground(x, y, 0.45)
        shift_x, shift_y = self.light.shadow_x * height, self.light.shadow_y * height
        moved = [(px + shift_x, py + shift_y) for px, py in points]
        self.polygon(moved, dark)
        # Fill the gap between the roof and its shadow, so that a tall object does not seem to
        # float.
        half = [(px + shift_x / 2, py + shift_y / 2) for px, py in points]
        self.polygon(half, dark)

    def round_shadow(self, x: float, y: float, radius: float, height: float) -> None:
        """Draw the shadow of a vertical cylinder. ``height`` is a share of the tile's side."""
        dark = self.ground(x, y, 0.45)
        for part in (0.33, 0.67, 1.0):
            self.ellipse(
                x + self.light.shadow_x * height * part,
                y + self.light.shadow_y * height * part,
                radius,
                dark,
            )

    def ground(self, x: float, y: float, factor: float) -> Colour:
        """Return the drawn colour at (x, y), multiplied by ``factor`` (slightly more blue)."""
        column = min(max(int(x * self._big), 0), self._big - 1)
        row = min(max(int(y * self._big), 0), self._big - 1)
        pixel = self._image.getpixel((column, row))
        if not isinstance(pixel, tuple):
            raise TypeError(f"an RGB pixel is a tuple, not {pixel!r}")
        return pixel[0] * factor, pixel[1] * factor, pixel[2] * factor + 6.0

    def finish(self, rng: np.random.Generator) -> npt.NDArray[np.uint8]:
        """Apply light, haze, blur and noise. Return the tile: uint8 (size_px, size_px, 3)."""
        light, noise = self.light, self.sensor.noise
        image = self._image.reduce(_OVERSAMPLING)
        blur_px = self.sensor.blur * self.size_px
        if blur_px >= _LEAST_BLUR_PX:
            image = image.filter(ImageFilter.BoxBlur(blur_px))
        table: list[int] = []
        for tint, veil in ((1 + light.warmth, 200.0), (1.0, 208.0), (1 - light.warmth, 220.0)):
            factor = tint * light.brightness * (1.0 - light.haze)
            # Leave room for the noise at both ends of the range of values, so that no value
            # overflows.
            levels = np.arange(256) * factor + veil * light.haze
            table += np.clip(levels, noise, 255 - noise).round().astype(int).tolist()
        lit = np.asarray(image.point(table))
        grain = rng.integers(0, 2 * noise + 1, size=lit.shape, dtype=np.uint8)
        tile: npt.NDArray[np.uint8] = lit + grain - np.uint8(noise)
        return tile


def _rgb(colour: Colour) -> tuple[int, int, int]:
    red, green, blue = (min(max(int(part), 0), 255) for part in colour)
    return red, green, blue
