"""TIFF: the first page, checked segment by segment, as 8-bit RGB."""

from __future__ import annotations

import io
import itertools
import re
import struct
from typing import Any

import numpy as np
from PIL import Image

from skytext.pixels.headers import (
    JPEG_SIZES,
    jpeg_markers,
    webp_size,
)
from skytext.pixels.stretch import bands_to_rgb, inks_to_rgb

_NODATA_TAG = 42113

# Photometric interpretations: white is zero, black is zero, RGB, palette, mask, CMYK, YCbCr (as
# JPEG), colour filter array, raw. Not among them: the L*a*b* and logarithmic ones.
_TIFF_COLOURS = frozenset({0, 1, 2, 3, 4, 5, 6, 32803, 34892})

# How many pixels come out of a segment of these: no more than the page has room for (none, the fax
# codes, LZW, deflate, PackBits, LZMA, zstd), or what a header of the segment's own says.
_TIFF_BOUNDED = frozenset({1, 2, 3, 4, 5, 8, 32773, 32946, 34925, 34926, 50000, 50013})
_TIFF_JPEG = frozenset({6, 7, 33007, 34892})
_TIFF_JPEG_2000 = frozenset({33003, 33004, 33005, 34712})

_TIFF_LERC, _TIFF_PNG = 34887, 34933
_TIFF_WEBP = frozenset({34927, 50001})


def open_tiff(data: bytes) -> Any:
    """Open a TIFF with tifffile, which would look for a directory in whatever is there.

    Raises:
        EOFError: the first directory ends beyond the bytes.
        ValueError: the first directory lies in the header.
    """
    import tifffile

    order: Any = "little" if data[:2] == b"II" else "big"
    big = data[2:4] in {b"+\x00", b"\x00+"}
    first = int.from_bytes(data[8:16] if big else data[4:8], order)
    if len(data) < (16 if big else 8) or first + 2 > len(data):
        raise EOFError(f"the first directory lies at byte {first} of {len(data)}")
    if first < (16 if big else 8):
        raise ValueError(f"the first directory lies in the header, at byte {first}")
    num_tags = int.from_bytes(data[first : first + (8 if big else 2)], order)
    end = first + (8 + 20 * num_tags if big else 2 + 12 * num_tags)
    if end > len(data):
        raise EOFError(f"the first directory ends at byte {end} of {len(data)}")
    return tifffile.TiffFile(io.BytesIO(data))


def check_tiff_segments(page: Any, data: bytes) -> None:
    """Refuse a page whose pixels cannot all be there, or are more than it says.

    tifffile would fill with zeros what lies beyond the end, and decode a segment that is an image
    of its own (JPEG, WebP, …) whatever its size, before it compares that with the page's.
    """
    segments = list(zip(page.dataoffsets, page.databytecounts, strict=False))
    if not segments:
        raise EOFError("the page has no pixel data")
    end = max(sum(segment) for segment in segments)
    if end > len(data):
        raise EOFError(f"pixels lie up to byte {end} of {len(data)}")
    width = page.tilewidth if page.is_tiled else page.imagewidth
    height = page.tilelength if page.is_tiled else min(page.rowsperstrip, page.imagelength)
    if page.is_tiled and width * height > 4 * max(page.imagewidth * page.imagelength, 1 << 20):
        raise ValueError(f"tiles of {width} x {height} pixels for a much smaller page")
    if page.compression in _TIFF_BOUNDED:
        return
    if page.jpegheader is not None:
        raise NotImplementedError("the segments of NDPI are not taken")
    room = width * height * page.samplesperpixel
    heads = [page.jpegtables] if page.jpegtables else []
    for head in itertools.chain(heads, (data[start : start + n] for start, n in segments)):
        num_values = _segment_values(page.compression, head)
        if num_values > room:
            raise ValueError(
                f"a segment holds {num_values} values, {room} at the most belong there"
            )


def _segment_values(compression: int, segment: bytes) -> int:
    """How many values a segment with a header of its own decodes to, at the least."""
    if compression in _TIFF_JPEG:
        found = [place for marker, place in jpeg_markers(segment) if marker in JPEG_SIZES]
        sizes = [struct.unpack_from(">HHB", segment, place + 4) for place in found[:1]]
        return max((height * width * bands for height, width, bands in sizes), default=0)
    if not segment:
        return 0
    if compression == _TIFF_PNG:
        width, height = struct.unpack_from(">II", segment, 16)
        return int(width * height)
    if compression in _TIFF_WEBP:
        width, height = webp_size(segment)
        return width * height
    if compression in _TIFF_JPEG_2000:
        places = [match.end() for match in re.finditer(rb"\xff\x4f\xff\x51", segment)]
        corners = [struct.unpack_from(">IIII", segment, place + 4) for place in places]
        return max(((x - left) * (y - top) for x, y, left, top in corners), default=0)
    if compression == _TIFF_LERC and segment.startswith(b"Lerc2 "):
        version = int.from_bytes(segment[6:10], "little")
        shape = struct.unpack_from("<iii", segment, 14 if version >= 3 else 10)
        # One after another where there are several bands.
        height, width, bands = shape[0], shape[1], shape[2] if version >= 4 else 1
        return int(height * width * bands) * segment.count(b"Lerc2 ")
    raise NotImplementedError(f"segments of the compression {compression!r} are not taken")


def tiff_array_rgb(page: Any, max_side_px: int) -> Image.Image:
    """Decode a page of any depth, number of bands and layout."""
    from tifffile import PHOTOMETRIC

    axes, photometric = page.axes, page.photometric
    if axes not in {"YX", "YXS", "SYX"}:
        raise NotImplementedError(f"the axes {axes} are no flat image")
    if photometric not in _TIFF_COLOURS:
        raise NotImplementedError(f"the colour space {photometric!r} is not taken")
    depth = page.bitspersample
    if not isinstance(depth, int):
        raise NotImplementedError(f"bands of the different depths {depth} are not taken")
    array = page.asarray()
    if axes == "SYX":
        array = np.moveaxis(array, 0, -1)
    elif axes == "YX":
        array = array[..., np.newaxis]
    if photometric == PHOTOMETRIC.PALETTE and page.colormap is not None:
        colours = (page.colormap >> 8).astype(np.uint8).transpose()
        return Image.fromarray(colours[array[..., 0]])
    if photometric == PHOTOMETRIC.SEPARATED and array.shape[2] >= 4:
        return inks_to_rgb(array[..., :4])
    if page.sampleformat == 1 and depth < 8:
        array = (array.astype(np.uint16) * 255 // (2**depth - 1)).astype(np.uint8)
    return bands_to_rgb(
        array,
        max_side_px,
        plain=page.sampleformat == 1 and depth <= 8,
        nodata=_nodata(page),
        inverted=photometric == PHOTOMETRIC.MINISWHITE,
    )


def _nodata(page: Any) -> float | None:
    """The value that GDAL marks missing pixels with, from its TIFF tag."""
    tag = page.tags.get(_NODATA_TAG)
    try:
        return None if tag is None else float(str(tag.value).strip("\x00 "))
    except ValueError:
        return None
