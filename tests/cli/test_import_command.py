"""Test that `skytext import` makes a table of descriptions without a captioner."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from skytext.models.fakes.embedders import FakeEmbedder
from skytext.models.text_embedder import Embeddings
from skytext.run import import_captions as importing
from skytext.table.commits.claim import hold
from skytext.table.commits.stage_rows import staged_unit_ids
from skytext.table.images_dataset import ImagesTable
from skytext.table.runs_dataset import last_runs
from tests.cli.conftest import Skytext
from tests.cli.tables import DESCRIBED
from tests.table.rows import good_row, location, make_table


def line(image: str, *texts: str) -> str:
    variants = [{"one_sentence": t, "feature": f"F {t}", "caption": f"C {t}"} for t in texts]
    return json.dumps({"image": image, "variants": variants, "model": "someone"}) + "\n"


@pytest.fixture
def descriptions(tmp_path: Path) -> Path:
    path = tmp_path / "described.jsonl"
    path.write_text("".join(line(f"x/{name}", *texts) for name, texts in DESCRIBED.items()))
    return path


def run_import(skytext: Skytext, *words: object) -> dict[str, Any]:
    called = skytext("import", *words, "--embedding-model", "fake", "--json")
    assert called.status == 0, called.err
    counts: dict[str, Any] = json.loads(called.out)
    return counts


def test_imported_descriptions_can_be_searched_evaluated_and_exported(
    skytext: Skytext, descriptions: Path, tmp_path: Path
) -> None:
    table = tmp_path / "table"
    counts = run_import(skytext, descriptions, "--table", table, "--root", "s3://b/images")
    assert counts == {
        "num_listed": 4, "num_new": 4, "num_changed": 0, "num_same": 0, "table_version": 1,
    }  # fmt: skip
    assert skytext("index", table).status == 0
    called = skytext("search", table, "ships in a harbour", "--json")
    assert called.status == 0, called.err
    hit = json.loads(called.out)["hits"][0]
    assert hit["uri"] == "s3://b/images/x/harbour.jpg"
    assert hit["caption"] == "C ships in a harbour"
    out = tmp_path / "again.jsonl"
    assert skytext("export", table, "--format", "rsrt-jsonl", "--output", out).status == 0
    assert out.read_text() == descriptions.read_text()
    captions = tmp_path / "captions.json"
    captions.write_text(
        json.dumps([{"image": name, "caption": texts} for name, texts in DESCRIBED.items()])
    )
    results = [
        json.loads(
            skytext(
                "evaluate", what, "--annotations", captions, "--embedding-model", "fake", "--json"
            ).out
        )
        for what in (table, descriptions)
    ]
    assert results[0] == results[1]
    [run] = last_runs(location(table), 5)
    assert (run.command, run.state, run.counts["num_new"]) == ("import", "done", 4)


def test_the_same_file_again_changes_nothing_and_a_corrected_one_what_it_must(
    skytext: Skytext, descriptions: Path, tmp_path: Path
) -> None:
    table = tmp_path / "table"
    run_import(skytext, descriptions, "--table", table)
    counts = run_import(skytext, descriptions, "--table", table)
    assert (counts["num_same"], counts["num_new"], counts["table_version"]) == (4, 0, 1)

    corrected = [line("x/new.jpg", "a dam"), line("x/river.jpg", "a dry river")]
    descriptions.write_text(descriptions.read_text().split("\n", 1)[1] + "".join(corrected))
    counts = run_import(skytext, descriptions, "--table", table)
    assert (counts["num_new"], counts["num_changed"], counts["num_same"]) == (1, 1, 3)
    opened = ImagesTable.open(location(table))
    assert (opened.num_rows(), len(opened.double_rows())) == (5, 0)
    texts = {one.member: one.captions[0]["one_sentence"] for one in opened.described_images()}
    assert texts["x/river.jpg"] == "a dry river"


def test_an_interrupted_import_continues(
    skytext: Skytext, descriptions: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importing, "_UNIT_ROWS", 1)
    monkeypatch.setattr(importing, "_UNITS_A_COMMIT", 2)
    commit = importing._Writer.commit
    calls = []

    def die(writer: Any) -> None:
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        commit(writer)

    monkeypatch.setattr(importing._Writer, "commit", die)
    table = tmp_path / "table"
    called = skytext("import", descriptions, "--table", table, "--embedding-model", "fake")
    assert called.status == 130
    # Two rows are committed, and the other two rows are in staged units.
    assert ImagesTable.open(location(table)).num_rows() == 2
    assert len(staged_unit_ids(location(table))) == 2
    monkeypatch.setattr(importing._Writer, "commit", commit)
    counts = run_import(skytext, descriptions, "--table", table)
    assert counts["num_same"] == 4
    opened = ImagesTable.open(location(table))
    assert (opened.num_rows(), len(opened.double_rows())) == (4, 0)
    assert staged_unit_ids(location(table)) == []


def test_a_held_table_is_not_changed(skytext: Skytext, descriptions: Path, tmp_path: Path) -> None:
    table = tmp_path / "table"
    with hold(location(table), "other", "caption"):
        called = skytext("import", descriptions, "--table", table, "--embedding-model", "fake")
    assert called.status == 1
    assert "skytext caption of" in called.err


@pytest.mark.parametrize(
    ("text", "status", "message"),
    [
        (None, 2, "there is no file"),
        ("{\n", 2, "line 1 is not JSON"),
        (line("a.jpg", "x") + line("a.jpg", "y"), 2, "the image 'a.jpg' occurs twice"),
        (json.dumps({"image": "a.jpg", "variants": []}) + "\n", 2, "expected a list of variants"),
        ("[" * 100_000, 2, "line 1 is nested too deeply"),
        (line("a.jpg", "\ud800"), 2, "line 1 has a text that is not valid Unicode"),
        (line("\udfff.jpg", "x"), 2, "line 1 has a text that is not valid Unicode"),
    ],
)
def test_wrong_files_are_reported(
    skytext: Skytext, tmp_path: Path, text: str | None, status: int, message: str
) -> None:
    path = tmp_path / "x.jsonl"
    if text is not None:
        path.write_text(text)
    called = skytext("import", path, "--table", tmp_path / "t", "--embedding-model", "fake")
    assert called.status == status
    assert message in called.err
    assert called.err.count("\n") == 1


@pytest.mark.parametrize("last", [line("3.jpg", "again"), "{\n", line("x.jpg", "\ud800")])
def test_a_rejected_file_changes_nothing(
    skytext: Skytext, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, last: str
) -> None:
    monkeypatch.setattr(importing, "_UNIT_ROWS", 2)
    monkeypatch.setattr(importing, "_UNITS_A_COMMIT", 2)
    path = tmp_path / "x.jsonl"
    path.write_text("".join(line(f"{i}.jpg", "a river") for i in range(10)) + last)
    table = tmp_path / "t"
    called = skytext("import", path, "--table", table, "--embedding-model", "fake")
    assert called.status == 2
    assert ImagesTable.find(location(table)) is None
    assert last_runs(location(table), 5) == []
    assert list(tmp_path.iterdir()) == [path]


def test_an_export_of_repeated_names_comes_back_whole(skytext: Skytext, tmp_path: Path) -> None:
    table = location(tmp_path / "table")
    rows = [
        good_row("0001.jpg", shard="a.tar"),
        good_row("0001.jpg", shard="b.tar"),
        good_row("0001.jpg", shard="b.tar", archive="other"),
    ]
    make_table(table, rows)
    first, second = tmp_path / "first.jsonl", tmp_path / "second.jsonl"
    assert skytext("export", table.uri, "--format", "rsrt-jsonl", "--output", first).status == 0
    again = tmp_path / "again"
    counts = run_import(skytext, first, "--table", again)
    assert (counts["num_listed"], counts["num_new"]) == (3, 3)
    assert run_import(skytext, first, "--table", again)["num_same"] == 3
    # The export equals the imported file.
    assert skytext("export", again, "--format", "rsrt-jsonl", "--output", second).status == 0
    assert second.read_text() == first.read_text()


def test_a_table_of_another_model_is_refused(
    skytext: Skytext, shared_table: Path, descriptions: Path
) -> None:
    called = skytext("import", descriptions, "--table", shared_table)
    assert called.status == 2
    assert "fake" in called.err
    assert ImagesTable.open(location(shared_table)).num_rows() == 7


def test_a_model_that_gives_no_finite_vector_ends_the_import(
    skytext: Skytext, descriptions: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = FakeEmbedder.embed_documents

    def broken(self: FakeEmbedder, texts: Sequence[str]) -> Embeddings:
        found = real(self, texts)
        vectors = found.vectors.copy()
        vectors[-1] = np.inf
        return Embeddings(vectors, found.truncated)

    monkeypatch.setattr(FakeEmbedder, "embed_documents", broken)
    words = ("--table", tmp_path / "table", "--embedding-model", "fake")
    called = skytext("import", descriptions, *words)
    assert called.status != 0
    assert "the model 'fake' returned no finite vector for '" in called.err
    assert ImagesTable.find(location(tmp_path / "table")) is None


@pytest.mark.parametrize(
    ("root", "uri"),
    [
        ("s3://b/w%20x/", "s3://b/w%20x/a b%.jpg"),
        ("GS://b", "gs://b/a b%.jpg"),
        ("my images", "file://{here}/my%20images/a%20b%25.jpg"),
        ("file:{here}/my%20images/", "file://{here}/my%20images/a%20b%25.jpg"),
        ("https://host/images", "https://host/images/a b%.jpg"),
        (None, "file://{here}/described.jsonl#a b%.jpg"),
    ],
)
def test_image_addresses_are_below_the_given_root(
    skytext: Skytext,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    root: str | None,
    uri: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("described.jsonl").write_text(line("a b%.jpg", "a river"))
    named = [] if root is None else ["--root", root.format(here=tmp_path)]
    run_import(skytext, "described.jsonl", "--table", "table", *named)
    [row] = ImagesTable.open(location(tmp_path / "table")).dataset.to_table(["uri"]).to_pylist()
    assert row["uri"] == uri.format(here=tmp_path)
