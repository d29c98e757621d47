"""Read images that have a row, from the byte locations in their rows.

INPUT    rows of the table.
OUTPUT   units like those of `skytext.run.stages.read_shards`.
FAN-OUT  one shard to many units; the last has no samples, but the number of skipped images.
ON ERROR a missing image is a failed sample. If the store does not deliver an image, it is left out
         and the shard is *unread*, as recorded in its last unit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import Any

import pyarrow as pa

from skytext.archive import ReadOptions, UnavailableError, fetch_rows, is_store_fault
from skytext.run.stages.fetch_images import failure_of
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
    """Yield units of the images of rows, fetched by byte ranges.

    After the loss of a node, a shard is read again and cut at the same places, because the cut
    depends only on its rows.

    Args:
        rows: rows of one shard, from `skytext.table.rows_to_redo`.
        last: head of the last unit; its ``unit_id`` is the prefix of each unit's id.
        unit_images: maximum number of images per unit.
        unit_bytes: maximum encoded bytes per unit, except for a single larger image.
        reading: options with which the shard was read.
        is_stopped: whether the run must stop.
    """
    num_units = num_met = 0
    for some in cut_rows(rows, unit_images, unit_bytes):
        if is_stopped():
            return
        samples, fault = _fetched(some, reading, is_folder=last.shard.endswith("/"))
        if fault is not None and not last.fault:
            last = replace(last, fault=f"images were not read: {fault}")
        if isinstance(fault, UnavailableError):
            # Every further image would wait as long and fail too.
            last = replace(last, is_store_away=True)
            if not samples:
                break
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
        if last.is_store_away:
            break
    num_left = last.num_listed - num_met
    last = replace(
        last, unit_id=f"{last.unit_id}-{num_units}", num_listed=num_left, num_skipped=num_left
    )
    yield pack(last, pa.Table.from_pylist([], schema=SAMPLE))


def _fetched(
    rows: list[dict[str, Any]], reading: ReadOptions, *, is_folder: bool
) -> tuple[list[dict[str, Any]], Exception | None]:
    """Return samples, and the store error if some images were not delivered."""
    samples, fault = [], None
    # If a file of a folder was only touched, its etag differs but its bytes are the same. The
    # decoder compares the bytes with the row.
    places = [row | {"shard_etag": None} for row in rows] if is_folder else rows
    fetched = fetch_rows(places, options=reading, num_threads=_READS_AT_ONCE)
    for row, found in zip(rows, fetched, strict=True):
        if isinstance(found, bytes):
            samples.append(row | {"data": found})
        elif is_store_fault(found):
            fault = found
        else:
            samples.append(row | failure_of(row, found))
    return samples, fault
