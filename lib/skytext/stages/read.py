"""Read shards into units of samples.

INPUT    one row a shard: archive, uri, path, size_bytes, etag.
OUTPUT   units of `skytext.schema.SAMPLE` rows, encoded bytes included.
FAN-OUT  one shard to many units; the last unit of a shard may be empty, so that every shard
         reports what it listed.
ON ERROR an unreadable shard, or the unreadable tail of one, is one failed sample of stage ``read``.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from skytext.errors import SampleError
from skytext.schema import SAMPLE, STATUS_FAILED, STATUS_OK
from skytext.sources import ReadLimits, Sample, Shard, image_id, read_shard
from skytext.stages.units import UnitHead, pack
from skytext.table.images import ImagesTable
from skytext.table.location import TableLocation

SHARD_ROW = pa.schema(
    [
        pa.field("archive", pa.string()),
        pa.field("uri", pa.string()),
        pa.field("path", pa.string()),
        pa.field("size_bytes", pa.int64()),
        pa.field("etag", pa.string()),
    ]
)


def shard_row(shard: Shard) -> dict[str, Any]:
    """Return the row that stands for a shard."""
    return {name: getattr(shard, name) for name in SHARD_ROW.names}


@dataclass(frozen=True, slots=True)
class ShardReader:
    """Cuts a shard into units, leaving out the images that have a row already.

    Attributes:
        unit_images: images a unit at the most.
        unit_bytes: encoded bytes a unit at the most.
        limits: of the reader's memory.
        location: the table that tells what is done.
        table_version: the version that this run started from; None where there was no table.
    """

    unit_images: int
    unit_bytes: int
    limits: ReadLimits
    location: TableLocation
    table_version: int | None

    def __call__(self, batch: pa.Table) -> Iterator[pa.Table]:
        """Yield the units of the batch's shards."""
        for row in batch.to_pylist():
            yield from self.units(Shard(**row))

    def units(self, shard: Shard) -> Iterator[pa.Table]:
        """Yield a shard's units, at least one."""
        done = self._done(shard)
        samples = read_shard(shard, limits=self.limits)
        for index, (head, rows) in enumerate(self._cut(shard, samples, done)):
            unit_id = f"{image_id(shard.archive, shard.path, '', 0)}-{index}"
            yield pack(
                UnitHead(unit_id, shard.archive, shard.path, *head),
                pa.Table.from_pylist(rows, schema=SAMPLE),
            )

    def _done(self, shard: Shard) -> dict[str, str]:
        if self.table_version is None:
            return {}
        table = ImagesTable.open(self.location, self.table_version)
        return table.rows_of_shard(shard.archive, shard.path)

    def _cut(
        self, shard: Shard, samples: Iterable[Sample], done: dict[str, str]
    ) -> Iterator[tuple[tuple[int, ...], list[dict[str, Any]]]]:
        rows: list[dict[str, Any]] = []
        listed = skipped = held = position = 0
        cut_at = 0
        for sample in samples:
            listed += 1
            position = max(position, (sample.byte_offset or 0) + (sample.byte_length or 0))
            # What is left of ``done`` at the end is gone from the shard.
            if done.pop(sample.image_id, None) is not None:
                skipped += 1
                continue
            rows.append(sample_row(sample))
            held += len(sample.data or b"")
            if len(rows) >= self.unit_images or held >= self.unit_bytes:
                yield (listed, skipped, position - cut_at), rows
                rows, listed, skipped, held, cut_at = [], 0, 0, 0, position
        gone = list(done.values())
        counts = (gone.count(STATUS_OK), gone.count(STATUS_FAILED))
        yield (listed, skipped, max(shard.size_bytes - cut_at, 0), *counts), rows


def sample_row(sample: Sample) -> dict[str, Any]:
    """Return a sample as a row of `skytext.schema.SAMPLE`."""
    row = {name: getattr(sample, name, None) for name in SAMPLE.names}
    if sample.bbox is not None:
        row["bbox"] = dict(zip(("west", "south", "east", "north"), sample.bbox, strict=True))
    if sample.failure is not None:
        row["failure"] = failure_row(sample.failure)
    return row


def failure_row(error: SampleError) -> dict[str, Any]:
    """Return a failure as the struct of `skytext.schema.FAILURE`."""
    return {
        "stage": error.stage.value,
        "reason": error.reason.value,
        "detail": error.detail,
        "attempts": error.attempts,
    }
