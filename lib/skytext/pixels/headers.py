"""Read the format, size and structure of an encoded image before it is decoded."""

from __future__ import annotations

import re
from collections.abc import Iterator

from skytext.errors import Reason, SampleError, Stage

JPEG, PNG, WEBP, TIFF = "jpeg", "png", "webp", "tiff"
TAKEN = "supported formats are JPEG, PNG, WebP and TIFF"
_OTHER_FORMATS = (
    (0, b"GIF8", "GIF"),
    (0, b"\x00\x00\x00\x0cjP  ", "JPEG 2000"),
    (0, b"\xff\x4f\xff\x51", "JPEG 2000"),
    (4, b"ftypavif", "AVIF"),
    (4, b"ftyphei", "HEIF"),
    (4, b"ftypmif1", "HEIF"),
    (0, b"8BPS", "PSD"),
    (0, b"\x89HDF\r\n", "HDF5"),
    (0, b"CDF\x01", "NetCDF"),
    (0, b"CDF\x02", "NetCDF"),
    (0, b"NITF", "NITF"),
    (0, b"%PDF", "PDF"),
    (0, b"\x00\x00\x01\x00", "ICO"),
    (0, b"\xff\x0a", "JPEG XL"),
)

_BMP_HEADER_BYTES = frozenset({12, 40, 52, 56, 64, 108, 124})

# A JPEG usually has about ten scans. The decoder processes all pixels again for each scan, even if
# the scan is empty.
_MAX_JPEG_SCANS = 100

# Match only one 0xFF byte. With "+", the time would be quadratic in the number of fill bytes.
_JPEG_MARKER = re.compile(rb"\xff([^\x00\x01\xd0-\xd7\xff])")

# Pillow reads fill bytes and header parts one by one in Python. It needs about one second for a
# million fill bytes or parts. A normal file has only a few fill bytes. A part has at most 64 kB, so
# a large colour profile is divided into several parts.
_MAX_HEADER_FILL_BYTES = 1 << 16
_MAX_HEADER_PARTS = 10_000
JPEG_SIZES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_JPEG_TAKEN = frozenset({0xC0, 0xC1, 0xC2, 0xC9, 0xCA})

_JPEG_SCAN, _JPEG_START, _JPEG_END = 0xDA, 0xD8, 0xD9
_JPEG_LS = 0xF7


def sniff_format(data: bytes) -> str:
    """Detect the format from the first bytes. Return `JPEG`, `PNG`, `WEBP` or `TIFF`.

    Raises:
        SampleError: there are no bytes, the bytes are not an image, or the format is not supported.
    """
    if not data:
        raise pixel_error(Reason.EMPTY, "the image has 0 bytes")
    if data.startswith(b"\xff\xd8\xff"):
        return JPEG
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return PNG
    if data.startswith(b"RIFF") and data[8:12] == b"WEBP":
        return WEBP
    if data[:4] in {b"II*\x00", b"MM\x00*", b"II+\x00", b"MM\x00+"}:
        return TIFF
    for offset, magic, name in _OTHER_FORMATS:
        if data.startswith(magic, offset):
            raise pixel_error(Reason.UNSUPPORTED_IMAGE, f"{name} is not supported: {TAKEN}")
    if data.startswith(b"BM") and int.from_bytes(data[14:18], "little") in _BMP_HEADER_BYTES:
        raise pixel_error(Reason.UNSUPPORTED_IMAGE, f"BMP is not supported: {TAKEN}")
    raise pixel_error(
        Reason.NOT_AN_IMAGE,
        f"the file is not an image: its first bytes are {data[:8].hex(' ')} (hexadecimal)",
    )


def pixel_error(reason: Reason, detail: str) -> SampleError:
    """Return the error for an image that cannot be decoded."""
    return SampleError(Stage.DECODE, reason, detail)


def webp_size(data: bytes) -> tuple[int, int]:
    """Return the width and height in a WebP header (RFC 9649, sections 2.5 to 2.7).

    When Pillow opens a WebP, it allocates memory for the whole image. So the caller must check the
    size before Pillow opens the image.

    Raises:
        EOFError: the header is truncated.
    """
    if len(data) < 30:
        raise EOFError("the header is truncated")
    chunk = data[12:16]
    if chunk == b"VP8X":
        width, height = data[24:27], data[27:30]
        return int.from_bytes(width, "little") + 1, int.from_bytes(height, "little") + 1
    if chunk == b"VP8L":
        bits = int.from_bytes(data[21:25], "little")
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    width, height = data[26:28], data[28:30]
    return int.from_bytes(width, "little") & 0x3FFF, int.from_bytes(height, "little") & 0x3FFF


