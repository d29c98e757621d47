"""Count a table's rows for the proof that ends a run.

INPUT    a table's version.
OUTPUT   rows by shard and status, and the number of stale rows.
FAN-OUT  one task.
ON ERROR the run ends without its proof: a job error.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from skytext.run.control.driver_node import run_on_driver_node
from skytext.table.images_dataset import ImagesTable
from skytext.table.location import TableLocation
from skytext.table.store_retry import again


@dataclass(frozen=True, slots=True)
class TableCounts:
    """What a version of a table holds.

    Attributes:
        by_shard: ``(archive, shard)`` to the number of rows by status.
        num_stale: rows made with another caption fingerprint.
        num_double: images with more than one row.
    """

    by_shard: dict[tuple[str, str], Counter[str]] = field(default_factory=dict)
    num_stale: int = 0
    num_double: int = 0


def count_table(
    location: TableLocation, version: int | None, caption_fingerprint: str
) -> TableCounts:
    """Count the rows of a version on the cluster; of a table that is not there (None), nothing."""
    if version is None:
        return TableCounts()
    return run_on_driver_node(_count, location, version, caption_fingerprint)


@again
def _count(location: TableLocation, version: int, caption_fingerprint: str) -> TableCounts:
    table = ImagesTable.open(location, version)
    return TableCounts(
        table.counts_by_shard(), table.num_stale(caption_fingerprint), table.num_double()
    )
