"""Units. A unit contains consecutive samples of one shard, and is one row of a Ray data set.

Ray Data chooses the size of a block by its bytes. Ray Data may split or merge the output of an
operator, but it never splits a row. So a unit is one row, and every row is one block. All stages
then process, record and repeat the same units. The samples of a unit are a list of structs. Arrow
can read this list without a copy.
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
    """All fields of a unit except its samples. Every stage copies these fields to its output.

    Attributes:
        unit_id: id of the unit.
        archive: name of the archive; empty for a unit of table rows.
        shard: path of the shard relative to the source's root, or the name of a group of rows.
        num_listed: number of images that the reader found in the shard after the previous unit.
        num_skipped: number of these images that need no work.
        shard_bytes_read: number of bytes of the shard that were read after the previous unit.
        removes: image ids of the rows to remove when this unit is committed. An earlier run made
            such a row because the shard was unreadable. The shard is now readable.
        fault: the error of the store if a part of the shard could not be fetched; otherwise empty.
            Only the last unit of a shard can have an error.
        is_store_away: whether the store did not respond. The whole store may then be unavailable.
        num_many_bands: number of images with more than three bands. The decoder counts these images
            if ``images.bands`` is not set.
        ignored: pairs of a file kind and the number of files of this kind in the shard; see
            :mod:`skytext.archive.ignored`. Only the last unit of a shard has pairs.
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
        # Arrow and JSON return lists, so convert the lists to tuples.
        object.__setattr__(self, "removes", tuple(self.removes))
        object.__setattr__(self, "ignored", tuple((kind, num) for kind, num in self.ignored))

    def as_row(self) -> dict[str, Any]:
        """Return the fields as a dictionary of column names and values."""
        return {name: getattr(self, name) for name in self.__slots__}


@dataclass(frozen=True, slots=True)
class UnitRecord:
    """The record of a finished unit. The last stage sends it to the driver.

    Attributes:
        head: the head of the unit. It contains the counts of the reader.
        num_rows: number of staged rows or vectors to commit; None if nothing was staged.
        num_ok: number of described or embedded images.
        num_failed: number of failed images.
        failures: number of failed images by ``stage/reason``.
        unusable: for each field, the number of source values that could not be used.
        unusable_examples: for each field, one such value and the URI of its image.
        sums: the total token counts and variant counts of all rows.
        engine_clock: id of the engine, and the current values of ``span_s``, ``idle_s`` and
            ``restarts`` of this engine; None if no engine has started.
        example: name and description of one image, for display; None if no image was described.
        failure_samples: one failure message by ``stage/reason``. It is set only for units that
            write vectors and no rows.
        embed_s: seconds in which the embedding model worked, including the decoding of images.
        ran_on: device and precision of the embedding model; None if the model was not used.
        put_off: ids of the images that a later pass must process.
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
        """Return the record as a JSON string."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> UnitRecord:
        """Make a record from the result of `to_json`."""
        fields = json.loads(text)
        fields["head"] = UnitHead(**fields["head"])
        for name in ("example", "ran_on", "put_off"):
            if fields[name] is not None:
                fields[name] = tuple(fields[name])
        return cls(**fields)


def pack(head: UnitHead, samples: pa.Table) -> pa.Table:
    """Return a unit as a table with one row."""
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
    """Return a column as one array, without a copy if the column has only one chunk.

    ``combine_chunks`` would copy a single chunk.
    """
    if column.num_chunks == 1:
        return column.chunk(0)
    return pa.concat_arrays(column.chunks) if column.num_chunks else pa.array([], column.type)
