"""A unit: consecutive samples of one shard, as one row of a Ray data set.

Ray Data sizes blocks by bytes, and may split or merge the output of an operator. It never splits a
row. So a unit is one row (its samples are a list of structs, zero-copy in Arrow), and every row is
one block. Every stage then writes, records and repeats the same piece of work.
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
    """The fields of a unit besides its samples; every stage passes them on.

    Attributes:
        unit_id: id of the unit.
        archive: name of the archive; empty for a unit of table rows.
        shard: path of the shard relative to the source's root, or the name of a group of rows.
        num_listed: images found in the shard since the previous unit.
        num_skipped: those that already have a row.
        shard_bytes_read: bytes of these images in the shard.
        removes: rows to remove with this unit, by image: rows of an unreadable shard that is now
            readable.
        fault: the store error if a part of the shard, or some of its files, could not be fetched;
            otherwise empty. Only the last unit of a shard can have one.
        is_store_away: whether the store did not respond, so it may be down as a whole.
        num_many_bands: images with more than three bands and no configured bands; counted by the
            decoder.
        ignored: pairs of a kind and the number of such files in the shard, see
            :mod:`skytext.archive.ignored`. Only the last unit has them.
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
        # Arrow and JSON return lists.
        object.__setattr__(self, "removes", tuple(self.removes))
        object.__setattr__(self, "ignored", tuple((kind, num) for kind, num in self.ignored))

    def as_row(self) -> dict[str, Any]:
        """Return the head's columns and values."""
        return {name: getattr(self, name) for name in self.__slots__}


@dataclass(frozen=True, slots=True)
class UnitRecord:
    """The record of a unit for the driver.

    Attributes:
        head: the head with the reader's counts.
        num_rows: rows or vectors to commit; None for none.
        num_ok: described rows.
        num_failed: failed rows.
        failures: number of rows by ``stage/reason``.
        unusable: number of unusable source values by field.
        unusable_examples: one such value per field, with its location.
        sums: token and variant counts over the rows.
        engine_clock: ``{engine, span_s, idle_s}`` of the engine so far.
        example: a member's name and its description, for display; None without one.
        failure_samples: one failure message by ``stage/reason``, for units that write no rows.
        embed_s: seconds in the embedding model, including decoding.
        ran_on: device and precision of that model; None if it was not used.
        put_off: images of the unit left to a later pass.
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
        """Parse the result of `to_json`."""
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
        ValueError: the batch does not have exactly one unit.
    """
    if batch.num_rows != 1:
        raise ValueError(f"a batch must have one unit, not {batch.num_rows}: use batch_size=1")
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
