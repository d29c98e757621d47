"""File suffixes of shards, images and sidecars."""

from __future__ import annotations

SHARD_SUFFIXES = (".tar", ".parquet")
"""Lower-case suffixes, with their dot, of files that contain many images."""

IMAGE_SUFFIXES = frozenset({"jpg", "jpeg", "png", "webp", "tif", "tiff"})
"""Lower-case suffixes, without their dot, of image files and of image members of a tar."""

SIDECAR_SUFFIXES = frozenset({"json", "txt"})
"""Lower-case suffixes, without their dot, of sidecars."""


def is_hidden(path: str) -> bool:
    """Return whether a path is hidden.

    A path is hidden if one of its parts is ``__MACOSX``, or begins with a dot and is neither ``.``
    nor ``..``.
    """
    return any(
        part == "__MACOSX" or (part.startswith(".") and part not in (".", ".."))
        for part in path.split("/")
    )
