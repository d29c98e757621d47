from __future__ import annotations

import dataclasses
import json
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from skytext.captions.parsing import Variant, document_text
from skytext.config.embedding import EmbedConfig
from skytext.models.checkpoints import embed_model
from skytext.models.factory import make_embedder
from skytext.models.fakes.embedders import FakeEmbedder
from skytext.run.stages.caption_images import PUT_OFF_COLUMN
from skytext.run.stages.embed_text import EmbedUnits
from skytext.run.stages.write_rows import UnitWriter
from skytext.run.units import UnitHead, UnitRecord
from skytext.table.commits.change_columns import ensure_column
from skytext.table.commits.stage_rows import StagedUnit, read_records, staged_unit_ids
from skytext.table.images_dataset import ImagesTable
from skytext.table.location import TableLocation
from tests.archives import jpeg
from tests.run.stages.samples import (
    HEAD,
    bad,
    caption,
    embedder,
    good,
    sample,
    unit,
)
from tests.table.rows import committer, rows_of, text_column


@pytest.fixture
def where(tmp_path: Path) -> TableLocation:
    return TableLocation.parse(str(tmp_path / "table"))


def write(
    where: TableLocation, rows: list[dict[str, Any]], model: str = "fake", head: UnitHead = HEAD
) -> UnitRecord:
    described = embedder()(caption(unit(rows, head), model))
    written = UnitWriter(where, "run-1", text_column(), "captions")(described)
    assert written.column_names == ["record"]
    return UnitRecord.from_json(written.column("record")[0].as_py())


def staged(where: TableLocation, record: UnitRecord) -> StagedUnit:
    """Return the record from which the driver commits the unit."""
    (unit,) = read_records(where, [record.head.unit_id])
    assert unit.num_rows == record.num_rows
    return unit


def kept_rows(where: TableLocation) -> list[dict[str, Any]]:
    return rows_of(ImagesTable.open(where))


@pytest.mark.parametrize(
    "record",
    [
        UnitRecord(HEAD, None),
        UnitRecord(
            UnitHead("u", "ü", "it's.tar", 3, 1, 99, removes=("a" * 32,), ignored=((".md", 3),)),
            2,
            num_ok=1,
            num_failed=1,
            failures={"decode/empty": 1},
            unusable={"gsd": 2},
            unusable_examples={"gsd": '"10m" of a.tar#a.jpg'},
            sums={"num_variants": 5},
            engine_clock={"engine": "e", "span_s": 1.5, "idle_s": 0.25},
            example=("a.jpg", "a river"),
        ),
    ],
)
def test_a_record_survives_json(record: UnitRecord) -> None:
    assert UnitRecord.from_json(record.to_json()) == record
    assert json.loads(record.to_json())["head"]["num_listed"] == record.head.num_listed


def test_staged_rows_are_invisible_until_committed(where: TableLocation) -> None:
    record = write(where, [*good(3), bad()])
    assert ImagesTable.find(where) is None
    assert (where.is_local, len(list(Path(where.uri).rglob("*.lance/data/*")))) == (True, 1)
    writer = committer(where)
    writer.commit([staged(where, record)])
    again = write(where, good(2, 40), head=dataclasses.replace(HEAD, unit_id="unit-1"))
    table = ImagesTable.open(where)
    assert table.num_rows() == 4
    writer.commit([staged(where, again)])
    assert ImagesTable.open(where).num_rows() == 6


def test_a_record_counts_the_written_rows(where: TableLocation) -> None:
    record = write(where, [*good(3), bad("x"), bad("y")])
    assert (record.head, record.num_ok, record.num_failed) == (HEAD, 3, 2)
    assert record.num_rows == 5
    assert record.failures == {"decode/empty": 2}
    assert record.sums == {
        "num_variants": 15,
        "num_prompt_tokens": 300,
        "num_cached_tokens": 0,
        "num_output_tokens": 1350,
        "num_truncated_variants": 0,
    }
    assert record.engine_clock is not None
    assert record.engine_clock["engine"] == "actor-1"
    assert record.example is not None
    assert record.example[0] == "0.jpg"


