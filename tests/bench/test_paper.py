"""Test ``python -m bench.paper``, which measures the rows of the paper's table for images and
annotations."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from bench.paper import app
from tests.archives import images

FAKES = ["--model", "fake", "--embedding-model", "fake"]


def benchmark(folder: Path, split_of: dict[str, str]) -> list[str]:
    """Write an image and two captions for each name. Return the folder of images and the
    annotations."""
    (folder / "images").mkdir(parents=True)
    for name, (_, data) in zip(split_of, images(0, len(split_of)), strict=True):
        (folder / "images" / name).write_bytes(data)
    entries = [
        {"filename": name, "split": split, "sentences": [{"raw": f"{name} {i}"} for i in range(2)]}
        for name, split in split_of.items()
    ]
    annotations = folder / "dataset.json"
    annotations.write_text(json.dumps({"images": entries}))
    return [str(folder / "images"), str(annotations)]


@pytest.mark.ray
@pytest.mark.usefixtures("local_ray")
def test_one_command_describes_the_split_and_prints_the_rows_of_both_benchmarks(
    tmp_path: Path,
) -> None:
    splits = {"a.jpg": "test", "b.jpg": "train", "c.jpg": "test"}
    call = ["--output", str(tmp_path / "paper"), *FAKES]
    for name in ("rsitmd", "rsicd"):
        call += [f"--{name}", *benchmark(tmp_path / name, splits)]
    called = CliRunner().invoke(app, call)
    assert called.exit_code == 0, called.output
    for name, published in (("rsitmd", "42.62"), ("rsicd", "31.33")):
        table = (tmp_path / "paper" / f"{name}.md").read_text()
        assert "| skytext: dense, max | training-free |" in table
        assert published in table
        described = {path.name for path in (tmp_path / "paper" / name / "images").iterdir()}
        assert described == {"a.jpg", "c.jpg"}


def test_an_image_that_is_missing_is_named_before_any_model_starts(tmp_path: Path) -> None:
    folder, annotations = benchmark(tmp_path, {"a.jpg": "test", "b.jpg": "test"})
    Path(folder, "b.jpg").unlink()
    called = CliRunner().invoke(
        app, ["--output", str(tmp_path / "out"), *FAKES, "--rsicd", folder, annotations]
    )
    assert called.exit_code == 1
    assert "1 images of the split 'test' are not in" in str(called.exception) + called.output
    assert not (tmp_path / "out" / "rsicd" / "table").exists()
