"""Remove the chunks of a PNG that are not needed to decode its pixels."""

from __future__ import annotations

_SIGNATURE_BYTES = 8
_LENGTH_AND_CRC_BYTES = 12
_TRANSPARENCY, _EXIF, _END = b"tRNS", b"eXIf", b"IEND"
_TEXTS = frozenset({b"tEXt", b"zTXt", b"iTXt"})

ORIENTATION_MARKS = (b"Raw profile type exif", b"Raw profile type APP1", b"tiff:Orientation")
"""If a text chunk contains one of these strings, Pillow reads the orientation from the chunk."""


def needed_chunks(data: bytes) -> bytes:
    """Return a PNG without the chunks that are not needed to decode its pixels.

    The removed chunks contain texts, colour profiles, animations and so on. They are removed,
    because Pillow refuses the whole image in these cases: a text or a colour profile is larger than
    1 MiB, there are many texts, or an ancillary chunk is too short or has a wrong checksum. If a
    chunk is truncated, this chunk and all bytes after it are kept.
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
        return True  # a critical chunk, or bytes that are not a valid chunk
    return kind in _TEXTS and any(mark in content for mark in ORIENTATION_MARKS)
