"""The chunks of a PNG: which of them its pixels need."""

from __future__ import annotations

_SIGNATURE_BYTES = 8
_LENGTH_AND_CRC_BYTES = 12
_TRANSPARENCY, _EXIF, _END = b"tRNS", b"eXIf", b"IEND"
_TEXTS = frozenset({b"tEXt", b"zTXt", b"iTXt"})

ORIENTATION_MARKS = (b"Raw profile type exif", b"Raw profile type APP1", b"tiff:Orientation")
"""What a text has in it that Pillow takes an orientation from."""


def needed_chunks(data: bytes) -> bytes:
    """Return a PNG without what its pixels do not depend on: texts, profiles, animation, ….

    Pillow refuses a whole image for a text or a colour profile above 1 MiB, for many texts, and for
    an ancillary chunk that is too short or whose checksum is wrong. Where nothing is left out, or
    from the first chunk on that is cut off, the bytes are those that were given.
    """
    kept, place, begin = [], _SIGNATURE_BYTES, 0
    while place + _LENGTH_AND_CRC_BYTES <= len(data):
        end = place + _LENGTH_AND_CRC_BYTES + int.from_bytes(data[place : place + 4], "big")
        kind = data[place + 4 : place + 8]
        if end > len(data) or kind == _END:
            break
        if not _is_needed(kind, data[place + 8 : end]):
            kept.append(data[begin:place])
            begin = end
        place = end
    return b"".join([*kept, data[begin:]]) if kept else data


def _is_needed(kind: bytes, content: bytes) -> bool:
    if kind[:1].isupper() or kind in (_TRANSPARENCY, _EXIF) or not kind.isalpha():
        return True  # a critical chunk, or no chunk at all
    return kind in _TEXTS and any(mark in content for mark in ORIENTATION_MARKS)
