"""Test `embed-images` and the commands that use its vectors, without a cluster."""

from __future__ import annotations

import datetime as dt
import json
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest

from skytext.run.plans.vector_plan import plan_images
from skytext.service.replicas.serve_application import build
from skytext.table.runs_dataset import RunRecord, record_run
from tests.archives import tiff16
from tests.cli.conftest import Skytext
from tests.cli.tables import make_described_table
from tests.search.test_image_modes import SHOWN, make_searched
from tests.table.rows import location


@pytest.fixture(scope="module")
def searched(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cli-images") / "table"
    make_searched(folder)
    return folder


def test_search_by_images_and_by_both(skytext: Skytext, searched: Path) -> None:
    called = skytext("search", searched, "red", "--mode", "image", "--json", "-k", "2")
    assert called.status == 0, called.err
    answer = json.loads(called.out)
    assert [hit["uri"].rpartition("#")[2] for hit in answer["hits"]] == ["a.jpg", "b.jpg"]
    assert answer["exact"]
    assert answer["hits"][0]["variant"] == 0
    assert answer["hits"][0]["score"] == answer["hits"][0]["image_cosine"]

    more = ["--mode", "image", "--json", "-k", "1", "--cursor", answer["next_cursor"]]
    called = skytext("search", searched, "red", *more)
    (hit,) = json.loads(called.out)["hits"]
    assert hit["uri"].rpartition("#")[2] in ("c.jpg", "d.jpg")

    like = answer["hits"][0]["image_id"]
    called = skytext("search", searched, "--like", like, "--mode", "image", "--json", "-k", "1")
    (hit,) = json.loads(called.out)["hits"]
    assert hit["uri"].endswith("b.jpg")

    called = skytext("search", searched, "red", "--mode", "image+dense")
    assert "image+dense, exact search" in called.err
    first, sentence, *rest = called.out.splitlines()
    assert first.startswith("  1. 0.9")
    assert "a.jpg" in first
    assert sentence.strip() == "a red roof"
    assert len(rest) == 2 * (len(SHOWN) - 1)
    assert ". –  file:///x/a.tar#e.jpg" in called.out

    called = skytext("search", searched, "red", "--mode", "image", "--where", "gsd > 90")
    assert called.out == "no image that matches the filter has an image vector\n"


def test_evaluate_prints_the_baseline_and_the_fusion(
    skytext: Skytext, searched: Path, tmp_path: Path
) -> None:
    captions = tmp_path / "captions.json"
    texts = {name: text for name, (colour, text) in SHOWN.items() if colour}
    captions.write_text(json.dumps([{"image": n, "caption": t} for n, t in texts.items()]))
    call = ["evaluate", searched, "--annotations", captions, "--image-vectors"]
    called = skytext(*call, "--json")
    assert called.status == 0, called.err
    rows = json.loads(called.out)["results"]
    names = [row["name"] for row in rows]
    assert names[-2:] == ["images alone: fake", "images and descriptions: fake; rrf"]
    # The images whose texts contain "red" are not the same images as the images with red pixels. No
    # text contains "blue".
    alone = rows[-2]["text_to_image"]["R@1"]
    assert 25 <= alone < 100
    assert rows[0]["text_to_image"]["R@1"] == 100
    assert set(rows[-1]) >= {"image_to_text", "text_to_image", "mean_recall", "confidence_95"}

    # One image has no vector. Every row counts this image as missing.
    captions.write_text(json.dumps([{"image": n, "caption": t} for n, (_, t) in SHOWN.items()]))
    called = skytext(*call)
    assert called.status == 2
    assert "1 of 5 annotated images are missing or have failed (e.jpg)" in called.err
    called = skytext(*call, "--allow-missing")
    assert called.status == 0, called.err
    assert "1 annotated images are missing and were ignored" in called.out

    queries = tmp_path / "q.csv"
    queries.write_text("query,image\nred,a.jpg\n")
    called = skytext("evaluate", searched, "--queries", queries, "--image-vectors", "--json")
    assert json.loads(called.out)["results"][-2]["text_to_image"]["R@1"] == 100


def test_status_and_index_report_image_vectors(skytext: Skytext, tmp_path: Path) -> None:
    make_searched(tmp_path / "t")
    called = skytext("status", tmp_path / "t")
    assert "image vectors: fake, 8 dimensions; ok rows without an image vector: 1" in called.out
    report = json.loads(skytext("status", tmp_path / "t", "--json").out)["image_vectors"]
    assert (report["num_with"], report["num_without"]) == (4, 1)
    called = skytext("index", tmp_path / "t", "--json")
    assert called.status == 0, called.err
    assert json.loads(called.out)["image_vector_index"] is None
    called = skytext("search", tmp_path / "t", "red", "--mode", "image", "--json")
    assert len(json.loads(called.out)["hits"]) == 4


def test_status_and_index_report_an_image_vector_index(skytext: Skytext, tmp_path: Path) -> None:
    make_searched(tmp_path / "t")
    status = skytext("status", tmp_path / "t").out
    assert "image vector index: none, searches are exact" in status
    index = json.loads(
        skytext(
            "index",
            tmp_path / "t",
            "--vector",
            "always",
            "--set",
            "index.recall_queries=32",
            "--json",
        ).out
    )
    facts = index["image_vector_index"]
    assert (facts["kind"], facts["recall_at_10"], facts["num_rows"]) == ("IVF_RQ", 1.0, 4)
    status = json.loads(skytext("status", tmp_path / "t", "--json").out)
    assert status["image_vector_index"] == facts
    assert status["num_unindexed_image_rows"] == 0
    words = "image vector index: IVF_RQ, 1 partitions, recall@10 1.000 with a search effort of 0.3"
    assert f"{words}; 0 rows not covered yet" in skytext("status", tmp_path / "t").out
    assert f"{words}\n" in skytext("index", tmp_path / "t", "--vector", "always").out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("search T red --mode image", "To compute them, run: skytext embed-images"),
        ("search T red --mode sparse", "--mode must be one of dense, text, hybrid, image"),
        ("embed-images T", "no image embedding model was named: use --model NAME"),
        ("embed-images T --model ./nowhere", "is not a folder"),
        ("embed-images nowhere --model fake", "there is no table"),
        ("embed-images T --model fake:nonsense=1", "of a fake model is not valid"),
        ("evaluate T --annotations A --image-vectors", "has no image vectors"),
        ("evaluate A.jsonl --annotations A --image-vectors", "--image-vectors needs a table"),
        ("evaluate --text-only --annotations A --image-vectors", "--image-vectors needs"),
    ],
)
def test_wrong_calls_get_one_line(
    skytext: Skytext, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: str, message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    make_described_table(tmp_path / "T")
    Path("A.jsonl").write_text("{}")
    captions = Path("captions.json")
    captions.write_text(json.dumps([{"image": "river.jpg", "caption": "a river"}]))
    places = {"A": captions, "T": tmp_path / "T"}
    arguments = [places.get(word, word) for word in words.split()]
    called = skytext(*arguments)
    assert called.status == 2
    assert called.out == ""
    assert called.err.startswith("skytext: ")
    assert message in called.err


@pytest.fixture(scope="module")
def of_bands(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a table whose last captioning run used other bands than the first three bands."""
    folder = tmp_path_factory.mktemp("cli-bands") / "table"
    make_searched(folder)
    start = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
    for hour, (command, bands) in enumerate(
        [("caption", None), ("retry-failed", [4, 3, 2]), ("embed-images", None)]
    ):
        config = {"sources": ["a"], "images": {"bands": bands, "max_side_px": 64}}
        when = start + dt.timedelta(hours=hour)
        record_run(location(folder), RunRecord(command, command, "done", when, when, config))
    return folder


def test_a_query_image_is_read_with_the_bands_that_the_table_was_described_with(
    skytext: Skytext, of_bands: Path, tmp_path: Path
) -> None:
    grey = tmp_path / "grey.tif"
    grey.write_bytes(tiff16(1))
    called = skytext("search", of_bands, "--image", grey)
    assert called.status == 2
    assert "images.bands names band 4, but the image has only 1" in called.err
    for chosen in ("null", "[1]"):
        settings = ["--set", f"images.bands={chosen}", "--set", "caption.model=fake"]
        called = skytext("search", of_bands, "--image", grey, *settings)
        assert (called.status, called.err.count("description of the image: ")) == (0, 1), called.err


def given_config(call: Any) -> Any:
    (config,) = [one for one in call.args if hasattr(one, "images")]
    return config


def test_embedding_and_serving_go_by_the_bands_of_the_last_description(
    skytext: Skytext, of_bands: Path
) -> None:
    with patch("skytext.run.plans.vector_plan.plan_images", side_effect=plan_images) as planned:
        called = skytext("embed-images", of_bands)
        assert "--replace" in called.err, "its vectors are of other bands"
    assert given_config(planned.call_args).images.bands == (4, 3, 2)
    assert given_config(planned.call_args).images.max_side_px == 2048
    with patch("skytext.service.replicas.local_server.serve_here") as served:
        skytext("serve", of_bands)
        skytext("serve", of_bands, "--set", "images.bands=[1]")
    assert [given_config(one).images.bands for one in served.call_args_list] == [(4, 3, 2), (1,)]
    with patch("skytext.service.replicas.serve_application.build_application") as deployed:
        build({"table": str(of_bands)})
        build({"table": str(of_bands), "config": {"images": {"bands": [1]}}})
    assert [given_config(one).images.bands for one in deployed.call_args_list] == [(4, 3, 2), (1,)]


def test_vectors_from_before_bands_were_chosen_are_still_searched(
    skytext: Skytext, of_bands: Path
) -> None:
    called = skytext("search", of_bands, "red", "--mode", "image", "--json")
    assert called.status == 0, called.err
    assert len(json.loads(called.out)["hits"]) == 4
