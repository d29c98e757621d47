"""Read images that have a row. Each row contains the byte range of its image.

INPUT    rows of the table.
OUTPUT   units with the same form as the units of `skytext.run.stages.read_shards`.
FAN-OUT  one shard gives many units. The last unit has no samples, but contains the number of
         skipped images.
ON ERROR a missing image becomes a failed sample. If the store does not deliver an image, no unit
         contains the image. The last unit then records that the shard is *unread*.
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
    """Fetch the images of rows, and yield the images in units.

    If a node is lost, Ray calls this function again. The second call yields the same units, because
    the division into units depends only on the rows.

    Args:
        rows: rows of one shard, from `skytext.table.rows.rows_to_redo`.
        last: head of the last unit. The ``unit_id`` in this head is the prefix of every unit id.
        unit_images: maximum number of images per unit.
        unit_bytes: maximum encoded bytes per unit. An image that is larger gets its own unit.
        reading: options with which the shard was read.
        is_stopped: a function that returns whether the run must stop.
    """
    num_units = num_met = 0
    for some in cut_rows(rows, unit_images, unit_bytes):
        if is_stopped():
            return
        samples, fault = _fetched(some, reading, is_folder=last.shard.endswith("/"))
        if fault is not None and not last.fault:
            last = replace(last, fault=f"images were not read: {fault}")
        if isinstance(fault, UnavailableError):
            # The store does not respond. A request for another image would also fail after a wait.
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
    """Fetch the images of rows.

    Returns:
        The samples, and the last error of the store. The error is None if the store delivered all
        images.
    """
    samples, fault = [], None
    # The modification time of a file in a folder may change although the bytes stay the same. The
    # etag of the file then differs from the etag in the row, so the etags are not compared. The
    # decoder compares the hash of the bytes instead.
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
