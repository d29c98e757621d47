"""Read a table's rows from first to last, a few at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pyarrow as pa

from skytext.table.images_dataset import ImagesTable
from skytext.table.schema import STATUS_OK

BATCH_ROWS = 256
"""Rows in memory together: 2 MB where vectors are among them."""


def done_batches(table: ImagesTable, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
    """Yield the images that are done, at most `BATCH_ROWS` at a time, in the table's order.

    However large the table, little of it is in memory: Lance reads two batches ahead of the caller
    instead of as many as there are cores.
    """
    scanner = table.dataset.scanner(
        columns=list(columns),
        filter=f"status = '{STATUS_OK}'",
        batch_size=BATCH_ROWS,
        batch_readahead=2,
        fragment_readahead=1,
        scan_in_order=True,
    )
    for batch in scanner.to_batches():
        for first in range(0, batch.num_rows, BATCH_ROWS):
            yield batch.slice(first, BATCH_ROWS)