def test_a_record_names_the_images_that_were_put_off(where: TableLocation) -> None:
    described = embedder()(caption(unit(good(1))))
    place = described.column_names.index(PUT_OFF_COLUMN)
    column = pa.array([["a", "b"]], pa.list_(pa.string()))
    described = described.set_column(place, PUT_OFF_COLUMN, column)
    (text,) = UnitWriter(where, "run-1", text_column())(described).column("record").to_pylist()
    record = UnitRecord.from_json(text)
    assert (record.num_ok, record.put_off) == (1, ("a", "b"))


def test_an_empty_unit_stages_nothing(where: TableLocation) -> None:
    assert write(where, []) == UnitRecord(HEAD, None)
    assert staged_unit_ids(where) == []
    assert not Path(where.uri).exists()


def test_a_unit_of_failures_is_written_too(where: TableLocation) -> None:
    record = write(where, [bad("x"), *good(1)], "fake:fail=1")
    assert record.failures == {"decode/empty": 1, "caption/engine_refused": 1}
    assert (record.num_ok, record.num_failed, record.example) == (0, 2, None)
    committer(where).commit([staged(where, record)])
    assert ImagesTable.open(where).status_counts() == {"ok": 0, "failed": 2, "withdrawn": 0}


def test_a_row_has_all_fields(where: TableLocation) -> None:
    row = sample(
        "a.jpg",
        good(1)[0]["data"],
        metadata='{"sensor": "S2"}',
        bbox={"west": 1.0, "south": 2.0, "east": 3.0, "north": 4.0},
        collection="c",
    )
    record = write(where, [row])
    committer(where).commit([staged(where, record)])
    (kept,) = kept_rows(where)
    same = ("image_id", "archive", "shard", "member", "uri", "bbox", "collection")
    assert {name: kept[name] for name in same} == {name: row[name] for name in same}
    assert json.loads(kept["metadata"]) == {"sensor": "S2"}
    assert (kept["run_id"], kept["unit_id"]) == ("run-1", HEAD.unit_id)
    assert kept["created_at"].tzinfo is not None
    assert len(kept["vectors"]) == len(kept["captions"]) == 5


def test_a_record_has_all_data_for_adoption(where: TableLocation) -> None:
    head = dataclasses.replace(HEAD, removes=("0" * 32,))
    rows = [sample("new.jpg", jpeg(1)), sample("old.jpg", jpeg(2), replaces_unit="unit-of-old")]
    unit = staged(where, write(where, rows, head=head))
    ids = tuple(row["image_id"] for row in rows)
    assert (unit.image_ids, unit.replaces) == (ids, {ids[1]: "unit-of-old"})
    assert (unit.removes, sorted(unit.outdated_ids)) == (head.removes, sorted([ids[1], "0" * 32]))
    assert unit.caption_fingerprint == "captions"
    assert unit.embedding_fingerprint == text_column().fingerprint
    assert (unit.unit_id, unit.dim) == (HEAD.unit_id, 16)


def test_a_unit_that_only_removes_is_staged_too(where: TableLocation) -> None:
    record = write(where, [], head=dataclasses.replace(HEAD, removes=("0" * 32,)))
    assert (record.num_rows, record.num_ok, record.num_failed) == (0, 0, 0)
    assert staged(where, record).fragments == ()
    assert not list(Path(where.uri).rglob("*.lance/data/*"))


def test_a_failure_does_not_replace_a_good_row(where: TableLocation) -> None:
    """The image has a good row, and a new description with other settings fails."""
    kept = bad("kept.jpg") | {"replaces_unit": "u", "keeps_row": True}
    record = write(where, [kept])
    assert (record.num_rows, record.num_failed) == (None, 1)
    assert staged_unit_ids(where) == []
    record = write(where, [kept, *good(1), bad()], head=dataclasses.replace(HEAD, unit_id="u2"))
    assert (record.num_rows, record.num_ok, record.num_failed) == (2, 1, 2)
    assert "u" not in staged(where, record).replaces.values()


