"""A unit: a run of samples of one shard, as one row of a Ray data set.

Ray Data shapes blocks by bytes, and may split or merge what an operator yields. A row it never
cuts, so a unit is a row (with its samples as a list of structs, zero-copy in Arrow), and the
pipeline lets every row be a block of its own. What is written, recorded and repeated after a
failure is then the same piece of work at every stage.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import pyarrow as pa

from skytext.errors import SampleError
from skytext.table.schema import unit_schema


@dataclass(frozen=True, slots=True)
class UnitHead:
    """What a unit says besides its samples; every stage passes it on.

    Attributes:
        unit_id: names the unit within its run.
        archive: the archive's name; empty for a unit of rows of the table.
        shard: the shard's path relative to the source's root; or the name of a group of rows.
        num_listed: images met in the shard since the unit before.
        num_skipped: those of them that have a row already.
        shard_bytes_read: bytes of the shard that these images take.
        removes: rows that are to go with this unit, by image: they say that the shard could not be
            read, and now it can.
        fault: the error of the store if a part of the shard, or some of its files, could not be
            fetched; else empty. Only the last unit of a shard has one.
        is_store_away: whether the fault is that the store gave no answer; it may be away as a
            whole.
        num_many_bands: images of more than three bands of which nobody chose any; counted where
            they are decoded.
        ignored: pairs of a kind and the number of files of it in the shard, see
            :mod:`skytext.archive.ignored`. They are said by the last unit.
    """

    unit_id: str
    archive: str
    shard: str
    num_listed: int
    num_skipped: int
    shard_bytes_read: int
    removes: tuple[str, ...] = ()
    fault: str = ""
    is_store_away: bool = False
    num_many_bands: int = 0
    ignored: tuple[tuple[str, int], ...] = ()

    def __post_init__(self) -> None:
        # From Arrow and from JSON they come as lists.
        object.__setattr__(self, "removes", tuple(self.removes))
        object.__setattr__(self, "ignored", tuple((kind, num) for kind, num in self.ignored))

    def as_row(self) -> dict[str, Any]:
        """Return the head's columns and values."""
        return {name: getattr(self, name) for name in self.__slots__}


@dataclass(frozen=True, slots=True)
class UnitRecord:
    """What the driver learns of a unit.

    Attributes:
        head: its counts as read.
        num_rows: rows or vectors to be committed; None for none.
        num_ok: rows that are done.
        num_failed: rows that failed.
        failures: ``stage/reason`` to the number of rows.
        unusable: what the source said of the rows and could not be used: field to their number.
        unusable_examples: one value of each of those fields, and where it stands.
        sums: token and variant counts over the rows.
        engine_clock: ``{engine, span_s, idle_s}`` of the engine that described them, so far.
        example: a member's name and what was seen in it, for people to watch; None without one.
        failure_samples: of a unit that is not written as rows: ``stage/reason`` to one failure in
            words.
        embed_s: seconds in the embedding model; decoding included.
        ran_on: device and precision of that model; None where it did not run.
        put_off: images of the unit that are left to a later pass.
    """

    head: UnitHead
    num_rows: int | None
    num_ok: int = 0
    num_failed: int = 0
    failures: Mapping[str, int] = field(default_factory=dict)
    unusable: Mapping[str, int] = field(default_factory=dict)
    unusable_examples: Mapping[str, str] = field(default_factory=dict)
    sums: Mapping[str, int] = field(default_factory=dict)
    engine_clock: Mapping[str, Any] | None = None
    example: tuple[str, str] | None = None
    failure_samples: Mapping[str, str] = field(default_factory=dict)
    embed_s: float = 0.0
    ran_on: tuple[str, str] | None = None
    put_off: tuple[str, ...] = ()

    def to_json(self) -> str:
        """Return the record as a JSON text."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> UnitRecord:
        """Read what `to_json` wrote."""
        fields = json.loads(text)
        fields["head"] = UnitHead(**fields["head"])
        for name in ("example", "ran_on", "put_off"):
            if fields[name] is not None:
                fields[name] = tuple(fields[name])
        return cls(**fields)


def pack(head: UnitHead, samples: pa.Table) -> pa.Table:
    """Return a unit as a table of one row."""
    schema = unit_schema(samples.schema)
    fields = list(samples.schema)
    structs = pa.StructArray.from_arrays(
        [_one_chunk(column) for column in samples.columns],
        fields=fields,
    )
    lists = pa.ListArray.from_arrays(pa.array([0, samples.num_rows], pa.int32()), structs)
    values = head.as_row()
    columns = [pa.array([values[field.name]], field.type) for field in list(schema)[:-1]]
    return pa.Table.from_arrays([*columns, lists.cast(schema.field("samples").type)], schema=schema)


def unpack(batch: pa.Table) -> tuple[UnitHead, pa.Table]:
    """Return the head and the samples of a unit, without copying the samples.

    Raises:
        ValueError: the batch holds more or fewer than one unit.
    """
    if batch.num_rows != 1:
        raise ValueError(f"a batch must hold one unit, not {batch.num_rows}: use batch_size=1")
    head = UnitHead(**{name: batch.column(name)[0].as_py() for name in UnitHead.__slots__})
    structs = _one_chunk(batch.column("samples")).flatten()
    return head, pa.Table.from_batches([pa.RecordBatch.from_struct_array(structs)])


def failure_row(error: SampleError) -> dict[str, Any]:
    """Return a failure as the struct of `skytext.table.schema.FAILURE`."""
    return {
        "stage": error.stage.value,
        "reason": error.reason.value,
        "detail": error.detail,
        "attempts": error.attempts,
    }


def _one_chunk(column: pa.ChunkedArray) -> pa.Array:
    """Return a column as one array; ``combine_chunks`` would copy even a single chunk."""
    if column.num_chunks == 1:
        return column.chunk(0)
    return pa.concat_arrays(column.chunks) if column.num_chunks else pa.array([], column.type)
