"""Test the commands ``plan``, ``failures`` and ``retry-failed``."""

from __future__ import annotations

import datetime as dt
import hashlib
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from skytext.archive import ReadLimits, discover
from skytext.config.settings import load_config
from skytext.run.plans.caption_plan import plan_caption
from skytext.run.stages.read_shards import ShardReader
from skytext.run.units import unpack
from skytext.table.commits.stage_rows import forget_records, staged_unit_ids
from skytext.table.images_dataset import ImagesTable
from skytext.table.location import TableLocation
from skytext.table.runs_dataset import RunRecord, record_run
from tests.archives import bad_images, images, jpeg, write_archive
from tests.cli.conftest import Skytext
from tests.table.rows import (
    committer,
    failed_row,
    good_row,
    good_rows,
    location,
    stage,
)

FAKES = ["--model", "fake", "--embedding-model", "fake"]
NOON = dt.datetime(2026, 1, 1, 12, tzinfo=dt.UTC)
SETTINGS = load_config(None, {"caption.model": "fake", "embed.model": "fake"})


def contents(folder: Path) -> dict[str, tuple[bytes, int]]:
    """Return the content and the modification time of each file in a folder, by path."""
    return {
        str(path): (path.read_bytes(), path.stat().st_mtime_ns)
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    """Make a table and an archive of two shards. One shard has changed since its rows were
    written."""
    root = write_archive(tmp_path / "aerial", {"a.tar": images(0, 5), "b.tar": images(10, 2)})
    where = location(tmp_path / "table")
    plan = plan_caption([str(root)], where.uri, SETTINGS)
    (a, b) = discover([str(root)])
    list(ShardReader(9, 10**9, ReadLimits(), where, None).units(a))
    rows = [
        good_row(
            name,
            content_sha256=hashlib.sha256(data).hexdigest(),
            shard_etag=a.etag,
            caption_fingerprint=plan.caption_fingerprint,
        )
        for name, data in images(0, 5)
        if isinstance(data, bytes)
    ]
    rows[1]["caption_fingerprint"] = "with other settings"
    rows[2] |= failed_row(rows[2]["member"]) | {"content_sha256": rows[2]["content_sha256"]}
    rows[3]["content_sha256"] = hashlib.sha256(b"as it was").hexdigest()
    rows += [good_row("gone.jpg", shard="b.tar", shard_etag="before")]
    rows += [good_row("0011.jpg", shard="b.tar", shard_etag="before", content_sha256="1" * 64)]
    unit = stage(where, rows)
    committer(where, plan.column).commit([unit])
    forget_records(where, [unit])
    assert b.path == "b.tar"
    return root


def test_plan_shows_the_work_for_every_image(
    skytext: Skytext, archive: Path, tmp_path: Path
) -> None:
    before = contents(tmp_path)
    called = skytext("plan", archive, "--table", tmp_path / "table", *FAKES)
    assert (called.status, called.err) == (0, "")
    assert called.out.splitlines() == [
        "7 images in 2 shards, 2 to be read",
        "             1  new: would be described",
        "             1  changed: would be described again, and the rows would be replaced",
        "             1  in a changed shard: would be described again if their bytes have changed",
        "             1  described with other settings: kept, unless --stale captions is given",
        "             1  failed in an earlier run: only skytext retry-failed and reindex try them "
        "again",
        "             2  done",
        "             1  no longer in the archive: their rows are kept (skytext reindex withdraws "
        "these rows)",
        "no time estimate: there is no earlier run with this model",
        "actors and tasks, if the cluster is large enough: engines 1, embedders 1, readers 2, "
        "writers 2",
    ]
    called = skytext("plan", archive, "--table", tmp_path / "table", *FAKES, "--stale", "captions")
    assert "1  described with other settings: would be described again" in called.out
    assert contents(tmp_path) == before


def test_plan_reports_missing_shards(skytext: Skytext, archive: Path, tmp_path: Path) -> None:
    (archive / "a.tar").unlink()
    called = skytext("plan", archive, "--table", tmp_path / "table", *FAKES)
    assert (
        "             6  no longer in the archive (1 shard missing completely): their rows are "
        "kept (skytext reindex withdraws these rows)"
    ) in called.out.splitlines()
    # A call with only one file of an archive does not show whether other files are missing.
    called = skytext(
        "plan", archive / "b.tar", "--archive", "aerial", "--table", tmp_path / "table", *FAKES
    )
    assert (
        "             1  no longer in the archive: their rows are kept (skytext reindex withdraws "
        "these rows)" in called.out.splitlines()
    )
    # A call with a folder of another archive does not show this either.
    other = write_archive(tmp_path / "orbital", {"a.tar": images(0, 1)})
    called = skytext("plan", other, "--table", tmp_path / "table", *FAKES)
    assert "gone" not in called.out


def finished_run(model: str, num_captioned: int, span_s: float) -> RunRecord:
    return RunRecord(
        run_id=f"{model}{num_captioned}",
        command="caption",
        state="done",
        started_at=NOON,
        ended_at=NOON,
        config={"caption": {"model": model}},
        counts={"num_captioned": num_captioned},
        timings_s={"engine_span_s": span_s},
    )


def test_plan_prints_json(skytext: Skytext, archive: Path, tmp_path: Path) -> None:
    where = location(tmp_path / "table")
    for run in (("fake", 30, 10.0), ("fake", 10, 10.0), ("other", 500, 1.0)):
        record_run(where, finished_run(*run))
    stage(where, good_rows(90, 1))
    before = contents(tmp_path)
    settings = ["--set", "job.cost_per_engine_hour=3600", "--set", "caption.engine.num_engines=2"]
    called = skytext("plan", archive, "--table", where.uri, *FAKES, *settings, "--json")
    assert called.status == 0, called.err
    assert called.out.count("\n") == 1
    assert json.loads(called.out) == {
        "num_shards": 2,
        "num_shards_to_read": 2,
        "num_images": {"new": 1, "changed": 1, "unsure": 1, "stale": 1, "failed": 1, "done": 2},
        "ignored": {},
        "num_failed_due": 1,
        "num_gone": 1,
        "num_shards_gone": 0,
        "num_old_versions": 0,
        "old_version_bytes": 0,
        "num_unread": 0,
        "unread": [],
        "num_staged_units": 1,
        "num_to_describe": 3,
        "num_to_embed": {},
        # Two runs described 40 images in 20 s with one engine. Runs of other models are ignored.
        "images_per_engine_s": 2.0,
        "time_s": 0.8,
        "engine_hours": 0.0004,
        "cost": 1.5,
        "pools": {
            "num_engines": 2,
            "max_engines": 2,
            "num_embedders": 2,
            "num_readers": 2,
            "num_writers": 2,
        },
    }
    lines = skytext("plan", archive, "--table", where.uri, *FAKES, *settings).out.splitlines()
    assert lines[-3:-1] == [
        "1 unit from an interrupted run would be committed first",
        "about 1 s with 2 engines (0.00 engine hours at 2.00 images/s per engine, as measured in "
        "earlier runs, cost 1.50)",
    ]
    assert contents(tmp_path) == before


def test_plan_reports_that_there_is_no_work(skytext: Skytext, tmp_path: Path) -> None:
    root = write_archive(tmp_path / "aerial", {"a.tar": images(0, 2)})
    where = location(tmp_path / "table")
    plan = plan_caption([str(root)], where.uri, SETTINGS)
    (shard,) = discover([str(root)])
    units = [unpack(u)[1] for u in ShardReader(9, 10**9, ReadLimits(), where, None).units(shard)]
    names = ("image_id", "content_sha256", "shard_etag")
    rows = [
        good_row(sample["member"], caption_fingerprint=plan.caption_fingerprint)
        | {name: sample[name] for name in names}
        for sample in pa.concat_tables(units).to_pylist()
    ]
    committer(where, plan.column).commit([unit := stage(where, rows)])
    forget_records(where, [unit])
    record_run(where, finished_run("fake", 40, 20.0))
    lines = skytext("plan", root, "--table", where.uri, *FAKES).out.splitlines()
    assert lines[0] == "2 images in 1 shard, 0 to be read"
    assert lines[-2] == "nothing to do: a run would not read any shard"
    assert "an engine" not in "".join(lines)


def test_plan_counts_ignored_files(skytext: Skytext, tmp_path: Path) -> None:
    junk = [("notes.md", ""), ("a.csv", ""), ("b.csv", ""), (".hidden.jpg", jpeg(2))]
    root = write_archive(tmp_path / "aerial", {"a.tar": [*images(0, 1), *junk]})
    write_archive(root / "north", {"x.jpg": jpeg(3), "x.csv": b"", ".x.jpg": b""})
    call = ["plan", root, "--table", tmp_path / "new", *FAKES]
    lines = skytext(*call).out.splitlines()
    assert lines[0] == "2 images in 2 shards, 2 to be read"
    assert lines[7] == "ignored: 2 hidden files, 4 other files (csv 3, md 1)"
    found = json.loads(skytext(*call, "--json").out)
    assert found["ignored"] == {"hidden": 2, ".csv": 3, ".md": 1}


def test_plan_lists_every_image(skytext: Skytext, archive: Path, tmp_path: Path) -> None:
    called = skytext("plan", archive, "--table", tmp_path / "table", *FAKES, "--list")
    assert called.status == 0
    shards = {shard.path: shard.uri for shard in discover([str(archive)])}
    assert called.out.splitlines()[:7] == [
        f"done\t{shards['a.tar']}#0000.jpg",
        f"stale\t{shards['a.tar']}#0001.jpg",
        f"failed\t{shards['a.tar']}#0002.jpg",
        f"changed\t{shards['a.tar']}#0003.jpg",
        f"done\t{shards['a.tar']}#0004.jpg",
        f"new\t{shards['b.tar']}#0010.jpg",
        f"unsure\t{shards['b.tar']}#0011.jpg",
    ]
    assert called.out.splitlines()[7] == "7 images in 2 shards, 2 to be read"


def test_plan_of_a_new_table_makes_none(skytext: Skytext, archive: Path, tmp_path: Path) -> None:
    before = contents(tmp_path)
    called = skytext("plan", archive, "--table", tmp_path / "new", *FAKES)
    assert called.status == 0
    assert called.out.splitlines()[1] == "             7  new: would be described"
    assert contents(tmp_path) == before
    assert not (tmp_path / "new").exists()


def test_plan_names_images_with_odd_characters(skytext: Skytext, tmp_path: Path) -> None:
    root = write_archive(tmp_path / "aerial", {"a.tar": [("[red] ü 1.jpg", jpeg(1))]})
    called = skytext("plan", root, "--table", tmp_path / "new", *FAKES, "--list")
    assert called.out.splitlines()[0].endswith("#[red] ü 1.jpg")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["plan", "missing", "--table", "t", *FAKES], "does not exist"),
        (["plan", "aerial", "--table", "t", *FAKES, "--list", "--json"], "--list prints lines"),
        (["plan", "aerial", "--table", "t", "--model", "./no"], "model './no' is not a folder"),
        (["failures", "missing"], "there is no table at"),
        (["retry-failed", "missing"], "there is no table at"),
        (["retry-failed", "table"], "run: skytext retry-failed "),
        (["failures", "table", "--samples", "-1"], "samples"),
        (["retry-failed", "table", "--max-attempts", "0"], "max-attempts"),
    ],
)
def test_a_wrong_call_is_reported(
    skytext: Skytext,
    archive: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    before = contents(tmp_path)
    called = skytext(*arguments)
    assert (called.status, called.out) == (2, "")
    assert message in called.err
    assert contents(tmp_path) == before


def test_failures_are_printed_by_reason_with_samples(skytext: Skytext, shared_table: Path) -> None:
    called = skytext("failures", shared_table, "--samples", "1")
    assert (called.status, called.err) == (0, "")
    lines = called.out.splitlines()
    assert lines[:2] == ["3 failed rows", "2 × decode/truncated_image"]
    assert lines[2] == "    file:///x/a.tar#cut.jpg  (1 attempt): nothing in it"
    assert lines[3] == "1 × decode/empty"
    assert lines[5:] == [f"next: skytext retry-failed {shared_table}"]


def test_failures_prints_json(skytext: Skytext, shared_table: Path) -> None:
    called = skytext("failures", shared_table, "--json")
    assert called.status == 0
    (truncated, empty) = json.loads(called.out)["failures"]
    assert (truncated["stage"], truncated["reason"]) == ("decode", "truncated_image")
    assert (truncated["rows"], len(truncated["samples"])) == (2, 2)
    assert empty["samples"] == [
        {"uri": "file:///x/a.tar#empty.jpg", "attempts": 1, "detail": "nothing in it"}
    ]
    none = json.loads(skytext("failures", shared_table, "--json", "--samples", "0").out)
    assert [group["samples"] for group in none["failures"]] == [[], []]


def test_a_table_without_failures_says_so(skytext: Skytext, tmp_path: Path) -> None:
    where = location(tmp_path / "table")
    committer(where).commit([stage(where, good_rows(0, 2))])
    assert skytext("failures", where.uri).out == "0 failed rows\n"
    assert json.loads(skytext("failures", where.uri, "--json").out) == {"failures": []}


def answer(skytext: Skytext, *arguments: object) -> dict[str, Any]:
    called = skytext(*arguments, "--json")
    assert called.status == 0, called.err
    found = json.loads(called.out)
    assert isinstance(found, dict)
    return found


@pytest.mark.ray
@pytest.mark.usefixtures("local_ray")
def test_a_retry_needs_nothing_but_the_table(skytext: Skytext, tmp_path: Path) -> None:
    """Test that a retry uses the sources, models and settings of the previous run."""
    cut = bad_images()["cut.jpg"][0]
    entries = [*images(0, 2), ("cut.jpg", cut), ("empty.jpg", b"")]
    root = write_archive(tmp_path / "aerial", {"a.tar": entries})
    table = tmp_path / "table"
    called = skytext(
        *("caption", root, "--table", table, *FAKES, "--num-variants", "3"),
        *("--set", "job.failure_rate_after=4", "--max-failure-rate", "0.4"),
    )
    assert (called.status, called.out) == (1, "")
    assert "2 of the first 4 images failed, which is more than --max-failure-rate " in called.err
    assert "more than --max-failure-rate 0.4 allows" in called.err
    # As the message says, the finished work is committed.
    assert skytext("failures", table).out.splitlines()[0] == "2 failed rows"

    write_archive(root, {"a.tar": [*images(0, 2), ("cut.jpg", jpeg(7)), ("empty.jpg", b"")]})
    called = skytext("retry-failed", table, "--max-failure-rate", "1")
    assert called.status == 0, called.err
    assert "model fake" in called.err
    assert "this run: 1 image described, 1 failed" in called.out
    (group,) = answer(skytext, "failures", table)["failures"]
    assert (group["reason"], group["rows"], group["samples"][0]["attempts"]) == ("empty", 1, 2)
    rows = ImagesTable.open(TableLocation.parse(str(table))).dataset.to_table().to_pylist()
    assert sorted((row["member"], row["num_variants"]) for row in rows) == [
        ("0000.jpg", 3),
        ("0001.jpg", 3),
        ("cut.jpg", 3),
        ("empty.jpg", None),
    ]
    done = answer(skytext, "retry-failed", table, root, "--max-attempts", "2")
    assert (done["num_captioned"], done["num_newly_failed"]) == (0, 0)
    assert staged_unit_ids(TableLocation.parse(str(table))) == []
