"""Rows whose images are to be described again, with all that is needed to fetch them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from skytext.table.images_dataset import ImagesTable, sql_text
from skytext.table.schema import DONE, PIXEL_FIELDS, SOURCE_FIELDS, STATUS_FAILED, STATUS_OK

_ROWS_A_BATCH = 1024
_NAMES = [field.name for field in (*SOURCE_FIELDS, *PIXEL_FIELDS)]


def rows_to_redo(
    table: ImagesTable,
    archive: str,
    shard: str,
    fragments: Sequence[int] | None,
    *,
    described_with: str,
    max_attempts: int,
) -> Iterator[dict[str, Any]]:
    """Yield the rows of a shard that are stale, or those that failed.

    Args:
        table: a version.
        archive: the archive's name.
        shard: the shard's path.
        fragments: the fragments that hold its rows; None to look at all of them.
        described_with: a caption fingerprint: rows with another one are stale. Empty for the rows
            that failed.
        max_attempts: rows that failed this often are left out.

    Yields:
        Their columns of `skytext.table.schema.SAMPLE`, but for ``data`` and ``failure``.
    """
    condition = (
        f"{DONE} AND caption_fingerprint != {sql_text(described_with)}"
        if described_with
        else f"status = '{STATUS_FAILED}' AND failure.attempts < {int(max_attempts)}"
    )
    scanner = table.dataset.scanner(
        columns=[*_NAMES, "metadata", "unit_id", "status", "failure"],
        filter=f"archive = {sql_text(archive)} AND shard = {sql_text(shard)} AND {condition}",
        fragments=None if fragments is None else [table.dataset.get_fragment(i) for i in fragments],
        batch_size=_ROWS_A_BATCH,
    )
    for batch in scanner.to_batches():
        for row in batch.to_pylist():
            failure, status = row.pop("failure"), row.pop("status")
            yield row | {
                "replaces_unit": row.pop("unit_id"),
                "earlier_attempts": 0 if failure is None else failure["attempts"],
                "keeps_row": status == STATUS_OK,
            }
