"""Read the table rows without a vector, and return them in units.

INPUT    one row per group of fragments, with the group's name and the fragment ids.
OUTPUT   units of `skytext.table.rows.missing_vectors.LISTED` rows, without image bytes.
FAN-OUT  one group to many units. A unit's ``shard`` is the name of its group.
ON ERROR a failed store request ends the job.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from skytext.run.control.stop_flag import StopFlag
from skytext.run.units import UnitHead, pack
from skytext.table.images_dataset import ImagesTable
from skytext.table.location import TableLocation
from skytext.table.rows.missing_vectors import LISTED, rows_without_vector
from skytext.table.vector_columns import VectorColumn


@dataclass(frozen=True, slots=True)
class RowLister:
    """A stage that lists the images without a vector in one version of a table.

    Attributes:
        location: the table.
        version: version of the table.
        column: column of the model's vectors.
        unit_images: maximum number of images per unit.
        unit_bytes: maximum encoded bytes per unit. A larger image gets a unit without other images.
        stop: the stop flag of the run. Its run id is the prefix of every unit id.
    """

    location: TableLocation
    version: int
    column: VectorColumn
    unit_images: int
    unit_bytes: int
    stop: StopFlag

    def __call__(self, batch: pa.Table) -> Iterator[pa.Table]:
        """Yield the units of the groups in ``batch``. Each unit is a table of one row."""
        table, schema = ImagesTable.open(self.location, self.version), LISTED[self.column.kind]
        for group in batch.to_pylist():
            found = self._rows(table, group["fragment_ids"])
            units = cut_rows(found, self.unit_images, self.unit_bytes)
            for number, rows in enumerate(units):
                if self.stop.is_raised():
                    return
                # The id is the same if Ray repeats the task and lists the group again.
                unit_id = f"{self.stop.run_id}/{group['group']}-{number}"
                head = UnitHead(unit_id, "", group["group"], len(rows), 0, 0)
                yield pack(head, pa.Table.from_pylist(rows, schema=schema))

    def _rows(self, table: ImagesTable, fragment_ids: list[int]) -> Iterator[dict[str, Any]]:
        for fragment_id in fragment_ids:
            for batch in rows_without_vector(table, fragment_id, self.column):
                yield from batch.to_pylist()


def cut_rows(
    rows: Iterable[dict[str, Any]], unit_images: int, unit_bytes: int
) -> Iterator[list[dict[str, Any]]]:
    """Split rows into the lists of rows of consecutive units.

    Args:
        rows: the rows. If they have columns for the size of an image, these columns are used.
        unit_images: maximum number of images per unit.
        unit_bytes: maximum encoded bytes per unit. A larger image gets a unit without other images.
    """
    held: list[dict[str, Any]] = []
    held_bytes = 0
    for row in rows:
        num_bytes = _bytes_of(row)
        if held and (len(held) >= unit_images or held_bytes + num_bytes > unit_bytes):
            yield held
            held, held_bytes = [], 0
        held.append(row)
        held_bytes += num_bytes
    if held:
        yield held


def _bytes_of(row: dict[str, Any]) -> int:
    """Return the encoded size of an image in bytes.

    The size of an image in a Parquet file is not in its row. The estimate is one byte per pixel.
    """
    if row.get("byte_length") is not None:
        return int(row["byte_length"])
    return int((row.get("width_px") or 0) * (row.get("height_px") or 0))
