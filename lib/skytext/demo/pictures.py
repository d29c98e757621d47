"""Draw images for the documentation: an overview of many scenes, and the results of searches.

To draw the overview of scenes, run: ``python -m skytext.demo.pictures sheet.jpg``
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer
from PIL import Image, ImageDraw, ImageFont

from skytext.demo.scenes.generate import HELD_OUT_SEED, Scene, make_scene, render

_GAP, _LABEL = 6, 24
_INK, _FAINT, _PAPER = (32, 34, 38), (110, 112, 118), (255, 255, 255)
_QUALITY = 76


@dataclass(frozen=True)
class Search:
    """One search to draw.

    Attributes:
        query: The query.
        hits: The images that were found, with their scores. The best image is first.
    """

    query: str
    hits: Sequence[tuple[Image.Image, float]]


def contact_sheet(scenes: Sequence[Scene], *, columns: int, tile_px: int) -> Image.Image:
    """Return an image that shows the scenes in rows, without gaps."""
    rows = -(-len(scenes) // columns)
    sheet = Image.new("RGB", (columns * tile_px, rows * tile_px), _PAPER)
    for index, scene in enumerate(scenes):
        row, column = divmod(index, columns)
        sheet.paste(Image.fromarray(render(scene, tile_px)), (column * tile_px, row * tile_px))
    return sheet


def varied_scenes(number: int, first_seed: int = HELD_OUT_SEED) -> list[Scene]:
    """Return scenes that together show every land cover, linear feature and kind of object.

    The scenes are chosen one after the other. Each choice has 200 candidates with consecutive
    seeds. The function chooses the candidate whose content is most rare in the scenes that were
    chosen before.
    """
    shown: Counter[str] = Counter()
    chosen: list[Scene] = []
    for index in range(number):
        seeds = range(first_seed + 200 * index, first_seed + 200 * (index + 1))
        scene = min(map(make_scene, seeds), key=lambda each: _how_known(each, shown))
        shown.update(_things(scene))
        chosen.append(scene)
    return chosen


def searches_picture(
    searches: Sequence[Search], *, columns: int = 2, tile_px: int = 148
) -> Image.Image:
    """Return an image that shows searches. Each query is above the images that it found."""
    most = max((len(search.hits) for search in searches), default=1)
    width, height = most * (tile_px + _GAP) + 2 * _GAP, tile_px + 2 * _LABEL + _GAP
    rows = -(-len(searches) // columns)
    picture = Image.new("RGB", (columns * width, rows * height + _GAP), _PAPER)
    draw = ImageDraw.Draw(picture)
    for index, search in enumerate(searches):
        row, column = divmod(index, columns)
        left, top = column * width + _GAP, row * height + _GAP
        draw.text((left, top), f"“{search.query}”", fill=_INK, font=ImageFont.load_default(16))
        for rank, (image, score) in enumerate(search.hits):
            at = left + rank * (tile_px + _GAP)
            tile = image.resize((tile_px, tile_px), Image.Resampling.LANCZOS)
            picture.paste(tile, (at, top + _LABEL))
            label = f"{rank + 1}. {score:.2f}"
            place = (at, top + _LABEL + tile_px + 3)
            draw.text(place, label, fill=_FAINT, font=ImageFont.load_default(12))
    return picture


def save_small(image: Image.Image, path: Path) -> None:
    """Write an image as a small JPEG."""
    image.save(path, format="JPEG", quality=_QUALITY, optimize=True)


def _things(scene: Scene) -> Iterable[str]:
    yield scene.land_cover
    for line in scene.linear_features:
        yield line.kind
    for group in scene.objects:
        yield group.kind


def _how_known(scene: Scene, shown: Counter[str]) -> float:
    """Return a number that is higher if the chosen scenes often show the content of a scene.

    A scene with little content also gets a higher number.
    """
    things = list(_things(scene))
    return sum(shown[thing] for thing in things) / len(things) + 2.0 / len(things)


def main(
    path: Annotated[Path, typer.Argument(help="The JPEG to write.")],
    number: Annotated[int, typer.Option(min=1, help="Number of scenes.")] = 60,
    columns: Annotated[int, typer.Option(min=1, help="Number of scenes in a row.")] = 10,
    tile_px: Annotated[int, typer.Option(min=16, help="Side length of a scene in pixels.")] = 88,
) -> None:
    """Draw an overview of held-out scenes."""
    sheet = contact_sheet(varied_scenes(number), columns=columns, tile_px=tile_px)
    save_small(sheet, path)
    typer.echo(f"{path}: {path.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    typer.run(main)
