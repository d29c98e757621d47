"""Count a table's rows for the proof that ends a run.

INPUT    a table's version.
OUTPUT   rows by shard and status, and the number of stale rows.
FAN-OUT  one task.
ON ERROR the run ends without its proof: a job error.

On a worker, not on the driver: Lance keeps the metadata of every file it opens, and a driver's
memory must not grow with the table.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

import ray

from skytext.run.control.cluster import result_of
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
    location: TableLocation, version: int | None, caption_fingerprint: str, num_cpus: float
) -> TableCounts:
    """Count the rows of a version on the cluster; of a table that is not there (None), nothing."""
    if version is None:
        return TableCounts()
    task = ray.remote(num_cpus=num_cpus)(_count)
    counts: TableCounts = result_of(task.remote(location, version, caption_fingerprint))
    return counts


@again
def _count(location: TableLocation, version: int, caption_fingerprint: str) -> TableCounts:
    table = ImagesTable.open(location, version)
    return TableCounts(
        table.counts_by_shard(), table.num_stale(caption_fingerprint), table.num_double()
    )