def jpeg_markers(data: bytes) -> Iterator[tuple[int, int]]:
    """Yield each marker of a JPEG with its position, up to the end mark of the image.

    The function finds markers with the same rules as libjpeg.
    """
    place = 0
    while (found := _JPEG_MARKER.search(data, place)) is not None:
        marker, place = found[1][0], found.end()
        yield marker, place - 1
        if marker == _JPEG_END:
            return
        if marker != _JPEG_START:
            place += int.from_bytes(data[place : place + 2], "big")


def check_header(data: bytes, image_format: str) -> None:
    """Refuse a JPEG or PNG if Pillow would need minutes to read its header.

    Raises:
        SampleError: the header has too many parts, or too many bytes that belong to no part.
    """
    fill_bytes, place = 0, 0
    parts = (_jpeg_header if image_format == JPEG else _png_header)(data)
    for num_parts, (start, end) in enumerate(parts, start=1):
        fill_bytes += start - place
        place = end
        if num_parts > _MAX_HEADER_PARTS:
            raise pixel_error(
                Reason.CORRUPT_IMAGE, f"the header has more than {_MAX_HEADER_PARTS} parts"
            )
        if fill_bytes > _MAX_HEADER_FILL_BYTES:
            raise pixel_error(
                Reason.CORRUPT_IMAGE,
                f"the header has {fill_bytes} bytes that belong to no part, more than the limit of "
                f"{_MAX_HEADER_FILL_BYTES}",
            )


def _jpeg_header(data: bytes) -> Iterator[tuple[int, int]]:
    """Yield the start and the end of each part in the header of a JPEG.

    The header ends at the first scan or at the end mark. If the file has neither, the last pair
    contains the length of the file twice.
    """
    for marker, place in jpeg_markers(data):
        size = int.from_bytes(data[place + 1 : place + 3], "big")
        if marker in (_JPEG_START, _JPEG_END):
            size = 0
        yield place - 1, place + 1 + size
        if marker in (_JPEG_SCAN, _JPEG_END):
            return
    yield len(data), len(data)


def _png_header(data: bytes) -> Iterator[tuple[int, int]]:
    """Yield the start and the end of each chunk of a PNG up to the first chunk with pixels."""
    yield 0, 8
    place = 8
    while place < len(data) and data[place + 4 : place + 8] != b"IDAT":
        end = place + 12 + int.from_bytes(data[place : place + 4], "big")
        yield place, end
        place = end


def check_jpeg_scans(data: bytes) -> None:
    """Refuse a JPEG with too many scans, because the decoder processes all pixels for each scan.

    Raises:
        ValueError: the JPEG has more scans than a normal file.
    """
    if data.count(b"\xff\xda") <= _MAX_JPEG_SCANS:
        return
    # This count also includes scans in thumbnails and other embedded data. Count only the scans of
    # the image.
    num_scans = sum(marker == _JPEG_SCAN for marker, _ in jpeg_markers(data))
    if num_scans > _MAX_JPEG_SCANS:
        raise ValueError(f"{num_scans} scans are more than the limit of {_MAX_JPEG_SCANS} scans")


def check_jpeg_end(data: bytes) -> None:
    """Refuse a JPEG without an end mark. Pixels are missing, and they would be decoded as grey.

    Raises:
        EOFError: the end mark is missing.
    """
    if data.endswith(b"\xff\xd9"):
        return
    if all(marker != _JPEG_END for marker, _ in jpeg_markers(data)):
        raise EOFError("the end mark is missing")


def jpeg_coding(data: bytes) -> str | None:
    """Return the name of the JPEG encoding if it is not supported, and None if it is supported."""
    for marker, place in jpeg_markers(data):
        if marker == _JPEG_LS:
            return "JPEG-LS"
        if marker in JPEG_SIZES:
            depth = data[place + 3] if place + 3 < len(data) else 8
            if marker not in _JPEG_TAKEN:
                return f"lossless or hierarchical JPEG (SOF{marker - 0xC0})"
            return f"JPEG with {depth} bits" if depth != 8 else None
    return None
