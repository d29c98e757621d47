from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from skytext.stages.units import UnitHead
from skytext.stages.write import UnitRecord, UnitWriter
from skytext.table.images import ImagesTable
from skytext.table.location import TableLocation
from skytext.table.staging import StagedUnit
from tests.stages.samples import HEAD, bad, caption, embedder, good, sample, unit
from tests.table.rows import committer


@pytest.fixture
def where(tmp_path: Path) -> TableLocation:
    return TableLocation.parse(str(tmp_path / "table"))


def write(where: TableLocation, rows: list[dict[str, Any]], model: str = "fake") -> UnitRecord:
    described = embedder()(caption(unit(rows), model))
    written = UnitWriter(where, "run-1")(described)
    assert written.column_names == ["record"]
    return UnitRecord.from_json(written.column("record")[0].as_py())


@pytest.mark.parametrize(
    "record",
    [
        UnitRecord(HEAD, None),
        UnitRecord(
            UnitHead("u", "ü", "it's.tar", 3, 1, 99),
            StagedUnit("u", 2, 16, ('{"id": 0}', '{"id": 1}')),
            num_ok=1,
            num_failed=1,
            failures={"decode/empty": 1},
            sums={"num_variants": 5},
            engine_clock={"engine": "e", "span_s": 1.5, "idle_s": 0.25},
            example=("a.jpg", "a river"),
        ),
    ],
)
def test_a_record_survives_json(record: UnitRecord) -> None:
    assert UnitRecord.from_json(record.to_json()) == record
    assert json.loads(record.to_json())["head"]["num_listed"] == record.head.num_listed


def test_what_is_staged_is_seen_only_once_it_is_committed(where: TableLocation) -> None:
    record = write(where, [*good(3), bad()])
    assert record.staged is not None
    assert ImagesTable.find(where) is None
    assert (where.is_local, len(list(Path(where.uri).rglob("*.lance/data/*")))) == (True, 1)
    writer = committer(where)
    writer.commit([record.staged])
    again = write(where, good(2, 40))
    table = ImagesTable.open(where)
    assert table.num_rows() == 4
    assert again.staged is not None
    writer.commit([again.staged])
    assert ImagesTable.open(where).num_rows() == 6


def test_a_record_counts_what_was_written(where: TableLocation) -> None:
    record = write(where, [*good(3), bad("x"), bad("y")])
    assert (record.head, record.num_ok, record.num_failed) == (HEAD, 3, 2)
    assert record.staged is not None
    assert (record.staged.num_rows, record.staged.dim) == (5, 16)
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


def test_an_empty_unit_stages_nothing(where: TableLocation) -> None:
    assert write(where, []) == UnitRecord(HEAD, None)
    assert not Path(where.uri).exists()


def test_a_unit_of_failures_is_written_too(where: TableLocation) -> None:
    record = write(where, [bad("x"), *good(1)], "fake:fail=1")
    assert record.failures == {"decode/empty": 1, "caption/engine_refused": 1}
    assert (record.num_ok, record.num_failed, record.example) == (0, 2, None)
    assert record.staged is not None
    committer(where).commit([record.staged])
    assert ImagesTable.open(where).status_counts() == {"ok": 0, "failed": 2}


def test_a_row_holds_all_of_it(where: TableLocation) -> None:
    row = sample(
        "a.jpg",
        good(1)[0]["data"],
        metadata='{"sensor": "S2"}',
        bbox={"west": 1.0, "south": 2.0, "east": 3.0, "north": 4.0},
        collection="c",
    )
    record = write(where, [row])
    assert record.staged is not None
    committer(where).commit([record.staged])
    (kept,) = ImagesTable.open(where).dataset.to_table().to_pylist()
    same = ("image_id", "archive", "shard", "member", "uri", "bbox", "collection")
    assert {name: kept[name] for name in same} == {name: row[name] for name in same}
    assert json.loads(kept["metadata"]) == {"sensor": "S2"}
    assert kept["run_id"] == "run-1"
    assert kept["created_at"].tzinfo is not None
    assert len(kept["vectors"]) == len(kept["captions"]) == 5
