from __future__ import annotations

import dataclasses
import datetime as dt
from typing import Any

import pyarrow as pa
import pytest

from skytext.run.units import UnitHead, pack, unpack
from skytext.table.schema import CAPTIONED, SAMPLE, embedded, unit_schema
from tests.run.stages.samples import (
    HEAD,
    REFUSED,
    bad,
    good,
    sample,
)

SCHEMAS = pytest.mark.parametrize("schema", [SAMPLE, CAPTIONED, embedded(4)])


def full_row() -> dict[str, Any]:
    """Return a row with every nested type."""
    return sample(
        "ü.jpg",
        b"\x00\xff" * 9,
        datetime=dt.datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=dt.UTC),
        bbox={"west": 179.0, "south": -1.5, "east": -179.0, "north": 2.0},
        gsd=0.3,
        metadata='{"a": 1}',
        width_px=48,
        failure=REFUSED,
    )


def test_a_unit_round_trips() -> None:
    samples = pa.Table.from_pylist([full_row(), *good(3), bad()], schema=SAMPLE)
    head, again = unpack(pack(HEAD, samples))
    assert head == HEAD
    assert again.schema.equals(samples.schema)
    assert again.to_pylist() == samples.to_pylist()


def test_a_unit_has_removed_rows_and_store_faults() -> None:
    ignored = (("hidden", 12), (".csv", 1 << 40))
    removes = ("a" * 32, "b" * 32)
    head = dataclasses.replace(HEAD, fault="x", removes=removes, ignored=ignored, num_many_bands=3)
    assert unpack(pack(head, SAMPLE.empty_table()))[0] == head


@SCHEMAS
def test_a_unit_may_be_empty(schema: pa.Schema) -> None:
    unit = pack(HEAD, schema.empty_table())
    assert unit.num_rows == 1
    head, samples = unpack(unit)
    assert head == HEAD
    assert samples.num_rows == 0
    assert samples.schema.equals(schema)


@SCHEMAS
def test_a_unit_has_its_schema(schema: pa.Schema) -> None:
    assert pack(HEAD, schema.empty_table()).schema.equals(unit_schema(schema))


def test_vectors_keep_their_type_and_their_nulls() -> None:
    schema = pa.schema([embedded(4).field("vectors")])
    vectors = [[[1.0, 0.0, 0.0, 0.0], [0.0, 1.0, 0.0, 0.0]], None, []]
    table = pa.Table.from_pylist([{"vectors": value} for value in vectors], schema=schema)
    _, again = unpack(pack(HEAD, table))
    assert again.schema.field("vectors").type == pa.list_(pa.list_(pa.float32(), 4))
    assert again.column("vectors").to_pylist() == vectors


def test_samples_in_several_chunks_become_one_unit() -> None:
    parts = [pa.Table.from_pylist(good(2, first), schema=SAMPLE) for first in (0, 2)]
    samples = pa.concat_tables([*parts, SAMPLE.empty_table()])
    _, again = unpack(pack(HEAD, samples))
    assert again.to_pylist() == samples.to_pylist()


def test_a_unit_cut_out_of_many_holds_its_own_samples_only() -> None:
    heads = [UnitHead(f"u{i}", "aerial", "a.tar", i, 0, i) for i in range(3)]
    units = [
        pack(head, pa.Table.from_pylist(good(i, 10 * i), schema=SAMPLE))
        for i, head in enumerate(heads)
    ]
    together = pa.concat_tables(units).combine_chunks()
    for i, head in enumerate(heads):
        found, samples = unpack(together.slice(i, 1))
        assert found == head
        assert samples.column("member").to_pylist() == [f"{10 * i + j}.jpg" for j in range(i)]


def addresses(samples: pa.Table) -> dict[str, list[int | None]]:
    """Return the memory addresses of each column."""
    found = {}
    for name in samples.column_names:
        (chunk,) = samples.column(name).chunks
        found[name] = [b and b.address for b in chunk.buffers() if b is None or b.size]
    return found


@pytest.mark.parametrize("schema", [SAMPLE, CAPTIONED], ids=["sample", "captioned"])
def test_samples_are_not_copied(schema: pa.Schema) -> None:
    blank = dict.fromkeys(schema.names)
    rows = [blank | row for row in (full_row(), *good(3), bad())]
    samples = pa.Table.from_pylist(
        [row | {"status": "ok"} if "status" in blank else row for row in rows], schema=schema
    )
    unit = pack(HEAD, samples)
    _, again = unpack(unit)
    assert addresses(again) == addresses(samples)
    # A stage that forwards a unit does not copy the samples either.
    assert addresses(unpack(pack(HEAD, again))[1]) == addresses(samples)


@pytest.mark.parametrize("num_units", [0, 2])
def test_a_batch_must_be_one_unit(num_units: int) -> None:
    unit = pack(HEAD, SAMPLE.empty_table())
    batch = pa.concat_tables([unit] * 2).slice(0, num_units)
    with pytest.raises(ValueError, match=f"one unit, not {num_units}"):
        unpack(batch)
