"""Plot a training run. To draw the plot, run: ``python -m skytext.demo.training.plot DIR``

The plot is drawn with Pillow, so no plotting package is needed.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from PIL import Image, ImageDraw, ImageFont

PLOT_NAME = "training.png"
"""File name of the plot. The plot is in the folder of ``log.jsonl``."""

Curve = list[tuple[float, float]]
"""Points (minutes of training, value), sorted by time."""

_WIDTH, _PANEL, _LEFT, _RIGHT, _TOP, _BOTTOM = 900, 330, 64, 190, 34, 40
_INK, _GRID = (40, 40, 44), (222, 222, 226)
_COLOURS = (
    (31, 119, 180),
    (214, 96, 30),
    (44, 140, 70),
    (170, 50, 60),
    (120, 90, 170),
    (120, 86, 75),
    (200, 100, 170),
    (110, 110, 116),
)
_SMOOTHED_STEPS = 25
_SHOWN_SCORES = (
    "json_valid",
    "land_cover",
    "object_precision",
    "object_recall",
    "position",
    "line_precision",
    "line_recall",
    "orientation",
)


def read_curves(log: Path) -> tuple[dict[str, Curve], dict[str, Curve]]:
    """Read the losses and the held-out scores from the ``log.jsonl`` of a run, by name."""
    losses: dict[str, Curve] = {}
    scores: dict[str, Curve] = {}
    for line in log.read_text(encoding="utf-8").splitlines():
        record: dict[str, Any] = json.loads(line)
        minutes = record["trained_s"] / 60.0
        for key, name in (("facts_loss", "facts"), ("loss", "text")):
            if key in record:
                losses.setdefault(name, []).append((minutes, record[key]))
        for name in _SHOWN_SCORES:
            if name in record.get("scores", {}):
                scores.setdefault(name, []).append((minutes, record["scores"][name]))
    return {name: _smoothed(curve) for name, curve in losses.items()}, scores


def write_plot(directory: Path) -> Path:
    """Plot the ``log.jsonl`` of a run. Return the path of the plot, which is in the same folder."""
    losses, scores = read_curves(directory / "log.jsonl")
    end = max((curve[-1][0] for curve in [*losses.values(), *scores.values()]), default=1.0)
    image = Image.new("RGB", (_WIDTH, 2 * _PANEL), (255, 255, 255))
    draw = ImageDraw.Draw(image)
    lowest = min((value for curve in losses.values() for _, value in curve), default=0.1)
    highest = max((value for curve in losses.values() for _, value in curve), default=10.0)
    decades = math.floor(math.log10(max(lowest, 1e-6))), math.ceil(math.log10(highest))
    logged = {
        name: [(minutes, math.log10(max(value, 1e-6))) for minutes, value in curve]
        for name, curve in losses.items()
    }
    ticks = [(float(power), f"{10.0**power:g}") for power in range(decades[0], decades[1] + 1)]
    _panel(draw, 0, "training loss (mean of 25 steps)", logged, ticks, end)
    shares = [(share / 5, f"{share / 5:.1f}") for share in range(6)]
    _panel(draw, _PANEL, "scores on held-out scenes, greedy", scores, shares, end)
    path = directory / PLOT_NAME
    image.save(path, optimize=True)
    return path


def _smoothed(curve: Curve) -> Curve:
    """Return the means of groups of steps.

    The values of single steps vary, because each step uses different scenes.
    """
    spans = [curve[at : at + _SMOOTHED_STEPS] for at in range(0, len(curve), _SMOOTHED_STEPS)]
    return [(span[-1][0], sum(value for _, value in span) / len(span)) for span in spans if span]


def _panel(
    draw: ImageDraw.ImageDraw,
    top: int,
    title: str,
    curves: dict[str, Curve],
    ticks: Sequence[tuple[float, str]],
    end: float,
) -> None:
    font = ImageFont.load_default(13)
    left, right = _LEFT, _WIDTH - _RIGHT
    upper, lower = top + _TOP, top + _PANEL - _BOTTOM
    low, high = ticks[0][0], max(ticks[-1][0], ticks[0][0] + 1e-9)

    def at(minutes: float, value: float) -> tuple[float, float]:
        x = left + (right - left) * minutes / max(end, 1e-9)
        return x, lower - (lower - upper) * (value - low) / (high - low)

    draw.text((left, top + 10), title, fill=_INK, font=font)
    for value, label in ticks:
        y = at(0.0, value)[1]
        draw.line([(left, y), (right, y)], fill=_GRID)
        draw.text((left - 8, y), label, fill=_INK, font=font, anchor="rm")
    for part in range(5):
        x = at(end * part / 4, low)[0]
        draw.text((x, lower + 6), f"{end * part / 4:.0f}", fill=_INK, font=font, anchor="ma")
    draw.text((right + 24, lower + 6), "minutes", fill=_INK, font=font)
    for index, (name, curve) in enumerate(curves.items()):
        colour = _COLOURS[index % len(_COLOURS)]
        points = [at(minutes, value) for minutes, value in curve]
        if len(points) > 1:
            draw.line(points, fill=colour, width=2)
        for x, y in points if len(points) < 40 else []:
            draw.ellipse((x - 2, y - 2, x + 2, y + 2), fill=colour)
        legend = f"{name.replace('_', ' ')} {_last(curve, title)}"
        draw.text((right + 12, upper + 18 * index), legend, fill=colour, font=font)


def _last(curve: Curve, title: str) -> str:
    value = curve[-1][1]
    return f"{10.0**value:.2f}" if "loss" in title else f"{value:.2f}"


def main(directory: Annotated[Path, typer.Argument(help="Folder of a run.")]) -> None:
    """Draw the losses and scores of a training run."""
    typer.echo(str(write_plot(directory)))


if __name__ == "__main__":
    typer.run(main)
