"""Test that the packaged checkpoint describes held-out scenes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from skytext.captions.parsing import FIELDS
from skytext.demo.shards import TRUTH_NAME
from skytext.demo.training.score import score_description, summarise
from skytext.table.images_dataset import ImagesTable
from skytext.table.location import TableLocation
from tests.proof.commands import command

LIMIT_S = 300


@pytest.mark.proof
@pytest.mark.vllm
def test_the_demo_describes_its_scenes(tmp_path: Path) -> None:
    with command(tmp_path, "demo", "--json", "--dir", "demo") as running:
        assert running.finish(LIMIT_S) == 0, running.err
        summary = json.loads(running.out)
        assert running.wait_for_the_rest(30) == []
    lines = (tmp_path / "demo" / "archive" / TRUTH_NAME).read_text().splitlines()
    truth = {(line["shard"], line["member"]): line["truth"] for line in map(json.loads, lines)}
    assert summary["num_listed"] == summary["num_ok"] == summary["num_captioned"] == len(truth) > 0
    assert (summary["num_failed"], summary["failures"]) == (0, {})
    assert summary["demo_s"] <= LIMIT_S
    assert all(len(search["hits"]) > 0 for search in summary["searches"])
    with Image.open(tmp_path / summary["picture"]) as picture:
        assert picture.format == "JPEG"

    table = ImagesTable.open(TableLocation.parse(str(tmp_path / "demo" / "table")))
    rows = table.dataset.to_table(columns=["shard", "member", "captions"]).to_pylist()
    assert {(row["shard"], row["member"]) for row in rows} == truth.keys()
    scores = summarise(
        score_description(
            truth[row["shard"], row["member"]], {name: variant[name] for name in FIELDS}
        )
        for row in rows
        for variant in row["captions"]
    )
    assert scores.num_descriptions == summary["num_variants"] >= 4 * len(truth)
    assert scores.land_cover >= 0.95, scores
    assert min(scores.object_precision, scores.object_recall, scores.position) >= 0.85, scores
