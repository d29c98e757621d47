"""Test nightly runs on an archive that changes.

Each run does only the work that is due. Readers see only complete versions.
"""

from __future__ import annotations

import datetime as dt
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from skytext.captions.parsing import Variant, document_text
from skytext.config.embedding import EmbedConfig
from skytext.errors import BrokenListingError, JobError
from skytext.models.checkpoints import embed_model
from skytext.models.factory import make_embedder
from skytext.run import vector_run
from skytext.run.control.committer import RemoteCommitter
from skytext.run.control.prepare_vectors import PreparedVectors
from skytext.run.plans.caption_plan import plan_caption
from skytext.run.plans.vector_plan import text_column
from skytext.run.reindex.reindex_run import GateError, ReindexSummary, run_reindex
from skytext.table import compaction
from skytext.table.commits.change_columns import drop_unused_columns, ensure_column
from skytext.table.commits.stage_rows import has_vectors_for, read_records, staged_unit_ids
from skytext.table.images_dataset import ImagesTable
from skytext.table.location import TableLocation
from skytext.table.logged_queries import LoggedQuery, save_queries
from skytext.table.rows.missing_vectors import num_with_vector
from skytext.table.vector_columns import Role, VectorColumn
from skytext.table.versions.promote_rollback import promote, promotions, rollback
from tests.archives import bad_images, images, jpeg, write_archive
from tests.run.jobs import config, open_table, ray, rows, with_ray

pytestmark = [ray, with_ray]


def night(root: Path | str, table: Path, **settings: Any) -> ReindexSummary:
    settings = {"index__vector": "never", "reindex__max_withdrawn": 0.5} | settings
    return run_reindex(plan_caption([str(root)], str(table), config(**settings), stale="all"))


def by_member(table: Path, *columns: str) -> dict[str, dict[str, Any]]:
    found = rows(table, "member", *columns)
    assert len({row["member"] for row in found}) == len(found)
    return {row.pop("member"): row for row in found}


def statuses(table: Path) -> dict[str, str]:
    return {member: row["status"] for member, row in by_member(table, "status").items()}


def tokens(summary: ReindexSummary) -> int:
    return sum(run.num_output_tokens for run in summary.runs.values())


def test_nights_over_an_archive_that_changes(tmp_path: Path) -> None:
    first_content = {"a.tar": images(0, 4), "b.tar": images(10, 4), "c.tar": images(20, 2)}
    root = write_archive(tmp_path / "aerial", first_content)
    table = tmp_path / "table"
    first = night(root, table)
    assert (list(first.runs), first.runs["new"].num_captioned) == (["new"], 10)
    assert first.was_promoted
    assert first.live_version == open_table(table).version == open_table(table).live_version()

    # Nothing has changed, so no model is called and no version is created.
    second = night(root, table)
    assert (tokens(second), second.was_promoted, second.index) == (0, False, None)
    assert open_table(table).version == first.live_version

    # One image is new, one image has other bytes, one image is missing in its shard, and one shard
    # is missing.
    content = [("0000.jpg", jpeg(0)), ("0001.jpg", jpeg(77)), ("0002.jpg", jpeg(2))]
    write_archive(root, {"a.tar": [*content, ("new.jpg", jpeg(99))]})
    Path(root, "c.tar").unlink()
    before = by_member(table, "unit_id", "captions")
    third = night(root, table)
    assert third.runs["new"].num_captioned == 2
    assert (third.num_withdrawn, third.was_promoted) == (3, True)
    found = statuses(table)
    assert {m for m, s in found.items() if s == "withdrawn"} == {"0003.jpg", "0020.jpg", "0021.jpg"}
    assert sum(status == "ok" for status in found.values()) == 8
    after = by_member(table, "unit_id", "captions", "vectors", "text")
    assert after["0020.jpg"]["captions"] == before["0020.jpg"]["captions"]
    assert (after["0020.jpg"]["vectors"], after["0020.jpg"]["text"]) == (None, None)
    kept = ("0000.jpg", "0002.jpg", "0010.jpg", "0011.jpg", "0012.jpg", "0013.jpg")
    assert all(after[member]["unit_id"] == before[member]["unit_id"] for member in kept)
    assert tokens(night(root, table)) == 0

    # A shard that comes back needs no new descriptions, because its captions were kept.
    write_archive(root, {"c.tar": images(20, 2)})
    fourth = night(root, table)
    assert (fourth.runs["new"].num_captioned, tokens(fourth)) == (2, 0)
    assert sorted(statuses(table).values()) == ["ok"] * 10 + ["withdrawn"]
    assert by_member(table, "captions")["0020.jpg"]["captions"] == before["0020.jpg"]["captions"]

    # After a change of the prompt or the sampling, existing images are described again. Withdrawn
    # images are not described again.
    fifth = night(root, table, caption__num_variants=2)
    assert (list(fifth.runs), fifth.runs["stale"].num_captioned) == (["new", "stale"], 10)
    lengths = {len(row["captions"]) for row in by_member(table, "captions").values()}
    assert lengths == {2, 5}


