"""Read images of a shard that have a row, from where their rows say that the bytes are.

INPUT    rows of the table.
OUTPUT   units as those of `skytext.run.stages.read_shards`.
FAN-OUT  one shard to many units; the last has no samples and says how many images were left alone.
ON ERROR an image that is gone is a failed sample. One that the store does not give is left out, and
         the shard is *unread*: its last unit says so.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import Any

import pyarrow as pa

from skytext.archive import ReadOptions, UnavailableError, is_store_fault
from skytext.run.stages.fetch_images import failure_of, fetch_rows
from skytext.run.stages.list_rows import cut_rows
from skytext.run.units import UnitHead, pack
from skytext.table.schema import SAMPLE

_READS_AT_ONCE = 8


def units_of_rows(
    rows: Iterable[dict[str, Any]],
    last: UnitHead,
    *,
    unit_images: int,
    unit_bytes: int,
    reading: ReadOptions,
    is_stopped: Callable[[], bool],
) -> Iterator[pa.Table]:
    """Yield units of the images of rows, fetched by ranges.

    A shard that is read again, after the loss of a node, is cut at the same places: by what its
    rows say, whatever the store gives.

    Args:
        rows: of one shard, from `skytext.table.rows_to_redo`.
        last: what the last unit says if there are no rows; ``unit_id`` begins each unit's name.
        unit_images: images a unit at the most.
        unit_bytes: encoded bytes a unit at the most, but for a single larger image.
        reading: how the shard was read.
        is_stopped: whether the run is to stop.
    """
    num_units = num_met = 0
    for some in cut_rows(rows, unit_images, unit_bytes):
        if is_stopped():
            return
        samples, fault = _fetched(some, reading)
        if fault is not None and not last.fault:
            is_away = isinstance(fault, UnavailableError)
            last = replace(last, fault=f"images were not read: {fault}", is_store_away=is_away)
        head = replace(
            last,
            unit_id=f"{last.unit_id}-{num_units}",
            num_listed=len(some),
            num_skipped=0,
            shard_bytes_read=0,
            fault="",
            is_store_away=False,
        )
        yield pack(head, pa.Table.from_pylist(samples, schema=SAMPLE))
        num_units += 1
        num_met += len(some)
    num_left = last.num_listed - num_met
    last = replace(
        last, unit_id=f"{last.unit_id}-{num_units}", num_listed=num_left, num_skipped=num_left
    )
    yield pack(last, pa.Table.from_pylist([], schema=SAMPLE))


def _fetched(
    rows: list[dict[str, Any]], reading: ReadOptions
) -> tuple[list[dict[str, Any]], Exception | None]:
    """Return samples, and an error of the store if it did not give all of them."""
    samples, fault = [], None
    # The shard is the one that was read: its listing says so. A file that was only touched since
    # has another etag and the same bytes. The decoder compares these with the row.
    places = [row | {"shard_etag": None} for row in rows]
    for row, found in zip(rows, fetch_rows(places, reading, _READS_AT_ONCE), strict=True):
        if isinstance(found, bytes):
            samples.append(row | {"data": found})
        elif is_store_fault(found):
            fault = found
        else:
            samples.append(row | failure_of(row, found))
    return samples, fault
