"""Find the rows whose images must be described again."""

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
    """Yield the stale rows or the failed rows of a shard.

    Args:
        table: a version.
        archive: the archive's name.
        shard: the shard's path.
        fragments: ids of the fragments that contain rows of the shard; None for all fragments.
        described_with: a caption fingerprint. Described rows with another caption fingerprint are
            stale. The stale rows are yielded. If ``described_with`` is empty, the failed rows are
            yielded instead.
        max_attempts: a failed row is omitted if its number of attempts is at least this number.

    Yields:
        One row as a dict, with the columns of `skytext.table.schema.SAMPLE` except ``data`` and
        ``failure``.
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
