"""List the images of a table that have no vector yet, in units.

INPUT    one row a group of fragments: their ids.
OUTPUT   units of `PLACES`: where each image lies; no bytes.
FAN-OUT  one group to many units.
ON ERROR a store that refuses ends the job.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from skytext.run.control.stop_flag import StopFlag
from skytext.table.image_vector_column import PLACE_SCHEMA, places_without_vector
from skytext.table.images_dataset import ImagesTable
from skytext.table.location import TableLocation

PLACES = pa.schema(
    [
        # New for each unit of each run: what two runs stage never collides.
        pa.field("unit_id", pa.string(), nullable=False),
        pa.field("places", pa.list_(pa.struct(list(PLACE_SCHEMA))), nullable=False),
    ]
)


@dataclass(frozen=True, slots=True)
class VectorlessImages:
    """Lists what is to be embedded of one version of a table.

    Attributes:
        location: the table.
        version: of it.
        fingerprint: of the model; vectors by another one count for nothing.
        unit_images: images a unit at the most.
        unit_bytes: encoded bytes a unit at the most, but for a single larger image.
        stop: whether the run is to stop.
    """

    location: TableLocation
    version: int
    fingerprint: str
    unit_images: int
    unit_bytes: int
    stop: StopFlag

    def __call__(self, batch: pa.Table) -> Iterator[pa.Table]:
        """Yield units, each a table of one row."""
        table = ImagesTable.open(self.location, self.version)
        held: list[dict[str, Any]] = []
        held_bytes = 0
        for ids in batch.column("fragment_ids").to_pylist():
            for fragment_id in ids:
                for row in places_without_vector(table, fragment_id, self.fingerprint).to_pylist():
                    num_bytes = _bytes_of(row)
                    full = len(held) >= self.unit_images
                    if held and (full or held_bytes + num_bytes > self.unit_bytes):
                        if self.stop.is_raised():
                            return
                        yield _unit(held)
                        held, held_bytes = [], 0
                    held.append(row)
                    held_bytes += num_bytes
        if held and not self.stop.is_raised():
            yield _unit(held)


def group_fragments(num_rows: Sequence[tuple[int, int]], rows_a_group: int) -> list[list[int]]:
    """Return fragment ids in groups of so many rows or a little more: small ones share a task.

    Args:
        num_rows: ``(fragment id, rows)``.
        rows_a_group: rows from which a group is full.
    """
    groups: list[list[int]] = []
    room = 0
    for fragment_id, rows in num_rows:
        if room <= 0:
            groups.append([])
            room = rows_a_group
        groups[-1].append(fragment_id)
        room -= rows
    return groups


def _bytes_of(row: dict[str, Any]) -> int:
    """Return an image's encoded bytes; of a Parquet cell a guess: a byte a pixel."""
    if row["byte_length"] is not None:
        return int(row["byte_length"])
    return int((row["width_px"] or 0) * (row["height_px"] or 0))


def _unit(rows: list[dict[str, Any]]) -> pa.Table:
    unit = {"unit_id": uuid.uuid4().hex, "places": rows}
    return pa.Table.from_pylist([unit], schema=PLACES)
