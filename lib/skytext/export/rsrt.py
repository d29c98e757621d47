"""Export the images of a table as JSON lines in the format of RSRT.

The function `skytext.evaluation.gallery_texts.described_in_jsonl` reads this format.
"""

from __future__ import annotations

import hashlib
import json
from typing import BinaryIO

import numpy as np

from skytext.archive.suffixes import SHARD_SUFFIXES
from skytext.export.image_json import rows, variants
from skytext.table.images_dataset import ImagesTable
from skytext.table.rows.scan import done_batches


def write_rsrt_jsonl(table: ImagesTable, out: BinaryIO) -> int:
    """Write one line for each image, with a unique path, the variants and the caption model.

    The path is the result of `image_path`. If two archives contain the same shard, two images have
    the same path. In this case the ``image_id`` is added to the path, before the name of the
    member.
    """
    repeated = _repeated(table)
    count = 0
    for row in rows(table, ("image_id", "shard", "member", "captions", "caption_model")):
        path = image_path(row["shard"], row["member"])
        if _digest(path) in repeated:
            path = image_path(row["shard"], f"{row['image_id']}/{row['member']}")
        record = {
            "image": path,
            "variants": variants(row),
            "model": row["caption_model"],
        }
        out.write(json.dumps(record, ensure_ascii=False).encode() + b"\n")
        count += 1
    return count


def image_path(shard: str, member: str) -> str:
    """Return the path of an image relative to the root of its archive.

    Examples are ``a.tar/0001.jpg`` and ``north/0001.jpg``. The path depends only on the image, so
    the path does not change when rows are added to the table. For an image from an import file, the
    result is the path that the import file gives for the image.
    """
    if shard.endswith("/"):
        return f"{shard.removeprefix('./')}{member}"
    return f"{shard}/{member}" if shard.lower().endswith(SHARD_SUFFIXES) else member


def _repeated(table: ImagesTable) -> set[int]:
    """Return the digests of all paths that more than one image has.

    A digest needs only 8 bytes of memory. If two different paths have the same digest, the only
    effect is that an unnecessary ``image_id`` is added to these paths.
    """
    paths = (
        image_path(shard, member)
        for batch in done_batches(table, ("shard", "member"))
        for shard, member in zip(*(column.to_pylist() for column in batch.columns), strict=True)
    )
    digests = np.fromiter(map(_digest, paths), np.uint64)
    found, counts = np.unique(digests, return_counts=True)
    return set(found[counts > 1].tolist())


def _digest(path: str) -> int:
    return int.from_bytes(hashlib.blake2b(path.encode(), digest_size=8).digest(), "big")
