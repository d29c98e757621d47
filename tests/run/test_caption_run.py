"""Test the whole job on a real Ray with two CPUs and the fake models of the package."""

from __future__ import annotations

import dataclasses
import itertools
import json
import logging
import shutil
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from skytext.archive import image_id
from skytext.config.settings import load_config
from skytext.errors import (
    CapacityError,
    ConfigError,
    IncompleteRunError,
    JobError,
    ModelError,
    SourceError,
    TableError,
)
from skytext.run import open_run
from skytext.run.caption_run import run_caption
from skytext.run.plans.caption_plan import CaptionPlan, plan_caption
from skytext.run.progress import Progress, RunSummary
from skytext.run.proof.compare_rows import Proof, Question, prove
from skytext.run.units import UnitRecord
from skytext.table.images_dataset import ImagesTable
from skytext.table.indexes.build_indexes import IndexReport, build_indexes, num_unindexed_rows
from skytext.table.location import TableLocation
from skytext.table.runs_dataset import last_runs
from tests.archive.formats.tars import make_tar
from tests.archives import (
    bad_images,
    bad_shards,
    images,
    jpeg,
    write_archive,
)
from tests.run.jobs import (
    caption,
    check_nothing_to_do,
    check_one_row_an_image,
    config,
    open_table,
    ray,
    rows,
    with_ray,
)
from tests.table.rows import (
    ALWAYS,
    committer,
    good_rows,
    location,
    stage,
    text_column,
)

