"""Read a table's rows in order, one small batch at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pyarrow as pa

from skytext.table.images_dataset import ImagesTable
from skytext.table.schema import STATUS_OK

BATCH_ROWS = 256
"""Rows in memory at a time: 2 MB with vectors."""


def done_batches(table: ImagesTable, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
    """Yield the described images in table order, at most `BATCH_ROWS` at a time.

    Memory use does not depend on the table's size: Lance reads two batches ahead instead of one
    per core.
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