def test_attempts_are_counted_per_run(where: TableLocation) -> None:
    tried = [
        sample("twice.jpg", jpeg(1), replaces_unit="u", earlier_attempts=1),
        sample("first.jpg", jpeg(2)),
        bad("other.jpg") | {"replaces_unit": "u", "earlier_attempts": 4},
    ]
    # Three attempts within this run count as one attempt.
    record = write(where, tried, "fake:empty=1")
    committer(where).commit([staged(where, record)])
    attempts = {row["member"]: row["failure"]["attempts"] for row in kept_rows(where)}
    assert attempts == {"twice.jpg": 2, "first.jpg": 1, "other.jpg": 5}


def test_a_unit_written_twice_exists_once(where: TableLocation) -> None:
    """Ray repeats a task if the worker died after it had written the unit."""
    first, second = write(where, good(3)), write(where, good(3))
    assert first.num_rows == second.num_rows == 3
    assert staged_unit_ids(where) == [HEAD.unit_id]
    assert len(list(Path(where.uri).rglob("*.lance/data/*"))) == 1
    committer(where).commit([staged(where, second)])
    assert ImagesTable.open(where).num_rows() == 3


def test_a_record_counts_unusable_source_values(where: TableLocation) -> None:
    rows = [
        sample("a.jpg", jpeg(1), metadata='{"_invalid": ["bbox", "gsd"], "bbox": [1], "gsd": "x"}'),
        sample("b.jpg", jpeg(2), metadata='{"_invalid": ["gsd"], "gsd": "10m"}'),
        sample("c.jpg", jpeg(3), metadata='{"gsd": 5}'),
        bad() | {"metadata": '{"_sidecar_error": "cut off"}'},
    ]
    record = write(where, rows)
    assert record.unusable == {"gsd": 2, "bbox": 1, "sidecar": 1}
    assert record.unusable_examples == {
        "bbox": "[1] of file:///x/a.tar#a.jpg",
        "gsd": '"x" of file:///x/a.tar#a.jpg',
        "sidecar": "cut off of file:///x/a.tar#bad.jpg",
    }


def test_rows_get_vectors_by_both_models_while_the_table_changes(where: TableLocation) -> None:
    active, other = text_column(), EmbedConfig(model="fake:dim=24")
    pending = text_column("fake:dim=24", "d" * 32, dim=0)
    write(where, good(2))
    committer(where, active).commit([read_records(where, [HEAD.unit_id])[0]])
    ensure_column(ImagesTable.open(where), dataclasses.replace(pending, dim=24))
    config, load = EmbedConfig(model="fake"), partial(make_embedder, other, embed_model(other))
    embed = EmbedUnits(config, embed_model(config), load)
    head = dataclasses.replace(HEAD, unit_id="unit-1")
    described = embed(caption(unit([*good(2, 10), bad()], head)))
    writer = UnitWriter(where, "run-1", active, "captions", pending=pending)
    record = UnitRecord.from_json(writer(described).column("record")[0].as_py())
    committer(where, active).commit([staged(where, record)])
    table = ImagesTable.open(where)
    found = table.dataset.to_table(["member", "captions", active.name, pending.name]).to_pylist()
    assert len(found) == 5
    judges = {active.name: FakeEmbedder(), pending.name: FakeEmbedder(24)}
    for row in found:
        is_new = row["member"] in ("10.jpg", "11.jpg")
        assert (row[pending.name] is not None) == is_new
        for name, judge in judges.items():
            if row[name] is not None:
                texts = [document_text(Variant(**variant)) for variant in row["captions"]]
                assert row[name] == pytest.approx(judge.embed_documents(texts).vectors)
    # A unit without rows is staged too.
    none = embed(caption(unit([], dataclasses.replace(HEAD, unit_id="unit-2", removes=("a",)))))
    record = UnitRecord.from_json(writer(none).column("record")[0].as_py())
    assert (record.num_rows, staged_unit_ids(where)[-1]) == (0, "unit-2")
