"""Test the pictures of scenes and of searches."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image
from typer.testing import CliRunner

from skytext.demo.pictures import (
    Search,
    contact_sheet,
    save_small,
    searches_picture,
    varied_scenes,
)
from skytext.demo.scenes.land_covers import LAND_COVERS
from skytext.demo.scenes.object_kinds import OBJECT_KINDS

DOCS = Path(__file__).parent.parent.parent / "docs"


def test_a_contact_sheet_holds_every_scene() -> None:
    scenes = varied_scenes(5)
    sheet = np.asarray(contact_sheet(scenes, columns=3, tile_px=32))
    assert sheet.shape == (64, 96, 3)
    assert (sheet[32:, 64:] == 255).all()
    assert sheet[:32].std() > 10


def test_varied_scenes_show_everything_soon() -> None:
    scenes = varied_scenes(40)
    assert {scene.land_cover for scene in scenes} == set(LAND_COVERS)
    shown = {group.kind for scene in scenes for group in scene.objects}
    assert len(shown) >= len(OBJECT_KINDS) - 1


def test_a_picture_of_searches_has_room_for_all(tmp_path: Path) -> None:
    tile = Image.new("RGB", (224, 224), (200, 30, 30))
    searches = [Search(f"question {n}", [(tile, 0.5)] * (n % 3)) for n in range(5)]
    picture = searches_picture(searches, tile_px=64)
    assert (np.asarray(picture) == (200, 30, 30)).all(axis=2).sum() == 64 * 64 * 4
    save_small(picture, tmp_path / "found.jpg")
    with Image.open(tmp_path / "found.jpg") as saved:
        assert saved.size == picture.size


def test_a_picture_of_no_searches_can_be_made() -> None:
    assert searches_picture([]).size[1] > 0


def test_the_command_draws_the_sheet_of_the_documents(tmp_path: Path) -> None:
    import typer

    from skytext.demo.pictures import main

    app = typer.Typer()
    app.command()(main)
    path = tmp_path / "sheet.jpg"
    called = CliRunner().invoke(app, [str(path), "--number", "4", "--tile-px", "32"])
    assert called.exit_code == 0, called.output
    assert path.stat().st_size > 500


def test_pictures_of_the_documents_are_small() -> None:
    limits = {
        "demo-scenes.jpg": 150_000,
        "demo-searches.jpg": 200_000,
        "demo-training.png": 100_000,
    }
    for name, limit in limits.items():
        assert (DOCS / name).stat().st_size <= limit, name
