"""Read the rows of a table in their order, one small batch at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pyarrow as pa

from skytext.table.images_dataset import ImagesTable
from skytext.table.schema import STATUS_OK

BATCH_ROWS = 256
"""Maximum number of rows in a batch. A batch of rows with vectors needs 2 MB of memory."""


def done_batches(table: ImagesTable, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
    """Yield batches of described images, in the order of the table.

    A batch has at most `BATCH_ROWS` rows. Lance reads only two batches ahead. So the memory use
    does not depend on the table's size or on the number of cores.
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
