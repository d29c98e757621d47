"""Count the files of a source that are neither images nor sidecars of images, by kind."""

from __future__ import annotations

from collections import Counter

HIDDEN = "hidden"
"""Files with a hidden path. See :func:`skytext.archive.suffixes.is_hidden`."""
LINK = "link"
"""Links with a name that has no suffix of an image or a sidecar."""
SPECIAL = "special"
"""Devices and pipes."""
SIDECAR = "sidecar"
"""Sidecars without an image."""
OTHER = "other"
"""Files without a suffix. If there are already many kinds, also files of each new kind."""

_MAX_KINDS = 32
_MAX_SUFFIX_CHARS = 10


def kind_of_file(name: str) -> str:
    """Return the kind of a file that is neither an image nor a sidecar.

    The kind is the lower-case suffix with its dot, such as ``.csv``. It is `OTHER` if the file has
    no suffix or a very long one.
    """
    _, dot, suffix = name.rpartition("/")[2].rpartition(".")
    return f".{suffix.lower()}" if dot and len(suffix) <= _MAX_SUFFIX_CHARS else OTHER


def count_kind(counts: Counter[str], kind: str, number: int = 1) -> None:
    """Count files of a kind. If there are already many kinds, count a new kind as `OTHER`."""
    counts[kind if kind in counts or len(counts) < _MAX_KINDS else OTHER] += number