LEAKED = "someone elses words about a zeppelin"


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return an archive with good images, sidecars with captions, and all kinds of damage."""
    mixed = [*images(0, 6)]
    mixed += [(name, data) for name, (data, _) in bad_images().items()]
    mixed += [
        ("captioned.jpg", jpeg(100)),
        ("captioned.json", {"caption": LEAKED, "captions": [LEAKED], "text": LEAKED, "gsd": 3}),
        ("captioned.txt", LEAKED),
        ("last.jpg", jpeg(101)),
    ]
    shards: dict[str, Any] = {"mixed.tar": mixed, "north/plain.tar": images(10, 9)}
    shards |= {name: content for name, (content, _, _) in bad_shards(20).items()}
    return write_archive(tmp_path_factory.mktemp("pipeline") / "aerial", shards)


NUM_OK, NUM_FAILED = 6 + 2 + 9 + 2, 3 + 4


@pytest.fixture(scope="module")
def done(archive: Path, local_ray: None) -> tuple[Path, CaptionPlan, RunSummary]:
    """Return a table of the archive after one run, with the plan and the summary of this run."""
    table = archive.parent / "table"
    plan = plan_caption([str(archive)], str(table), config())
    return table, plan, run_caption(plan)


@ray
def test_every_image_ends_as_one_row(done: tuple[Path, CaptionPlan, RunSummary]) -> None:
    table, plan, summary = done
    assert (summary.num_ok, summary.num_failed) == (NUM_OK, NUM_FAILED)
    assert (summary.num_captioned, summary.num_newly_failed) == (NUM_OK, NUM_FAILED)
    assert (summary.num_skipped, summary.num_stale) == (0, 0)
    assert summary.num_variants == 5 * NUM_OK
    assert summary.num_output_tokens == 5 * 90 * NUM_OK
    assert summary.engine_span_s > 0
    check_one_row_an_image(table, summary)
    opened = open_table(table)
    assert summary.table_version == opened.version
    assert opened.text_column.dim == 16
    for row in rows(table, "status", "captions", "vectors", "caption_fingerprint", "run_id"):
        assert row["run_id"] == summary.run_id
        if row["status"] == "ok":
            assert len(row["vectors"]) == len(row["captions"]) == 5
            assert row["caption_fingerprint"] == plan.caption_fingerprint
        else:
            assert (row["vectors"], row["captions"]) == (None, None)


@ray
def test_every_failure_has_a_reason(done: tuple[Path, CaptionPlan, RunSummary]) -> None:
    table, _, summary = done
    failed = {
        (row["shard"], row["member"]): row["failure"]
        for row in rows(table, "shard", "member", "failure")
        if row["failure"] is not None
    }
    expected = {("mixed.tar", n): ("decode", why) for n, (_, why) in bad_images().items()}
    expected |= {(n, ""): ("read", why) for n, (_, why, _) in bad_shards(20).items()}
    assert {place: (why["stage"], why["reason"]) for place, why in failed.items()} == expected
    assert all(why["detail"] and why["attempts"] == 1 for why in failed.values())
    assert summary.failures == {
        "decode/empty": 1,
        "decode/truncated_image": 1,
        "decode/not_an_image": 1,
        "read/shard_truncated": 1,
        "read/shard_compressed": 1,
        "read/shard_unreadable": 2,
    }


@ray
def test_captions_of_other_runs_are_not_reused_with_other_settings(
    done: tuple[Path, CaptionPlan, RunSummary],
) -> None:
    table, _, _ = done
    found = rows(table, "member", "text", "captions", "metadata", "gsd")
    (image_row,) = [row for row in found if row["member"] == "captioned.jpg"]
    assert LEAKED in image_row["metadata"]
    assert image_row["gsd"] == 3
    assert "zeppelin" not in json.dumps([(row["text"], row["captions"]) for row in found])


@ray
def test_a_run_is_recorded(done: tuple[Path, CaptionPlan, RunSummary]) -> None:
    table, plan, summary = done
    (run,) = last_runs(TableLocation.parse(str(table)), 9)
    assert (run.run_id, run.command, run.state) == (summary.run_id, "caption", "done")
    assert run.table_version == summary.table_version
    assert run.counts["num_listed"] == summary.num_listed
    assert run.counts["failures"] == summary.failures
    assert run.timings_s["duration_s"] == summary.duration_s
    assert run.config.pop("sources") == list(plan.sources)
    assert load_config(None, run.config) == plan.config
    assert {"python", "ray", "pylance", "torch"} <= set(run.versions)
    assert run.ended_at is not None
    assert run.ended_at > run.started_at


@ray
def test_a_finished_run_run_again_starts_no_engine(
    archive: Path, done: tuple[Path, CaptionPlan, RunSummary]
) -> None:
    table, _, first = done
    again, seen = caption(archive, table)
    check_nothing_to_do(again, seen, first)
    # There was no work, so no run is recorded.
    assert len(last_runs(TableLocation.parse(str(table)), 9)) == 1


@ray
def test_a_second_source_adds_only_its_own_work(
    archive: Path, done: tuple[Path, CaptionPlan, RunSummary], tmp_path: Path
) -> None:
    table, _, first = done
    shutil.copytree(table, tmp_path / "table")
    more = write_archive(tmp_path / "orbital", {"a.tar": images(200, 5)})
    plan = plan_caption(
        [str(archive), str(more)], str(tmp_path / "table"), config(caption__num_variants=2)
    )
    summary = run_caption(plan)
    assert (summary.num_captioned, summary.num_newly_failed) == (5, 0)
    assert summary.num_skipped == first.num_listed
    assert summary.num_variants == 10
    # The earlier rows have five variants. These rows are reported as stale and not changed.
    assert summary.num_stale == first.num_ok
    check_one_row_an_image(tmp_path / "table", summary)
    assert len(last_runs(plan.location, 9)) == 2


@ray
def test_after_a_change_of_a_source_only_new_images_are_described(
    done: tuple[Path, CaptionPlan, RunSummary], archive: Path, tmp_path: Path
) -> None:
    """The source changes in several ways.

    Two good images and three failed images are missing, three images are new, and one shard is
    repaired.
    """
    table, _, first = done
    shutil.copytree(table, tmp_path / "table")
    shutil.copytree(archive, tmp_path / "aerial")
    mixed = [*images(0, 6), ("captioned.jpg", jpeg(100)), ("last.jpg", jpeg(101))]
    changed: dict[str, Any] = {"mixed.tar": mixed, "north/plain.tar": images(12, 10)}
    changed |= {"cut.tar": images(20, 3)}
    write_archive(tmp_path / "aerial", changed)
    before = {row["image_id"] for row in rows(tmp_path / "table", "image_id")}
    summary, _ = caption(tmp_path / "aerial", tmp_path / "table")
    assert (summary.num_captioned, summary.num_newly_failed) == (3 + 1, 0)
    # The first two images of plain.tar and the three failed images of mixed.tar are missing.
    assert summary.num_gone == 2 + 3
    # The row for the truncated end of cut.tar was removed.
    assert summary.num_skipped == first.num_listed - summary.num_gone - 1
    assert summary.num_listed == summary.num_ok + summary.num_failed == 8 + 10 + 3 + 3
    after = [row["image_id"] for row in rows(tmp_path / "table", "image_id")]
    assert len(after) == len(set(after)) == summary.num_listed + summary.num_gone
    # The rows of missing images are reported and kept. Only the row for the truncated end is
    # removed, because the shard is no longer truncated.
    (marker,) = before - set(after)
    assert marker == image_id("aerial", "cut.tar", "", 0)
    (run, _) = last_runs(TableLocation.parse(str(tmp_path / "table")), 9)
    assert run.counts["num_gone"] == summary.num_gone

    again, seen = caption(tmp_path / "aerial", tmp_path / "table")
    check_nothing_to_do(again, seen, summary)
    assert again.num_gone == summary.num_gone


@ray
def test_a_plan_from_before_another_run_does_only_what_is_left(
    done: tuple[Path, CaptionPlan, RunSummary], archive: Path, tmp_path: Path
) -> None:
    """A run selects its work when it holds the table, not when its plan is made."""
    table, first_plan, first = done
    shutil.copytree(table, tmp_path / "table")
    copy = TableLocation.parse(str(tmp_path / "table"))
    # The plan was made when there was no table.
    check_nothing_to_do(run_caption(dataclasses.replace(first_plan, location=copy)), [], first)

    more = write_archive(tmp_path / "orbital", {"a.tar": images(200, 6)})
    call = ([str(archive), str(more)], copy.uri, config())
    one, two = plan_caption(*call), plan_caption(*call)
    summary = run_caption(one)
    assert summary.num_captioned == 6
    again = run_caption(two)
    check_nothing_to_do(again, [], summary)
    check_one_row_an_image(tmp_path / "table", again)
    assert len(last_runs(copy, 9)) == 2


@ray
@with_ray
def test_an_index_can_be_built_during_a_run(tmp_path: Path) -> None:
    root = write_archive(tmp_path / "aerial", {f"{i}.tar": images(20 * i, 15) for i in range(2)})
    small = config(job__unit_images=1, job__commit_images=10)
    plan = plan_caption([str(root)], str(tmp_path / "table"), small)
    reports: list[IndexReport] = []

    def index(progress: Progress) -> None:
        if progress.num_committed and not reports:
            table = open_table(tmp_path / "table")
            assert len(table.dataset.get_fragments()) >= 8
            reports.append(build_indexes(table, ALWAYS))

    summary = run_caption(plan, on_progress=index)
    (report,) = reports
    assert report.num_fragments == 1
    assert 10 <= report.num_rows < 30
    assert summary.num_captioned == 30
    check_one_row_an_image(tmp_path / "table", summary)
    table = open_table(tmp_path / "table")
    assert summary.table_version == table.version
    assert num_unindexed_rows(table) == 30 - report.num_rows
    again = build_indexes(table, ALWAYS)
    assert num_unindexed_rows(ImagesTable.open(plan.location, again.table_version)) == 0
    assert all(len(row["vectors"]) == 5 for row in rows(tmp_path / "table", "vectors"))


@ray
def test_the_table_is_proven_on_a_worker(
    done: tuple[Path, CaptionPlan, RunSummary], monkeypatch: pytest.MonkeyPatch
) -> None:
    """If the driver read the table, the memory of the driver would grow with the table."""
    _, plan, summary = done

    def refuse(*_: object) -> None:
        pytest.fail("the driver read the table")

    monkeypatch.setattr(ImagesTable, "rows_by_shard", refuse)
    monkeypatch.setattr(ImagesTable, "num_stale", refuse)
    question = Question(plan.location, summary.table_version, None, "another")
    assert prove(question, [], []).num_stale == NUM_OK


@ray
def test_a_run_with_lost_rows_reports_them(
    done: tuple[Path, CaptionPlan, RunSummary],
    archive: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    table, _, first = done
    shutil.copytree(table, tmp_path / "table")

    def lose_and_prove(question: Question, *more: Any) -> Proof:
        where = question.location
        ImagesTable.open(where).dataset.delete("member IN ('0003.jpg', '0012.jpg')")
        version = ImagesTable.open(where).version
        return prove(dataclasses.replace(question, version=version), *more)

    with monkeypatch.context() as patch:
        patch.setattr("skytext.run.prove_run.prove", lose_and_prove)
        with pytest.raises(IncompleteRunError) as caught:
            caption(archive, tmp_path / "table")
    assert "2 of 6 shards may be incomplete" in str(caught.value)
    for path, before, now in (("north/plain.tar", 9, 8), ("mixed.tar", 11, 10)):
        rows = f"it had {before} rows at the start of the run, it has {now} rows now"
        assert f"{path}: {rows}" in str(caught.value)
    assert "\n" not in str(caught.value)
    # There was no work, so no run is recorded. The next run repeats the lost work.
    assert len(last_runs(TableLocation.parse(str(tmp_path / "table")), 9)) == 1
    summary, _ = caption(archive, tmp_path / "table")
    assert summary.num_captioned == 2
    assert summary.num_listed == first.num_listed
    check_one_row_an_image(tmp_path / "table", summary)


@ray
@with_ray
def test_the_proof_holds_after_any_failure_of_the_engine(tmp_path: Path) -> None:
    root = write_archive(tmp_path / "aerial", {f"{i}.tar": images(20 * i, 20) for i in range(3)})
    model = "fake:fail=0.2,empty=0.2,repeat=0.1,truncate=0.3"
    summary, _ = caption(root, tmp_path / "table", caption__model=model, caption__max_attempts=1)
    assert summary.num_listed == 60
    check_one_row_an_image(tmp_path / "table", summary)
    assert 0 < summary.failures["caption/engine_refused"] < 60
    assert 0 < summary.failures["caption/no_good_variant"] < 60
    assert summary.num_ok > 0
    assert summary.num_variants < 5 * summary.num_ok
    sums = rows(tmp_path / "table", "num_variants", "captions")
    assert summary.num_variants == sum(row["num_variants"] or 0 for row in sums)
    assert all(len(row["captions"] or ()) == (row["num_variants"] or 0) for row in sums)


@ray
@with_ray
def test_an_archive_and_a_table_in_a_store(s3: Any) -> None:
    s3.create_bucket(Bucket="earth")
    for i in range(2):
        s3.put_object(Bucket="earth", Key=f"aerial/{i}.tar", Body=make_tar(images(10 * i, 5)))
    s3.put_object(Bucket="earth", Key="aerial/bad.tar", Body=b"")
    table = f"s3://earth/tables/{uuid.uuid4().hex}"
    summary, _ = caption("s3://earth/aerial", table)
    assert (summary.num_ok, summary.num_failed) == (10, 1)
    check_one_row_an_image(table, summary)
    uris = {row["uri"] for row in rows(table, "uri")}
    assert "s3://earth/aerial/0.tar#0000.jpg" in uris
    again, seen = caption("s3://earth/aerial/", table)
    check_nothing_to_do(again, seen, summary)


@ray
@with_ray
def test_a_commit_has_at_most_the_configured_number_of_images(tmp_path: Path) -> None:
    root = write_archive(tmp_path / "aerial", {"a.tar": images(0, 12), "b.tar": images(12, 12)})
    summary, seen = caption(root, tmp_path / "table", job__commit_images=4)
    assert len(open_table(tmp_path / "table").dataset.versions()) == 6
    # A count before the first commit is 0. The timing decides whether such a count is visible.
    assert sorted({committed for _, committed in seen} - {0}) == [4, 8, 12, 16, 20, 24]
    assert summary.num_ok == open_table(tmp_path / "table").num_rows() == 24


class StopAfter:
    """Ends a run after a number of units."""

    class Stopped(Exception):
        pass

    def __init__(self, num_units: int) -> None:
        self.left = num_units
        self.progress = Progress(0)

    def __call__(self, progress: Progress) -> None:
        self.progress = progress
        self.left -= 1
        if self.left == 0:
            raise self.Stopped


def engine_dies_after(num_units: int) -> Callable[..., Iterator[UnitRecord]]:
    """Return a stream of the job that fails after a number of units."""
    stream = open_run.stream

    def cut_off(*arguments: Any) -> Iterator[UnitRecord]:
        yield from itertools.islice(stream(*arguments), num_units)
        raise JobError("the engine died")

    return cut_off


@pytest.mark.proof
@ray
@with_ray
@pytest.mark.parametrize("end", ["interrupt", "engine"])
def test_an_interrupted_run_continues(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, end: str
) -> None:
    root = write_archive(tmp_path / "aerial", {f"{i}.tar": images(20 * i, 14) for i in range(2)})
    # No commit is due before the end.
    call = ([str(root)], str(tmp_path / "table"), config(job__commit_images=1000))
    stop = StopAfter(5 if end == "interrupt" else 1000)
    with monkeypatch.context() as patch:
        if end == "engine":
            patch.setattr(open_run, "stream", engine_dies_after(5))
        with pytest.raises(StopAfter.Stopped if end == "interrupt" else JobError):
            run_caption(plan_caption(*call), on_progress=stop)
    committed = {row["image_id"]: row for row in rows(tmp_path / "table", "image_id", "run_id")}
    # Every unit that the driver received is committed.
    assert len(committed) == stop.progress.num_ok == stop.progress.num_committed
    assert 14 <= len(committed) < 28
    summary = run_caption(plan_caption(*call))
    # Some units were staged, but the driver did not receive them. The next run commits these units
    # and does not describe their images again.
    assert summary.num_skipped == len(committed) + summary.num_adopted
    assert summary.num_captioned == 28 - summary.num_skipped
    check_one_row_an_image(tmp_path / "table", summary)
    after = {row["image_id"]: row for row in rows(tmp_path / "table", "image_id", "run_id")}
    assert all(after[image] == row for image, row in committed.items())


@ray
@with_ray
def test_a_plan_that_does_not_fit_is_refused_at_once(tmp_path: Path) -> None:
    root = write_archive(tmp_path / "aerial", {"a.tar": images(0, 2)})
    plan = plan_caption(
        [str(root)], str(tmp_path / "table"), config(caption__engine__num_engines=50)
    )
    started = time.monotonic()
    with pytest.raises(CapacityError, match=r"needs 50\.85 CPUs .* the cluster has 2 .*\(50\)"):
        run_caption(plan)
    assert time.monotonic() - started < 5
    assert ImagesTable.find(plan.location) is None
    assert last_runs(plan.location, 9) == []


@ray
@with_ray
def test_a_model_that_cannot_start_ends_the_job_in_one_line(tmp_path: Path) -> None:
    root = write_archive(tmp_path / "aerial", {f"{i}.tar": images(i, 1) for i in range(2)})
    plan = plan_caption([str(root)], str(tmp_path / "table"), config())
    # The model changes after the plan was made, as if its checkpoint had changed. Only the actor
    # reads the checkpoint.
    broken = dataclasses.replace(plan.caption_model, name="fake:nonsense=1")
    with pytest.raises(ConfigError, match="of a fake model is not valid") as caught:
        run_caption(dataclasses.replace(plan, caption_model=broken))
    assert type(caught.value) is ConfigError
    assert "\n" not in str(caught.value)
    assert ImagesTable.find(plan.location) is None


@ray
@with_ray
def test_a_source_with_one_shard_prints_no_warning(tmp_path: Path) -> None:
    root = write_archive(tmp_path / "aerial", {"a.tar": images(0, 3)})
    records: list[logging.LogRecord] = []
    handler = logging.Handler(logging.WARNING)
    handler.emit = records.append  # type: ignore[method-assign]
    loggers = [logging.getLogger(name) for name in ("ray", "ray.data", "py.warnings")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.addHandler(handler)
        logger.setLevel(logging.WARNING)
    try:
        summary, _ = caption(root, tmp_path / "table")
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.removeHandler(handler)
            logger.setLevel(level)
    assert summary.num_captioned == 3
    assert [record.getMessage() for record in records] == []


def test_another_embedder_is_refused_by_the_plan(tmp_path: Path) -> None:
    where = location(tmp_path / "table")
    committer(where, text_column("another", "0" * 32)).commit([stage(where, good_rows(0, 1))])
    root = write_archive(tmp_path / "aerial", {"a.tar": images(0, 1)})
    with pytest.raises(TableError, match=r"embedded with 'another'.*would use 'fake'"):
        plan_caption([str(root)], where.uri, config())


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"caption__model": "./missing"}, ModelError, "model './missing' is no"),
        ({"embed__model": "a/b/c"}, ModelError, "model 'a/b/c' is no"),
        ({"caption__prompt": "nothing-9"}, ConfigError, "nothing-9"),
        (
            {"caption__model": "fake:bogus=1"},
            ConfigError,
            "'fake:bogus=1' of a fake model is not valid",
        ),
        (
            {"caption__model": "fake:fail=2"},
            ConfigError,
            "'fake:fail=2' of a fake model is not valid",
        ),
        ({"caption__chat_template": "no.jinja"}, ConfigError, "cannot read the chat template no"),
        (
            {"caption__model": "demo", "caption__revision": "v2"},
            ConfigError,
            "revision 'v2' was given for 'demo'",
        ),
    ],
)
def test_unusable_inputs_are_reported_by_the_plan(
    tmp_path: Path, settings: dict[str, Any], error: type[Exception], message: str
) -> None:
    root = write_archive(tmp_path / "aerial", {"a.tar": images(0, 1)})
    with pytest.raises(error, match=message):
        plan_caption([str(root)], str(tmp_path / "table"), config(**settings))
    assert not (tmp_path / "table").exists()


def test_a_compressed_tar_in_a_folder_is_refused_by_the_plan(tmp_path: Path) -> None:
    root = write_archive(tmp_path / "aerial", {"a.tar": images(0, 1), "b.tar.gz": b"\x1f\x8b"})
    with pytest.raises(SourceError, match=r"b\.tar\.gz is a compressed tar"):
        plan_caption([str(root)], str(tmp_path / "table"), config())


def test_a_plan_reports_its_findings(tmp_path: Path) -> None:
    root = write_archive(tmp_path / "aerial", {"a.tar": images(0, 1), "b.tar": images(1, 1)})
    plan = plan_caption([str(root)], str(tmp_path / "table"), config())
    assert [shard.path for shard in plan.shards] == ["a.tar", "b.tar"]
    assert plan.total_bytes == sum((root / name).stat().st_size for name in ("a.tar", "b.tar"))
    assert plan.sources == (str(root),)
    assert (plan.prompt.prompt_id, plan.caption_model.name) == ("rsrt-1", "fake")
    other = plan_caption([str(root)], str(tmp_path / "t"), config(caption__temperature=0.5))
    assert other.caption_fingerprint != plan.caption_fingerprint
