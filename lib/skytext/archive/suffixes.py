"""File suffixes of shards, images and sidecars."""

from __future__ import annotations

SHARD_SUFFIXES = (".tar", ".parquet")
"""Suffixes of files that contain many images, in lower case, with the dot."""

IMAGE_SUFFIXES = frozenset({"jpg", "jpeg", "png", "webp", "tif", "tiff"})
"""Suffixes of image files and of image members in a tar, in lower case, without the dot."""

SIDECAR_SUFFIXES = frozenset({"json", "txt"})
"""Suffixes of sidecars, in lower case, without the dot."""


def is_hidden(path: str) -> bool:
    """Return true if a path is hidden.

    A path is hidden if one of its parts is ``__MACOSX``, or begins with a dot and is neither ``.``
    nor ``..``.
    """
    return any(
        part == "__MACOSX" or (part.startswith(".") and part not in (".", ".."))
        for part in path.split("/")
    )
