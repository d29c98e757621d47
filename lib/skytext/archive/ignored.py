"""Count the ignored files in a source by kind.

A file is ignored if it is neither an image nor the sidecar of an image.
"""

from __future__ import annotations

from collections import Counter

HIDDEN = "hidden"
"""Files with a hidden path. See :func:`skytext.archive.suffixes.is_hidden`."""
LINK = "link"
"""Links whose name does not have the suffix of an image or a sidecar."""
SPECIAL = "special"
"""Devices and pipes."""
SIDECAR = "sidecar"
"""Sidecars without an image."""
OTHER = "other"
"""Files without a suffix. When many kinds are already counted, also files of any other kind."""

_MAX_KINDS = 32
_MAX_SUFFIX_CHARS = 10


def kind_of_file(name: str) -> str:
    """Return the kind of a file that is neither an image nor a sidecar.

    The kind is the suffix in lower case with its dot, such as ``.csv``. If the file has no suffix,
    or if the suffix is very long, the kind is `OTHER`.
    """
    _, dot, suffix = name.rpartition("/")[2].rpartition(".")
    return f".{suffix.lower()}" if dot and len(suffix) <= _MAX_SUFFIX_CHARS else OTHER


def count_kind(counts: Counter[str], kind: str, number: int = 1) -> None:
    """Count files of a kind. If many kinds are already counted, count a new kind as `OTHER`."""
    counts[kind if kind in counts or len(counts) < _MAX_KINDS else OTHER] += number
