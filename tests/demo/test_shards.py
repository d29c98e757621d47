"""Test the generated shards."""

from __future__ import annotations

import io
import json
import re
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from skytext.demo.scenes.generate import make_scene, render
from skytext.demo.shards import TRUTH_NAME, write_shards


def contents(path: Path) -> dict[str, bytes]:
    with tarfile.open(path) as shard:
        found = {}
        for member in shard.getmembers():
            stream = shard.extractfile(member)
            assert stream is not None
            found[member.name] = stream.read()
        return found


def test_shards_hold_images_with_sidecars(tmp_path: Path) -> None:
    paths = write_shards(tmp_path, num_images=7, images_per_shard=3, seed=40, image_px=96)
    assert [path.name for path in paths] == [f"scene-{index:06d}.tar" for index in range(3)]
    members = [contents(path) for path in paths]
    assert [len(content) for content in members] == [6, 6, 2]
    for number in range(7):
        content = members[number // 3]
        scene = make_scene(40 + number)
        image = Image.open(io.BytesIO(content[f"{number:09d}.jpg"]))
        assert (image.format, image.size, image.mode) == ("JPEG", (96, 96), "RGB")
        assert np.abs(np.asarray(image, int) - render(scene, 96)).mean() < 12
        sidecar = json.loads(content[f"{number:09d}.json"])
        assert set(sidecar) == {"datetime", "bbox", "gsd", "collection", "seed"}
        assert sidecar["seed"] == 40 + number
        assert sidecar["bbox"] == list(scene.bbox)
        assert sidecar["gsd"] == pytest.approx(scene.gsd_at(96), abs=1e-3)
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", sidecar["datetime"])


def test_the_truth_is_only_beside_the_shards(tmp_path: Path) -> None:
    paths = write_shards(tmp_path, num_images=5, images_per_shard=2, seed=0, image_px=64)
    records = [json.loads(line) for line in (tmp_path / TRUTH_NAME).read_text().splitlines()]
    assert len(records) == 5
    for record in records:
        assert record["member"] in contents(tmp_path / record["shard"])
        assert record["truth"]["land_cover"] == make_scene(record["truth"]["seed"]).land_cover
        assert set(record["description"]) == {"one_sentence", "feature", "caption"}
    assert not any(b"land_cover" in path.read_bytes() for path in paths)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        *(path.name for path in paths),
        TRUTH_NAME,
    ]


def test_same_arguments_same_bytes(tmp_path: Path) -> None:
    first = write_shards(tmp_path / "a", num_images=4, images_per_shard=2, seed=9, image_px=64)
    again = write_shards(tmp_path / "b", num_images=4, images_per_shard=2, seed=9, image_px=64)
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in again]
    assert (tmp_path / "a" / TRUTH_NAME).read_bytes() == (tmp_path / "b" / TRUTH_NAME).read_bytes()


def test_no_images_no_shards(tmp_path: Path) -> None:
    assert write_shards(tmp_path, num_images=0, images_per_shard=2, seed=0) == []
    assert (tmp_path / TRUTH_NAME).read_text() == ""


@pytest.mark.parametrize(
    ("name", "value"),
    [("num_images", -1), ("images_per_shard", 0), ("seed", -1), ("image_px", 0)],
)
def test_numbers_out_of_range_are_refused(tmp_path: Path, name: str, value: int) -> None:
    arguments = {"num_images": 1, "images_per_shard": 1, "seed": 0, "image_px": 64} | {name: value}
    with pytest.raises(ValueError, match=f"{name} must be .* not {value}"):
        write_shards(tmp_path, **arguments)
