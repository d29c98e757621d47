"""Test the whole command `embed-images` on the Ray of the test session."""

from __future__ import annotations

import signal
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from skytext.config.settings import load_config
from skytext.errors import (
    CapacityError,
    CommitConflictError,
    ConfigError,
    InterruptedRunError,
    SkytextError,
    TableError,
    TableHeldError,
)
from skytext.models.fakes.embedders import FakeImageEmbedder
from skytext.pixels.decode import decode_rgb
from skytext.run.control.committer import RemoteCommitter
from skytext.run.plans.caption_plan import earlier_sources
from skytext.run.plans.vector_plan import plan_images
from skytext.run.progress import Progress
from skytext.run.vector_run import VectorSummary, run_vectors
from skytext.table.commits.claim import hold
from skytext.table.commits.stage_rows import read_records, staged_unit_ids
from skytext.table.images_dataset import ImagesTable
from skytext.table.location import TableLocation
from skytext.table.rows.missing_vectors import image_column_of
from skytext.table.runs_dataset import caption_settings, last_runs
from tests.archives import bad_images, images, jpeg, write_archive
from tests.models.clip_checkpoint import PROJECTION, make_clip
from tests.run.jobs import (
    caption,
    open_table,
    ray,
    rows,
    with_ray,
)
from tests.table.image_rows import rows_of
from tests.table.rows import failed_row, good_rows, location, make_table

pytestmark = [ray, with_ray]


def embed(
    table: Path, *, replace: bool = False, watch: Any = None, **settings: Any
) -> VectorSummary:
    small = {"image_embed.unit_images": 4, "image_embed.commit_images": 8}
    given = {name.replace("__", "."): value for name, value in settings.items()}
    plan = plan_images(str(table), load_config(None, small | given), replace=replace)
    return run_vectors(plan, on_progress=watch or (lambda _: None))


def vectors(table: Path) -> dict[str, Any]:
    found = rows(table, "member", "status", "image_vector")
    return {row["member"]: row["image_vector"] for row in found if row["status"] == "ok"}


def check_all(table: Path, seeds: range) -> None:
    found = vectors(table)
    expected = FakeImageEmbedder().embed_images([decode_rgb(jpeg(seed)) for seed in seeds])
    got = np.array([found[f"{seed:04d}.jpg"] for seed in seeds], np.float32)
    np.testing.assert_array_equal(got, expected)


SHARDS = {"a.tar": images(0, 13), "b.tar": images(13, 8)}


@pytest.fixture
def captioned(tmp_path: Path) -> Path:
    """Return a table of 21 images in four fragments. The table also has a failed row."""
    described = rows_of(write_archive(tmp_path / "aerial", SHARDS))
    parts = [described[i : i + 6] for i in range(0, 21, 6)]
    make_table(location(tmp_path / "table"), [*parts[0], failed_row("bad.jpg")], *parts[1:])
    return tmp_path / "table"


def test_every_image_gets_a_vector_once_and_later_ones_when_run_again(tmp_path: Path) -> None:
    bad = [(name, data) for name, (data, _) in bad_images().items()]
    captioned = tmp_path / "table"
    caption(write_archive(tmp_path / "aerial", SHARDS | {"c.tar": bad}), captioned)
    journal = tmp_path / "journal"
    model = {"image_embed__model": f"fake:journal={journal}"}
    first = embed(captioned, **model)
    assert (first.num_ok, first.num_with_vector, first.num_embedded) == (21, 21, 21)
    assert (first.num_failed, first.num_skipped, first.device) == (0, 0, "cpu")
    check_all(captioned, range(21))
    assert staged_unit_ids(TableLocation.parse(str(captioned))) == []
    again = embed(captioned)
    assert (again.num_embedded, again.num_skipped) == (0, 21)
    assert again.table_version == first.table_version
    # New and changed images have no vectors until the command is run again.
    changed = [*images(0, 12), ("0012.jpg", jpeg(77)), *images(30, 2)]
    write_archive(tmp_path / "aerial", {"a.tar": changed})
    caption(tmp_path / "aerial", captioned)
    assert sorted(name for name, vector in vectors(captioned).items() if vector is None) == [
        "0012.jpg",
        "0030.jpg",
        "0031.jpg",
    ]
    # If no model is configured, the model of the table is used.
    third = embed(captioned)
    assert (third.num_embedded, third.num_skipped, third.num_ok) == (3, 20, 23)
    check_all(captioned, range(12))
    asked = Counter(journal.read_text().split())
    assert (asked.total(), max(asked.values())) == (24, 1)
    run = last_runs(TableLocation.parse(str(captioned)), 1)[0]
    assert (run.command, run.state, run.counts["num_embedded"]) == ("embed-images", "done", 3)
    # Later captioning runs use the sources and the settings of the last captioning run.
    assert earlier_sources(TableLocation.parse(str(captioned))) == [str(tmp_path / "aerial")]
    assert caption_settings(TableLocation.parse(str(captioned)))["caption"]["model"] == "fake"


def test_a_real_checkpoint_and_another_model_in_its_place(captioned: Path, tmp_path: Path) -> None:
    checkpoint = make_clip(tmp_path / "clip")
    summary = embed(captioned, image_embed__model=str(checkpoint))
    assert summary.num_with_vector == 21
    found = np.array(list(vectors(captioned).values()), np.float32)
    assert found.shape == (21, PROJECTION)
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=1e-6)
    with pytest.raises(TableError, match=r"were embedded with .*--replace"):
        embed(captioned, image_embed__model="fake")
    replaced = embed(captioned, image_embed__model="fake", replace=True)
    assert (replaced.num_embedded, replaced.num_skipped) == (21, 0)
    assert image_column_of(open_table(captioned)).model == "fake"
    check_all(captioned, range(21))


