"""RSRT-style JSON lines, which `skytext.evaluation.gallery_texts.described_in_jsonl` reads."""

from __future__ import annotations

import hashlib
import json
from typing import BinaryIO

import numpy as np

from skytext.archive.suffixes import SHARD_SUFFIXES
from skytext.export.image_json import rows, variants
from skytext.table.images_dataset import ImagesTable
from skytext.table.scan import done_batches


def write_rsrt_jsonl(table: ImagesTable, out: BinaryIO) -> int:
    """Write one line per image: a unique path, and its variants.

    The path is `image_path`. If several images have the same path (the same shard in two archives),
    the ``image_id`` is added before the member's name, and the file name is kept.
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
    """Return an image's path from its archive's root: ``a.tar/0001.jpg``, ``north/0001.jpg``.

    It depends only on the image, so it does not change when the table grows. An imported image
    keeps the path of its import file, because its shard is that file.
    """
    if shard.endswith("/"):
        return f"{shard.removeprefix('./')}{member}"
    return f"{shard}/{member}" if shard.lower().endswith(SHARD_SUFFIXES) else member


def _repeated(table: ImagesTable) -> set[int]:
    """Return the digests of paths with several images: 8 bytes per image in memory.

    If two paths have the same digest, they only get an unnecessary ``image_id``.
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