def test_a_listing_that_lacks_too_much_changes_nothing(described: tuple[Path, Path]) -> None:
    root, table = described
    version = open_table(table).version
    Path(root, "b.tar").unlink()
    write_archive(root, {"new.tar": images(30, 2)})
    with pytest.raises(BrokenListingError, match="4 of 8 images of the archive 'aerial' are"):
        night(root, table, reindex__max_withdrawn=0.05)
    assert open_table(table).version == version
    # The missing images of a changed shard are known only after the shard was read. The new images
    # are described and served, but no image is withdrawn.
    write_archive(root, {"b.tar": images(10, 1)})
    found = night(root, table, reindex__max_withdrawn=0.05)
    assert "3 of 10 images" in found.broken_listing
    assert (found.runs["new"].num_captioned, found.num_withdrawn) == (2, 0)
    assert found.live_version == open_table(table).live_version() == open_table(table).version
    # If the source is only a part of the archive, no image is withdrawn.
    part = night(f"{root}/a.tar", table, reindex__max_withdrawn=0.0, archive="aerial")
    assert (part.num_withdrawn, part.was_promoted) == (0, False)


def test_images_after_damage_in_a_shard_are_not_withdrawn(described: tuple[Path, Path]) -> None:
    root, table = described
    whole = Path(root, "a.tar").read_bytes()
    Path(root, "a.tar").write_bytes(whole[: len(whole) // 3])
    cut = night(root, table, reindex__max_failure_rate=1.0)
    assert cut.num_withdrawn == 0
    assert sorted(statuses(table).values()) == ["failed", *["ok"] * 8]
    Path(root, "a.tar").write_bytes(whole)
    mended = night(root, table)
    assert (tokens(mended), mended.num_withdrawn) == (0, 0)
    assert set(statuses(table).values()) == {"ok"}


def test_a_roll_back_lasts_until_something_is_new(described: tuple[Path, Path]) -> None:
    root, table = described
    first = open_table(table).live_version()
    write_archive(root, {"c.tar": images(20, 1)})
    second = night(root, table).live_version
    assert rollback(TableLocation.parse(str(table))).version == first != second
    notes: list[str] = []
    plan = plan_caption([str(root)], str(table), config(index__vector="never"), stale="all")
    left = run_reindex(plan, on_note=notes.append)
    assert (left.was_promoted, open_table(table).live_version()) == (False, first)
    assert "rolled back" in "".join(notes)
    write_archive(root, {"d.tar": images(30, 1)})
    assert night(root, table).was_promoted


def test_new_images_get_vectors_of_their_own_where_others_have_some(
    described: tuple[Path, Path],
) -> None:
    root, table = described
    first = night(root, table, image_embed__model="fake")
    assert [(one["kind"], one["num_embedded"]) for one in first.vectors] == [("image", 8)]
    write_archive(root, {"c.tar": images(20, 1)})
    second = night(root, table)
    assert [(one["kind"], one["num_embedded"]) for one in second.vectors] == [("image", 1)]
    assert all(row["image_vector"] for row in rows(table, "image_vector"))
    assert night(root, table).vectors == []


def test_a_budget_is_kept_and_the_next_run_continues(
    described: tuple[Path, Path], tmp_path: Path
) -> None:
    shards = {f"{i}.tar": images(100 + 10 * i, 8) for i in range(5)}
    root, table = write_archive(tmp_path / "other" / "aerial", shards), described[1]
    slow: dict[str, Any] = {
        "caption__model": "fake:delay_s=0.5",
        "caption__engine__max_num_seqs": 10,
    }
    slow["reindex__max_withdrawn"] = 1.0
    numbers = []
    for _ in range(20):
        summary = night(root, table, reindex__max_images=16, job__units_in_flight=2, **slow)
        numbers.append(summary.runs["new"].num_captioned)
        assert summary.was_promoted == (numbers[-1] > 0 or summary.num_withdrawn > 0)
        # A partial run withdraws no image, because a missing image may have been renamed.
        assert (summary.num_withdrawn == 0) == summary.is_partial
        if not summary.is_partial:
            break
    assert sum(numbers) == 40
    assert 16 <= numbers[0] < 40
    assert sorted(statuses(table).values()) == ["ok"] * 40 + ["withdrawn"] * 8
    assert tokens(night(root, table, **slow)) == 0


def test_a_version_that_is_not_fit_is_not_promoted(described: tuple[Path, Path]) -> None:
    root, table = described
    live = open_table(table).live_version()
    write_archive(root, {"c.tar": [*images(10, 1), *[("x.jpg", bad_images()["cut.jpg"][0])]]})
    with pytest.raises(GateError, match=r"failed rows: 0\.1, required: at most 0\.05") as caught:
        night(root, table)
    summary = caught.value.summary
    assert (summary.live_version, summary.was_promoted) == (live, False)
    assert open_table(table).live_version() == live
    # The next run retries failed images until the limit of attempts is reached.
    with pytest.raises(GateError):
        night(root, table)
    failures = [row["failure"] for row in rows(table, "failure") if row["failure"]]
    assert [failure["attempts"] for failure in failures] == [2]
    done = night(root, table, reindex__max_failure_rate=0.2)
    assert done.was_promoted
    assert open_table(table).live_version() == done.live_version != live


OTHER_EMBEDDER = "fake:dim=24"


def embedding_column(model: str) -> VectorColumn:
    settings = config(embed__model=model)
    embedder = make_embedder(settings.embed, embed_model(settings.embed))
    return replace(text_column(embed_model(settings.embed), settings), dim=embedder.dim)


def roles(table: Path) -> dict[str, str]:
    return {str(Role(c.role)): c.model for c in open_table(table).columns}


def check_vectors(table: Path, model: str) -> None:
    """Check that every described image has the vectors of its variants.

    Other rows must have no vectors.
    """
    embedder = make_embedder(EmbedConfig(model=model), embed_model(EmbedConfig(model=model)))
    (column,) = (c for c in open_table(table).columns if c.model == model)
    for row in open_table(table).dataset.to_table(["captions", "status", column.name]).to_pylist():
        if row["status"] != "ok":
            assert row[column.name] is None
            continue
        texts = [document_text(Variant(**variant)) for variant in row["captions"]]
        np.testing.assert_allclose(
            np.array(row[column.name], np.float32), embedder.embed_documents(texts).vectors, 0, 1e-4
        )


def test_while_the_embedding_model_changes_new_images_are_found_and_then_all_have_both(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = write_archive(tmp_path / "aerial", {f"{i}.tar": images(10 * i, 8) for i in range(3)})
    table = tmp_path / "table"
    # The index build merges small fragments. A single fragment would be filled in one night, so the
    # test keeps several fragments.
    monkeypatch.setattr(compaction, "_SMALL_ROWS", 8)
    night(root, table)
    monkeypatch.setattr(vector_run, "_TEXTS_A_GROUP", 8)
    # The fake model is too fast to exceed the budget. Therefore the first night fills only one
    # group.
    prepare = vector_run.prepare_vectors

    def first_group(*arguments: Any) -> PreparedVectors:
        prepared = prepare(*arguments)
        assert len(prepared.groups) > 1
        return replace(prepared, groups=prepared.groups[:1])

    other: dict[str, Any] = {"embed__model": OTHER_EMBEDDER}
    write_archive(root, {"n1.tar": images(100, 2)})
    Path(root, "0.tar").unlink()
    with monkeypatch.context() as patch:
        patch.setattr(vector_run, "prepare_vectors", first_group)
        first = night(root, table, reindex__max_images=9, **other)
    assert (first.runs["new"].num_captioned, first.was_promoted, first.is_partial) == (
        2,
        True,
        True,
    )
    # Missing images are withdrawn before the vectors are complete.
    assert first.num_withdrawn == 8
    assert 0 < first.vectors[0]["num_embedded"] < 24
    served = ImagesTable.open(TableLocation.parse(str(table)), first.live_version)
    assert served.text_column.model == "fake"
    assert roles(table) == {"active": "fake", "pending": OTHER_EMBEDDER}
    check_vectors(table, "fake")
    ok, there = num_with_vector(served, served.columns[-1])
    assert 2 <= there < ok == 18

    write_archive(root, {"n2.tar": images(200, 2)})
    last = night(root, table, reindex__max_images=100, **other)
    assert (last.runs["new"].num_captioned, last.was_promoted) == (2, True)
    assert last.vectors[0]["num_embedded"] == ok - there
    check_vectors(table, OTHER_EMBEDDER)
    # The previous version uses the old column, so the column stays.
    assert roles(table) == {"active": OTHER_EMBEDDER, "retired": "fake"}
    location = TableLocation.parse(str(table))
    assert rollback(location).version == first.live_version
    assert ImagesTable.open_served(location).text_column.model == "fake"
    assert last.live_version is not None
    promote(location, last.live_version)

    # The settings name the old model again. Rows with vectors of this model are not embedded again.
    write_archive(root, {"back.tar": images(5000, 1)})
    back = night(root, table)
    assert sum(one["num_embedded"] for one in back.vectors) == 0
    assert roles(table) == {"active": "fake", "retired": OTHER_EMBEDDER}
    check_vectors(table, "fake")


def test_staged_rows_of_both_models_are_adopted_after_a_crash(
    described: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    root, table = described
    write_archive(root, {"c.tar": images(20, 3)})

    def away(*_: Any) -> None:
        raise JobError("the store is away")

    other: dict[str, Any] = {"embed__model": OTHER_EMBEDDER, "reindex__max_images": 100}
    with monkeypatch.context() as patch:
        patch.setattr(RemoteCommitter, "commit", away)
        with pytest.raises(JobError, match="the store is away"):
            night(root, table, **other)
    assert staged_unit_ids(TableLocation.parse(str(table)))
    assert roles(table) == {"active": "fake", "pending": OTHER_EMBEDDER}
    summary = night(root, table, **other)
    assert (summary.runs["new"].num_adopted, tokens(summary)) == (3, 0)
    assert [one["num_embedded"] for one in summary.vectors] == [8]
    check_vectors(table, OTHER_EMBEDDER)


def test_units_of_a_column_that_is_gone_are_not_taken_over(
    described: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    root, table = described
    location = TableLocation.parse(str(table))
    ours = embedding_column(OTHER_EMBEDDER)
    ensure_column(open_table(table), ours)
    write_archive(root, {"c.tar": images(20, 3)})
    with monkeypatch.context() as patch:
        patch.setattr(RemoteCommitter, "commit", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            night(root, table, embed__model=OTHER_EMBEDDER, reindex__max_images=100)
    # The column is dropped, and another column is added. The new column has the field ids of the
    # dropped column.
    drop_unused_columns(open_table(table), embedding_column("fake:dim=12"))
    ensure_column(open_table(table), embedding_column("fake:dim=12"))
    (unit_id,) = staged_unit_ids(location)
    (unit,) = read_records(location, [unit_id])
    assert not has_vectors_for(unit, open_table(table))
    done = night(root, table, embed__model="fake:dim=12", reindex__max_images=100)
    assert done.runs["new"].num_captioned == 3
    check_vectors(table, "fake:dim=12")


def test_a_version_that_loses_golden_images_is_not_promoted(
    described: tuple[Path, Path], tmp_path: Path
) -> None:
    root, table = described
    golden = tmp_path / "golden.yaml"
    # The fake model describes each image with a different sentence. A search for this sentence
    # finds the image.
    first = {m: row["captions"][0] for m, row in by_member(table, "captions").items()}
    asked = {member: first[member]["one_sentence"] for member in ("0000.jpg", "0010.jpg")}
    queries = [{"query": f"{text} {m}", "images": [m]} for m, text in asked.items()]
    golden.write_text(json.dumps({"queries": queries}))
    Path(root, "b.tar").unlink()
    logged = [LoggedQuery(dt.datetime.now(dt.UTC), {"text": one["query"]}) for one in queries]
    location = TableLocation.parse(str(table))
    save_queries(location, "service", logged)
    with pytest.raises(GateError, match=r"new version\): 0\.5, required: at most 0") as caught:
        night(root, table, reindex__golden=str(golden))
    found = caught.value.summary.comparison
    assert found is not None
    assert (found.found_live, found.found_new) == (1.0, 0.5)
    assert any("0010.jpg" in uri for change in found.changes for uri in change.lost)
    done = night(root, table, reindex__golden=str(golden), reindex__max_golden_drop=0.5)
    assert done.was_promoted
    assert done.comparison is not None
    # A service has logged the same queries. Logged queries have no expected images.
    assert done.shadow is not None
    assert (done.shadow.overlap_at_10, done.shadow.found_new) == (
        done.comparison.overlap_at_10,
        None,
    )
    assert "Last queries of services" in Path(done.report).read_text()
    last = promotions(location, 1)[0]
    assert (last.why, last.version) == ("reindex", done.live_version)
