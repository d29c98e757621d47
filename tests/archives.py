"""Make small archives for tests.

The tar shards contain small JPEG images of random noise. Some images and some shards are broken.
"""

from __future__ import annotations

import gzip
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from PIL import Image

from tests.archive.formats.tars import Entry, make_tar


def jpeg(seed: int, size: tuple[int, int] = (48, 32)) -> bytes:
    """Return a JPEG image of random noise. Each seed gives a different image."""
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG")
    return buffer.getvalue()


def tiff16(seed: int) -> bytes:
    """Return a 16-bit grey TIFF image of 40 x 24 pixels."""
    pixels = np.random.default_rng(seed).integers(300, 5000, (24, 40)).astype(np.uint16)
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, pixels)
    return buffer.getvalue()


def images(first: int, count: int) -> list[Entry]:
    """Return ``count`` good images. ``first`` is the seed of the first image."""
    return [(f"{seed:04d}.jpg", jpeg(seed)) for seed in range(first, first + count)]


def bad_images() -> dict[str, tuple[bytes, str]]:
    """Return the members that cannot be decoded.

    Each value contains the bytes of a member and the expected reason in its row.
    """
    return {
        "empty.jpg": (b"", "empty"),
        "cut.jpg": (jpeg(9001)[:200], "truncated_image"),
        "text.png": (b"a page about ships\n" * 9, "not_an_image"),
    }


def cut_tar(entries: Sequence[Entry]) -> bytes:
    """Return a shard that ends in the middle of its last member."""
    whole = make_tar(entries)
    return whole[: whole.rindex(b"\xff\xd9") - 100]


def bad_shards(first: int) -> dict[str, tuple[bytes, str, int]]:
    """Return the shards that cannot be read to the end.

    Each value contains the bytes of a shard, the expected reason, and the number of images before
    the bad part.
    """
    return {
        "cut.tar": (cut_tar(images(first, 3)), "shard_truncated", 2),
        "squeezed.tar": (gzip.compress(make_tar(images(first, 3))), "shard_compressed", 0),
        "zero.tar": (b"", "shard_unreadable", 0),
        "prose.tar": (b"this is no tar. " * 200, "shard_unreadable", 0),
    }


def write_archive(root: Path, shards: Mapping[str, Sequence[Entry] | bytes]) -> Path:
    """Write the shards of an archive, and return ``root``.

    The content of a shard is a list of entries, or the bytes of the whole file.
    """
    for name, content in shards.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else make_tar(content))
    return root


def upload(s3: Any, folder: Path, bucket: str, prefix: str) -> str:
    """Create a bucket, upload the files of a folder, and return the address of the upload."""
    s3.create_bucket(Bucket=bucket)
    for file in sorted(folder.rglob("*")):
        if file.is_file():
            s3.upload_file(str(file), bucket, f"{prefix}/{file.relative_to(folder)}")
    return f"s3://{bucket}/{prefix}"
