"""Files of a source that are neither images nor their sidecars, counted by kind."""

from __future__ import annotations

from collections import Counter

HIDDEN = "hidden"
"""Files with a hidden part in their path, see :func:`skytext.archive.suffixes.is_hidden`."""
LINK = "link"
"""Links whose name is not that of an image or a sidecar."""
SPECIAL = "special"
"""Devices and pipes."""
SIDECAR = "sidecar"
"""Sidecars without an image."""
OTHER = "other"
"""Files without a suffix, and all further kinds once there are many."""

_MAX_KINDS = 32
_MAX_SUFFIX_CHARS = 10


def kind_of_file(name: str) -> str:
    """Return the kind of a file that is neither an image nor a sidecar: ``.csv``, or `OTHER`."""
    _, dot, suffix = name.rpartition("/")[2].rpartition(".")
    return f".{suffix.lower()}" if dot and len(suffix) <= _MAX_SUFFIX_CHARS else OTHER


def count_kind(counts: Counter[str], kind: str, number: int = 1) -> None:
    """Count files of a kind; if there are already many kinds, a new kind counts as `OTHER`."""
    counts[kind if kind in counts or len(counts) < _MAX_KINDS else OTHER] += number
