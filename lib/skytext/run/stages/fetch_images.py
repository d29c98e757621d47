"""Fetch the bytes of images that have a row. Each row contains the byte range of its image.

INPUT    units of `skytext.table.schema.SAMPLE` rows. Each row contains the address of its image.
OUTPUT   the same units with ``data``.
FAN-OUT  one input unit gives one output unit. If the run is stopping, the output unit has no rows,
         and the next run processes the rows of the input unit.
ON ERROR an image that cannot be read gets a ``failure``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import pyarrow as pa

from skytext.archive import ReadOptions, fetch_rows, is_store_fault
from skytext.errors import Reason, SampleError, Stage
from skytext.run.control.stop_flag import StopFlag
from skytext.run.units import failure_row, pack, unpack
from skytext.table.location import TableLocation
from skytext.table.schema import SAMPLE
from skytext.table.shards.moved_images import moved_row


@dataclass(frozen=True, slots=True)
class ImageFetcher:
    """A stage that fetches the images of a unit.

    Attributes:
        reading: options with which the sources were read.
        num_threads: number of concurrent requests.
        stop: the stop flag of the run.
        location: the table. If a shard has changed, its manifest in the table contains the new
            place of each image.
    """

    reading: ReadOptions
    num_threads: int
    stop: StopFlag
    location: TableLocation

    def __call__(self, batch: pa.Table) -> pa.Table:
        """Fetch the bytes of all images in a unit into memory; return the unit with the bytes."""
        head, samples = unpack(batch)
        rows = [] if self.stop.is_raised() else samples.to_pylist()
        found = fetch_rows(
            rows,
            options=self.reading,
            num_threads=self.num_threads,
            find_moved=partial(moved_row, self.location),
        )
        for row, data in zip(rows, found, strict=True):
            row.update(failure_of(row, data) if isinstance(data, Exception) else {"data": data})
        return pack(head, pa.Table.from_pylist(rows, schema=SAMPLE))


def failure_of(row: Mapping[str, Any], error: Exception) -> dict[str, Any]:
    """Return the column ``failure`` of an image that could not be fetched."""
    reason = Reason.STORE_FAULT if is_store_fault(error) else Reason.UNREADABLE
    return {"failure": failure_row(SampleError(Stage.READ, reason, f"{row['uri']}: {error}"))}
