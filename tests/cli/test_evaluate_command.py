"""Test `skytext evaluate` and `skytext export` on a table of the fake embedder."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from skytext.captions.parsing import Variant, document_text
from skytext.config.embedding import EmbedConfig
from skytext.models.checkpoints import embed_model
from skytext.models.fakes.embedders import FakeEmbedder
from skytext.models.fingerprints import embedding_fingerprint
from tests.cli.conftest import Skytext
from tests.cli.tables import DESCRIBED, described_row
from tests.table.rows import committer, location, stage, text_column


@pytest.fixture
def annotations(tmp_path: Path) -> Path:
    """Write captions that equal the descriptions."""
    path = tmp_path / "captions.json"
    rows = [{"image": f"x/{name}", "caption": texts} for name, texts in DESCRIBED.items()]
    path.write_text(json.dumps(rows))
    return path


def make_table(folder: Path) -> Path:
    """Make a table with the vectors of its descriptions, like a table of a run."""
    where = location(folder)
    fingerprint = embedding_fingerprint(embed_model(EmbedConfig(model="fake")))
    rows = []
    for member, texts in DESCRIBED.items():
        row = described_row(member, texts)
        variants = [Variant(t, f"F {t}", f"C {t}") for t in texts]
        documents = [document_text(variant) for variant in variants]
        row["vectors"] = FakeEmbedder().embed_documents(documents).vectors.tolist()
        rows.append(row)
    committer(where, text_column("fake", fingerprint)).commit([stage(where, rows)])
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
        {f"a.tar/{name}": texts for name, texts in DESCRIBED.items()}
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


def test_the_published_rows_match_the_named_or_detected_benchmark(
    skytext: Skytext, shared_table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "rsitmd" / "captions"
    folder.mkdir(parents=True)
    monkeypatch.chdir(folder)
    Path("test_caps.txt").write_text("".join(f"{texts[0]}\n" for texts in DESCRIBED.values()))
    Path("test_filename.txt").write_text("".join(f"{name}\n" for name in DESCRIBED))
    call = ["evaluate", shared_table, "--annotations", "test_caps.txt", "--json"]
    for words, name, source in (
        ([], "rsitmd", "RS5M"),
        (["--benchmark", "rsicd"], "rsicd", "RS5M"),
        (["--benchmark", "none"], None, None),
    ):
        called = skytext(*call, *words)
        assert called.status == 0, called.err
        result = json.loads(called.out)
        assert result["benchmark"] == name
        assert (source in str(result["references"])) if source else not result["references"]


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
    # There is one result for each combination of repeats (removed or kept), number of texts per
    # image (one or two) and default ranking (two).
    assert len(json.loads(called.out)["results"]) == 8


WRONG = {
    "": "name exactly one of --annotations FILE, --queries FILE",
    "T --annotations A --queries A": "name exactly one of --annotations",
    "T --annotations A --golden A": "name exactly one of --annotations",
    "T --annotations A --at-least R@1=5": "--at-least needs --golden",
    "T --annotations A --benchmark coco": "--benchmark must be one of rsitmd, rsicd, ucm, sydney",
    "T --queries A --benchmark rsitmd": "--benchmark needs --annotations",
    "T --golden A --at-least foo": "--at-least 'foo' must be NAME=VALUE, e.g. R@10=90",
    "T --golden A --at-least R@1=[": "--at-least 'R@1=[': the value is not YAML",
    "--text-only --annotations O": "needs images with at least two captions",
    "--text-only --annotations O --json": "needs images with at least two captions",
    "T --golden A": "valid dictionary",
    "T --golden nowhere.yaml": "there is no file nowhere.yaml",
    "T --golden A --mode dense --mode text": "--golden tests only one setup",
    "T --annotations A --mode sparse": "--mode must be one of dense, text, hybrid (given",
    "T --annotations A --pooling min": "--pooling must be one of max, mean, max+mean, max+mean-z",
    "T --annotations A --fusion sum": "--fusion must be one of rrf, z, minmax, floor",
    "T --annotations A --granularity word": "--granularity must be one of sentence",
    "T --annotations A --plots nowhere": "--plots: the folder nowhere does not exist",
    "--text-only --annotations A --granularity all": "--granularity cannot be used with",
    "--annotations A": "name a table or a .jsonl",
    "T --text-only --annotations A": "--text-only needs --annotations",
    "T --annotations A --ties never": "--ties must be expected or sort",
    "x.jsonl --annotations A --version 1": "--version can be used only with a table",
    "x.jsonl --annotations A": "there is no file x.jsonl",
    "missing --annotations A": "there is no table at",
    "T --annotations missing.json": "there is no file missing.json",
    "T --annotations A --embedding-model minilm-missing": "",
}


@pytest.mark.parametrize("words", WRONG)
def test_wrong_calls_get_one_line(
    skytext: Skytext,
    shared_table: Path,
    annotations: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    words: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    one = tmp_path / "one.csv"
    one.write_text("image,caption\na.jpg,a river\nb.jpg,a road\n")
    places: dict[str, object] = {"T": shared_table, "A": annotations, "O": one}
    called = skytext("evaluate", *(places.get(word, word) for word in words.split()))
    assert called.status == 2
    assert called.out == ""
    assert WRONG[words] in called.err
    assert called.err.count("\n") == 1


def test_ablations_are_rows(skytext: Skytext, tmp_path: Path, annotations: Path) -> None:
    table = make_table(tmp_path / "table")
    called = skytext(
        "evaluate", table, "--annotations", annotations, "--json",
        "--mode", "dense", "--mode", "hybrid", "--pooling", "max", "--pooling", "mean",
        "--granularity", "all", "--granularity", "sentence", "--variants", 1, "--variants", 3,
        "--embedder", "fake",
    )  # fmt: skip
    assert called.status == 0, called.err
    rows = json.loads(called.out)["results"]
    assert len({row["name"] for row in rows}) == len(rows) == 2 * 2 * 2 * 2 * 2
    setups = [row["setup"] for row in rows]
    assert {setup["granularity"] for setup in setups} == {"all", "sentence"}
    assert {setup["embedder"] for setup in setups} == {None, "fake"}
    by_name = {row["name"]: row for row in rows}
    # The stored vectors and the new vectors are from the same model, so the results are the same.
    assert (
        by_name["skytext: dense, max; 1 variant"]["text_to_image"]
        == by_name["skytext: dense, max; 1 variant; fake"]["text_to_image"]
    )


def test_the_paper_s_rule_and_that_of_searches_are_measured_by_default(
    skytext: Skytext, tmp_path: Path, annotations: Path
) -> None:
    pytest.importorskip("matplotlib")
    table = make_table(tmp_path / "table")
    called = skytext("evaluate", table, "--annotations", annotations, "--plots", tmp_path)
    assert called.status == 0, called.err
    assert "skytext: dense, max " in called.out
    assert "skytext: hybrid, max+mean, floor 0.2 " in called.out
    assert f"plot: {tmp_path}/recall_at_k.png" in called.err
    assert (tmp_path / "recall_at_k.png").stat().st_size > 1000


def test_golden_queries_pass_or_fail(skytext: Skytext, shared_table: Path, tmp_path: Path) -> None:
    golden = tmp_path / "g.yaml"
    golden.write_text(
        "thresholds: {R@1: 90}\nqueries:\n"
        "  - {query: a brown river, images: [river.jpg], within: 1}\n"
        "  - {query: dense forest, images: [forest.jpg]}\n"
    )
    called = skytext("evaluate", shared_table, "--golden", golden)
    assert called.status == 0, called.err
    assert "golden: 2 of 2 checks passed" in called.out

    golden.write_text(golden.read_text().replace("[forest.jpg]", "[river.jpg]"))
    called = skytext("evaluate", shared_table, "--golden", golden, "--json")
    assert called.status == 1
    assert json.loads(called.out)["golden"]["passed"] is False
    called = skytext("evaluate", shared_table, "--golden", golden, "--at-least", "R@1=50")
    assert called.status == 0
    golden.write_text(f"{golden.read_text()}  - {{query: a dam, images: [dam.jpg], within: 3}}\n")
    called = skytext("evaluate", shared_table, "--golden", golden, "--allow-missing", "--json")
    assert called.status == 1
    assert json.loads(called.out)["golden"]["checks"][-1]["found"] is None
    called = skytext(
        "evaluate", shared_table, "--golden", golden, "--allow-missing", "--mode", "text"
    )
    assert called.status == 1
    assert "FAILED R@1: 50, wanted 90" in called.out
