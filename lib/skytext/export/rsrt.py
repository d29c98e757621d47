"""RSRT-style JSON lines, which `skytext.evaluation.texts.described_in_jsonl` reads."""

from __future__ import annotations

import json
from typing import BinaryIO

from skytext.export.rows import rows, variants
from skytext.table.images import ImagesTable


def write_rsrt_jsonl(table: ImagesTable, out: BinaryIO) -> int:
    """Write one line an image: its path in the shard, and its variants."""
    count = 0
    for row in rows(table, ("member", "captions", "caption_model")):
        record = {
            "image": row["member"],
            "variants": variants(row),
            "model": row["caption_model"],
        }
        out.write(json.dumps(record, ensure_ascii=False).encode() + b"\n")
        count += 1
    return count
