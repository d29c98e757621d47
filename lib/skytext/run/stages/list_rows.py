"""Read the table rows without a vector, and return them in units.

INPUT    one row per group of fragments, with the name of the group and the ids of its fragments.
OUTPUT   units of `skytext.table.rows.missing_vectors.LISTED` rows, without image bytes.
FAN-OUT  one group gives many units. The ``shard`` of a unit is the name of its group.
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
        version: the version of the table to read.
        column: the vector column of the model.
        unit_images: maximum number of images per unit.
        unit_bytes: maximum encoded bytes per unit. An image that is larger gets its own unit.
        stop: the stop flag of the run. The run id in this object is the prefix of every unit id.
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
    """Split rows into consecutive units. Yield the list of rows of each unit.

    Args:
        rows: the rows. The size of an image is read from the columns ``byte_length``, ``width_px``
            and ``height_px``, if the rows have these columns.
        unit_images: maximum number of images per unit.
        unit_bytes: maximum encoded bytes per unit. An image that is larger gets its own unit.
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

    If the image is in a Parquet file, its row does not contain the size. The result is then an
    estimate of one byte per pixel.
    """
    if row.get("byte_length") is not None:
        return int(row["byte_length"])
    return int((row.get("width_px") or 0) * (row.get("height_px") or 0))
