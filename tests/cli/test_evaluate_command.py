"""`skytext evaluate` and `skytext export`, on a table of the fake embedder."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from skytext.captions import Variant, document_text
from skytext.config import EmbedConfig
from skytext.models.fakes import FakeEmbedder
from skytext.models.identity import embed_model, embedding_fingerprint
from tests.cli.conftest import Skytext
from tests.cli.tables import DESCRIBED, described_row
from tests.table.rows import committer, identity, location, stage


@pytest.fixture
def annotations(tmp_path: Path) -> Path:
    """Captions that are the described texts themselves."""
    path = tmp_path / "captions.json"
    rows = [{"image": f"x/{name}", "caption": texts} for name, texts in DESCRIBED.items()]
    path.write_text(json.dumps(rows))
    return path


def make_table(folder: Path) -> Path:
    """A table whose vectors are those of its descriptions, as a run makes them."""
    where = location(folder)
    fingerprint = embedding_fingerprint(embed_model(EmbedConfig(model="fake")))
    rows = []
    for member, texts in DESCRIBED.items():
        row = described_row(member, texts)
        variants = [Variant(t, f"F {t}", f"C {t}") for t in texts]
        documents = [document_text(variant) for variant in variants]
        row["vectors"] = FakeEmbedder().embed_documents(documents).vectors.tolist()
        rows.append(row)
    committer(where, identity("fake", fingerprint)).commit([stage(where, rows)])
    return folder


def test_a_table_and_its_export_measure_alike(
    skytext: Skytext, annotations: Path, tmp_path: Path
) -> None:
    table = make_table(tmp_path / "table")
    called = skytext(
        "evaluate", table, "--annotations", annotations, "--json",
        "--markdown", tmp_path / "table.md",
    )  # fmt: skip
    assert called.status == 0, called.err
    of_table = json.loads(called.out)
    assert of_table["num_images"] == 4
    assert "| skytext: dense, max | training-free |" in (tmp_path / "table.md").read_text()

    out = tmp_path / "out.jsonl"
    called = skytext("export", table, "--format", "rsrt-jsonl", "--output", out)
    assert called.status == 0, called.err
    assert "4 images of table version" in called.err
    lines = [json.loads(line) for line in out.read_text().splitlines()]
    assert {line["image"]: [v["one_sentence"] for v in line["variants"]] for line in lines} == (
        DESCRIBED
    )
    assert set(lines[0]["variants"][0]) == {"one_sentence", "feature", "caption"}
    assert skytext("export", table, "--format", "rsrt-jsonl").out == out.read_text()

    called = skytext(
        "evaluate", out, "--annotations", annotations, "--json", "--embedding-model", "fake"
    )
    assert called.status == 0, called.err
    assert json.loads(called.out) == of_table
    shown = skytext("evaluate", table, "--annotations", annotations)
    assert "I2T R@1" in shown.out


def test_own_queries_and_text_only(
    skytext: Skytext,
    shared_table: Path,
    annotations: Path,
    tmp_path: Path,
) -> None:
    queries = tmp_path / "q.csv"
    queries.write_text("query,image\na brown river,river.jpg\ndense forest,forest.jpg\n")
    called = skytext("evaluate", shared_table, "--queries", queries, "--json")
    assert called.status == 0, called.err
    result = json.loads(called.out)["results"][0]
    assert set(result) >= {"text_to_image", "mean_recall"}
    assert "image_to_text" not in result
    assert result["text_to_image"]["R@1"] == 100

    called = skytext(
        "evaluate", "--text-only", "--annotations", annotations, "--embedding-model", "fake",
        "--json",
    )  # fmt: skip
    assert called.status == 0, called.err
    # Repeats removed and kept; one and two texts an image; the paper's rule and that of searches.
    assert len(json.loads(called.out)["results"]) == 8


WRONG = {
    "": "name either --annotations FILE or --queries FILE",
    "T --annotations A --queries A": "name either --annotations",
    "--annotations A": "name a table or a .jsonl",
    "T --text-only --annotations A": "--text-only takes --annotations alone",
    "T --annotations A --ties never": "--ties must be expected or sort",
    "x.jsonl --annotations A --version 1": "--version is for tables",
    "x.jsonl --annotations A": "there is no file x.jsonl",
    "nowhere --annotations A": "there is no table at",
    "T --annotations nowhere.json": "there is no file nowhere.json",
    "T --annotations A --embedding-model minilm-nowhere": "",
}


@pytest.mark.parametrize("words", WRONG)
def test_wrong_calls_are_told_in_one_line(
    skytext: Skytext,
    shared_table: Path,
    annotations: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    words: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    places: dict[str, object] = {"T": shared_table, "A": annotations}
    called = skytext("evaluate", *(places.get(word, word) for word in words.split()))
    assert called.status == 2
    assert called.out == ""
    assert WRONG[words] in called.err
    assert called.err.count("\n") == 1
