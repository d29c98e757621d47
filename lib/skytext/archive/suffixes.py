"""File suffixes of shards, images and sidecars."""

from __future__ import annotations

SHARD_SUFFIXES = (".tar", ".parquet")
"""Lower-case suffixes of the files that hold many images."""

IMAGE_SUFFIXES = frozenset({"jpg", "jpeg", "png", "webp", "tif", "tiff"})
"""Lower-case suffixes, without their dot, of image files and of members that are images."""

SIDECAR_SUFFIXES = frozenset({"json", "txt"})
"""Lower-case suffixes, without their dot, of sidecars."""


def is_hidden(path: str) -> bool:
    """Whether a part of a path begins with a dot (except ``.`` and ``..``) or is ``__MACOSX``."""
    return any(
        part == "__MACOSX" or (part.startswith(".") and part not in (".", ".."))
        for part in path.split("/")
    )