class Died(BaseException):
    """Ends the driver like a kill."""


@pytest.mark.parametrize("before", [True, False])
def test_vectors_of_a_dead_run_are_not_recomputed(
    captioned: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, before: bool
) -> None:
    journal = tmp_path / "journal"
    settings = {"image_embed__model": f"fake:journal={journal}"}
    real, calls = RemoteCommitter.commit, []

    def trapped(self: Any, unit_ids: Any) -> None:
        calls.append(len(unit_ids))
        if len(calls) >= 2 and before:
            raise Died
        real(self, unit_ids)
        if len(calls) >= 2:
            raise Died

    with monkeypatch.context() as patch:
        patch.setattr(RemoteCommitter, "commit", trapped)
        with pytest.raises(Died):
            embed(captioned, **settings)
    num_there = sum(vector is not None for vector in vectors(captioned).values())
    where = TableLocation.parse(str(captioned))
    num_staged = len(staged(where))
    assert num_there > 0
    assert num_staged > 0 or not before
    asked_before = journal.read_text().split()
    summary = embed(captioned, **settings)
    assert summary.num_with_vector == 21
    assert summary.num_skipped == num_there
    assert summary.num_adopted > 0 or not before
    assert summary.num_adopted + summary.num_embedded + num_there == 21
    check_all(captioned, range(21))
    asked = journal.read_text().split()
    assert len(set(asked)) == 21
    # Images that an actor had not staged when the run was killed are embedded again.
    again = asked[len(asked_before) :]
    assert len(again) == summary.num_embedded
    assert len(set(asked_before)) == len(asked_before)
    assert len(set(again)) == len(again)
    assert staged(where) == []


def staged(where: TableLocation) -> list[str]:
    """Return the ids of the staged units of vectors.

    The units of rows, which the fixture has staged, are not returned.
    """
    records = read_records(where, staged_unit_ids(where))
    return [record.unit_id for record in records if record.column]


def test_failed_images_get_no_vector_and_are_counted_and_tried_again(
    captioned: Path, tmp_path: Path
) -> None:
    shard = tmp_path / "aerial" / "b.tar"
    whole = shard.read_bytes()
    shard.unlink()
    summary = embed(captioned, image_embed__model="fake")
    assert (summary.num_embedded, summary.num_failed, summary.num_with_vector) == (13, 8, 13)
    assert summary.failures == {"read/unreadable": 8}
    assert "b.tar" in summary.failure_samples["read/unreadable"]
    shard.write_bytes(whole)
    again = embed(captioned)
    # The rewritten file has another etag, so it is not the file that was captioned.
    assert again.failures == {"read/unreadable": 8}
    assert "changed after it was listed" in again.failure_samples["read/unreadable"]


def test_a_stop_finishes_what_is_in_flight_and_commits_it(captioned: Path) -> None:
    def stop(progress: Progress) -> None:
        if progress.num_ok and not progress.is_stopping:
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(InterruptedRunError, match="stopped on request"):
        embed(
            captioned, watch=stop, image_embed__model="fake:delay_s=0.2", image_embed__unit_images=1
        )
    found = vectors(captioned)
    num_there = sum(vector is not None for vector in found.values())
    assert 0 < num_there < 21
    run = last_runs(TableLocation.parse(str(captioned)), 1)[0]
    assert (run.state, run.counts["num_with_vector"]) == ("interrupted", num_there)
    summary = embed(captioned, image_embed__model="fake:delay_s=0.2")
    assert summary.num_skipped == num_there
    assert summary.num_adopted + summary.num_embedded == 21 - num_there


def test_two_runs_cannot_hold_the_same_table(captioned: Path, monkeypatch: Any) -> None:
    where = TableLocation.parse(str(captioned))
    with hold(where, "other", "caption"), pytest.raises(TableHeldError, match="is held by skytext"):
        embed(captioned, image_embed__model="fake")
    real = RemoteCommitter.commit

    def late(self: Any, unit_ids: Any) -> None:
        """Let another writer commit first, in spite of the claim."""
        monkeypatch.setattr(RemoteCommitter, "commit", real)
        make_table(where, good_rows(900, 1))
        real(self, unit_ids)

    monkeypatch.setattr(RemoteCommitter, "commit", late)
    with pytest.raises(CommitConflictError):
        embed(captioned, image_embed__model="fake", image_embed__commit_images=4)


def test_invalid_plans_are_rejected_before_any_work(tmp_path: Path, captioned: Path) -> None:
    where = location(tmp_path / "t")
    make_table(where, good_rows(0, 2))
    with pytest.raises(ConfigError, match="no image embedding model was named"):
        embed(tmp_path / "t")
    with pytest.raises(TableError, match="there is no table"):
        embed(tmp_path / "missing", image_embed__model="fake")
    with pytest.raises(CapacityError, match=r"needs 50.35 CPUs .* image_embed.num_actors \(50\)"):
        embed(captioned, image_embed__model="fake", image_embed__num_actors=50)
    folder = tmp_path / "broken"
    folder.mkdir()
    (folder / "config.json").write_text('{"model_type": "clip"}')
    with pytest.raises(SkytextError, match="cannot load the embedding model"):
        embed(captioned, image_embed__model=str(folder))
    assert ImagesTable.open(where).image_column is None
