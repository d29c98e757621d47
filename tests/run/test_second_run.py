"""Test a second run on a table with changed images, failed images and uncommitted units."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from skytext.errors import JobError
from skytext.run.caption_run import run_caption
from skytext.run.control.committer import RemoteCommitter
from skytext.run.plans.caption_plan import plan_caption, plan_retry
from skytext.run.progress import RunSummary
from skytext.table.commits.stage_rows import staged_unit_ids
from skytext.table.runs_dataset import last_runs
from tests.archive.formats.tars import Entry
from tests.archives import bad_images, images, jpeg, write_archive
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

CUT, EMPTY = bad_images()["cut.jpg"][0], b""


def by_member(table: Path, *columns: str) -> dict[str, dict[str, Any]]:
    found = rows(table, "member", *columns)
    assert len({row["member"] for row in found}) == len(found)
    return {row.pop("member"): row for row in found}


@ray
@with_ray
def test_a_changed_image_replaces_its_row_and_a_copy_is_not_described(tmp_path: Path) -> None:
    root = write_archive(tmp_path / "aerial", {"a.tar": images(0, 4), "same.tar": images(9, 2)})
    table = tmp_path / "table"
    first, _ = caption(root, table)
    before = by_member(table, "run_id", "content_sha256", "captions", "vectors", "created_at")
    entries: list[Entry] = [*images(0, 4), ("copy.jpg", jpeg(9))]
    entries[1] = ("0001.jpg", jpeg(77))
    write_archive(root, {"a.tar": entries})
    second, _ = caption(root, table)
    assert (second.num_captioned, second.num_skipped, second.num_listed) == (2, 5, 7)
    check_one_row_an_image(table, second)
    after = by_member(table, "run_id", "content_sha256", "captions", "vectors", "created_at")
    changed = after.pop("0001.jpg")
    assert changed["content_sha256"] == hashlib.sha256(jpeg(77)).hexdigest()
    assert changed["run_id"] == second.run_id
    assert changed["captions"] != before["0001.jpg"]["captions"]
    copy = after.pop("copy.jpg")
    assert (copy["captions"], copy["run_id"]) == (before["0009.jpg"]["captions"], second.run_id)
    # Only the changed image was described. The other rows are unchanged.
    assert second.num_output_tokens == 5 * 90
    del before["0001.jpg"]
    assert after == before
    # The run made only one version, so the image always had exactly one row.
    assert second.table_version == (first.table_version or 0) + 1
    again, seen = caption(root, table)
    check_nothing_to_do(again, seen, second)


def retry(table: Path, **settings: Any) -> RunSummary:
    return run_caption(plan_retry([], str(table), config(**settings)))


@ray
@with_ray
def test_failed_images_are_retried_up_to_max_attempts(tmp_path: Path) -> None:
    entries: list[Entry] = [*images(0, 3), ("cut.jpg", CUT), ("empty.jpg", EMPTY)]
    root = write_archive(tmp_path / "aerial", {"a.tar": entries, "done.tar": images(10, 2)})
    table = tmp_path / "table"
    first, _ = caption(root, table)
    assert (first.num_ok, first.num_failed) == (5, 2)
    before = by_member(table, "unit_id")
    # A run without a retry does not change failed rows.
    again, seen = caption(root, table)
    check_nothing_to_do(again, seen, first)

    entries[3] = ("cut.jpg", jpeg(50))
    write_archive(root, {"a.tar": [*entries, *images(20, 1)]})
    second = retry(table)
    assert (second.num_captioned, second.num_newly_failed) == (1, 1)
    assert second.failures == {"decode/empty": 1}
    assert second.table_version == (first.table_version or 0) + 1
    found = by_member(table, "status", "failure", "unit_id", "vectors")
    assert found["cut.jpg"]["status"] == "ok"
    assert found["cut.jpg"]["failure"] is None
    assert len(found["cut.jpg"]["vectors"]) == 5
    assert found["empty.jpg"]["failure"]["attempts"] == 2
    kept = ("0000.jpg", "0001.jpg", "0002.jpg", "0010.jpg", "0011.jpg")
    assert all(found[name]["unit_id"] == before[name]["unit_id"] for name in kept)
    # A retry does not describe new images.
    assert len(found) == 7
    last = last_runs(plan_retry([], str(table), config()).location, 1)
    assert [(run.command, run.state) for run in last] == [("retry-failed", "done")]

    # The shard is known now, so only the image is fetched, and no manifest is written.
    state = table / "state" / "manifest"
    written = {path: path.stat().st_mtime_ns for path in state.rglob("*.parquet")}
    third = retry(table)
    assert (third.num_captioned, third.num_newly_failed) == (0, 1)
    assert third.failures == {"decode/empty": 1}
    assert {path: path.stat().st_mtime_ns for path in state.rglob("*.parquet")} == written
    # The limit is three attempts, so the image is not retried again.
    version = open_table(table).version
    fourth = retry(table)
    assert (fourth.num_captioned, fourth.num_newly_failed, fourth.engine_span_s) == (0, 0, 0)
    assert open_table(table).version == version
    assert by_member(table, "failure")["empty.jpg"]["failure"]["attempts"] == 3
    whole, _ = caption(root, table)
    assert (whole.num_captioned, whole.num_failed) == (1, 1)
    check_one_row_an_image(table, whole)


@ray
@with_ray
def test_staged_uncommitted_images_are_not_described_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = write_archive(tmp_path / "aerial", {"a.tar": images(0, 6), "b.tar": images(6, 6)})
    table = tmp_path / "table"
    real, calls = RemoteCommitter.commit, []

    def commit(self: RemoteCommitter, unit_ids: Sequence[str]) -> None:
        calls.append(unit_ids)
        if len(calls) > 1:
            raise JobError("the store is away")
        real(self, unit_ids)

    with monkeypatch.context() as patch:
        patch.setattr(RemoteCommitter, "commit", commit)
        with pytest.raises(JobError, match="the store is away"):
            caption(root, table, job__commit_images=4)
    first = by_member(table, "unit_id")
    plan = plan_caption([str(root)], str(table), config())
    num_staged = len(staged_unit_ids(plan.location))
    assert 0 < len(first) < 12
    assert num_staged > 0
    summary = run_caption(plan)
    assert summary.num_adopted > 0
    assert summary.num_captioned == 12 - len(first) - summary.num_adopted
    assert summary.num_skipped == len(first) + summary.num_adopted
    check_one_row_an_image(table, summary)
    assert staged_unit_ids(plan.location) == []
    after = by_member(table, "unit_id")
    assert first.items() <= after.items()
    # The failed run did not finish.
    assert last_runs(plan.location, 9)[-1].state == "started"


@ray
@with_ray
def test_images_staged_with_other_settings_are_described_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = write_archive(tmp_path / "aerial", {"a.tar": images(0, 4)})
    table = tmp_path / "table"

    def away(*_: object) -> None:
        raise JobError("the store is away")

    with monkeypatch.context() as patch:
        patch.setattr(RemoteCommitter, "commit", away)
        with pytest.raises(JobError):
            caption(root, table)
    summary, _ = caption(root, table, caption__num_variants=2)
    assert (summary.num_adopted, summary.num_captioned) == (0, 4)
    assert all(len(row["vectors"]) == 2 for row in rows(table, "vectors"))
    assert len(list((table / "images.lance" / "data").iterdir())) == 1


@ray
@with_ray
def test_stale_captions_are_redone_on_request(
    tmp_path: Path,
) -> None:
    root = write_archive(tmp_path / "aerial", {"a.tar": images(0, 6), "b.tar": images(6, 3)})
    (root / "folder").mkdir()
    (root / "folder" / "x.jpg").write_bytes(jpeg(77))
    table = tmp_path / "table"
    first, _ = caption(root, table)
    left, _ = caption(root, table, caption__num_variants=2)
    assert (left.num_captioned, left.num_stale) == (0, first.num_ok)
    write_archive(root, {"c.tar": images(20, 2)})
    again, _ = caption(root, table, caption__num_variants=2, stale="captions")
    assert (again.num_captioned, again.num_stale) == (12, 0)
    check_one_row_an_image(table, again)
    assert all(len(row["vectors"]) == 2 for row in rows(table, "vectors"))
    done, seen = caption(root, table, caption__num_variants=2, stale="captions")
    check_nothing_to_do(done, seen, again)
