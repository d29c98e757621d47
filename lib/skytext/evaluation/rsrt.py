"""Write a table's descriptions as RSRT-style JSON lines, which `described_in_jsonl` reads."""

from __future__ import annotations

import json
from collections.abc import Iterator

from skytext.captions import FIELDS
from skytext.table.images import ImagesTable


def rsrt_lines(table: ImagesTable) -> Iterator[str]:
    """Yield one line an image that is done: its path in the shard, and its variants."""
    for image in table.described_images(vectors=False):
        variants = [{name: caption[name] for name in FIELDS} for caption in image.captions]
        record = {"image": image.member, "variants": variants, "model": image.caption_model}
        yield json.dumps(record, ensure_ascii=False) + "\n"
