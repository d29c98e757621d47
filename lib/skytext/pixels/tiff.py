"""Read a TIFF. Find the page with the image, check its segments, and convert it to 8-bit RGB.

A segment is a strip or a tile of a page.
"""

from __future__ import annotations

import io
import itertools
import re
import struct
from decimal import Decimal, InvalidOperation
from typing import Any

import numpy as np
from PIL import Image

from skytext.errors import Reason
from skytext.pixels.headers import (
    JPEG_SIZES,
    jpeg_markers,
    pixel_error,
    webp_size,
)
from skytext.pixels.stretch import bands_to_rgb, inks_to_rgb

_REDUCED_OR_MASK = 1 | 4  # bits of the tag NewSubfileType: reduced copy, mask
_MAX_PAGES = 100
_BITS_PER_SAMPLE_TAG = 258
_PHOTOMETRIC_TAG = 262
_STRIP_OFFSETS_TAG = 273
_PLANAR_CONFIGURATION_TAG = 284
_NODATA_TAG = 42113

# A nodata value above this number is certainly not a measured value.
_BEYOND_MEASURE = 1e30
_ROUNDED_DIGITS = 6  # the format %g of printf writes this number of digits

# The supported photometric interpretations: zero is white, zero is black, RGB, palette, mask, CMYK,
# YCbCr (in JPEG segments), colour filter array, raw. L*a*b* and the logarithmic interpretations are
# not supported.
_TIFF_COLOURS = frozenset({0, 1, 2, 3, 4, 5, 6, 32803, 34892})

# Compressions in which a segment cannot decode to more pixels than the page has: none, fax codes,
# LZW, deflate, PackBits, LZMA, zstd. In the other supported compressions, each segment has its own
# header, and the header contains the size of the segment.
_TIFF_BOUNDED = frozenset({1, 2, 3, 4, 5, 8, 32773, 32946, 34925, 34926, 50000, 50013})
_TIFF_FAX = frozenset({2, 3, 4})
_TIFF_JPEG = frozenset({6, 7, 33007, 34892})
_TIFF_JPEG_2000 = frozenset({33003, 33004, 33005, 34712})

_TIFF_LERC, _TIFF_PNG = 34887, 34933
_TIFF_WEBP = frozenset({34927, 50001})


def open_tiff(data: bytes) -> Any:
    """Open a TIFF with tifffile. First check that the file contains the whole first directory.

    Raises:
        EOFError: the first directory is missing or truncated.
        ValueError: the first directory overlaps the header.
    """
    import tifffile

    order: Any = "little" if data[:2] == b"II" else "big"
    big = data[2:4] in {b"+\x00", b"\x00+"}
    first = int.from_bytes(data[8:16] if big else data[4:8], order)
    if len(data) < (16 if big else 8) or first + 2 > len(data):
        raise EOFError(
            f"the first directory should begin at byte {first}, but the file has {len(data)} bytes"
        )
    if first < (16 if big else 8):
        raise ValueError(f"the first directory begins at byte {first}, inside the file header")
    num_tags = int.from_bytes(data[first : first + (8 if big else 2)], order)
    end = first + (8 + 20 * num_tags if big else 2 + 12 * num_tags)
    if end > len(data):
        raise EOFError(
            f"the first directory should end at byte {end}, but the file has {len(data)} bytes"
        )
    return tifffile.TiffFile(io.BytesIO(data))


def image_page(tiff: Any) -> Any:
    """Return the first page that is neither a reduced copy nor a mask.

    If there is no such page, return the first page.
    """
    pages = itertools.islice(tiff.pages, _MAX_PAGES)
    whole = (page for page in pages if not int(page.subfiletype) & _REDUCED_OR_MASK)
    return next(whole, tiff.pages[0])


def check_tiff_segments(page: Any, data: bytes) -> None:
    """Refuse a page if pixels are missing, or if its segments have too many pixels.

    tifffile would replace missing pixels with zeros. A segment can be an encoded image (JPEG, WebP,
    …). In this case, tifffile decodes the segment before it checks the number of pixels. So a
    damaged segment could need too much memory.

    Raises:
        EOFError: pixels are missing.
        ValueError: a segment has too many pixels.
        NotImplementedError: the compression of the segments is not supported.
    """
    segments = list(zip(page.dataoffsets, page.databytecounts, strict=False))
    if not segments:
        raise EOFError("the page has no pixel data")
    end = max(sum(segment) for segment in segments)
    if end > len(data):
        raise EOFError(f"the pixels should end at byte {end}, but the file has {len(data)} bytes")
    width = page.tilewidth if page.is_tiled else page.imagewidth
    height = page.tilelength if page.is_tiled else min(page.rowsperstrip, page.imagelength)
    if page.is_tiled and width * height > 4 * max(page.imagewidth * page.imagelength, 1 << 20):
        raise ValueError(
            f"the tiles have {width} x {height} pixels, but the page has only "
            f"{page.imagewidth} x {page.imagelength} pixels"
        )
    if page.compression in _TIFF_BOUNDED:
        return
    if page.jpegheader is not None:
        raise NotImplementedError("the JPEG segments of NDPI files are not supported")
    room = width * height * page.samplesperpixel
    heads = [page.jpegtables] if page.jpegtables else []
    for head in itertools.chain(heads, (data[start : start + n] for start, n in segments)):
        num_values = _segment_values(page.compression, head)
        if num_values > room:
            raise ValueError(f"a segment has {num_values} values, but at most {room} are allowed")


def _segment_values(compression: int, segment: bytes) -> int:
    """Return the number of decoded values in a segment, as the header of the segment gives it."""
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
        # If there are several bands, they are stored one after the other, each with a header.
        height, width, bands = shape[0], shape[1], shape[2] if version >= 4 else 1
        return int(height * width * bands) * segment.count(b"Lerc2 ")
    raise NotImplementedError(f"segments of the compression {compression!r} are not supported")


def check_tiff_tags(page: Any) -> None:
    """Refuse a page if the default value of a missing TIFF tag would lead to wrong pixels.

    Raises:
        NotImplementedError: a tag is missing, and other facts show that its default value would be
            wrong. Or the tag BitsPerSample has more values than a pixel has samples.
    """
    num_samples, tags = page.samplesperpixel, page.tags
    depths = tags.get(_BITS_PER_SAMPLE_TAG)
    if depths is not None and depths.count > num_samples:
        raise NotImplementedError(
            f"BitsPerSample has {depths.count} values, but a pixel has {num_samples} samples"
        )
    num_bytes = (page.imagewidth * num_samples + 7) // 8 * page.imagelength
    # If the tag is missing, check that the compressed data are small enough for 1-bit pixels.
    # Compressed data can be larger than the pixels, so allow four times the size of the pixels.
    is_bilevel = page.compression in _TIFF_FAX or sum(page.databytecounts) <= 4 * num_bytes
    if depths is None and not is_bilevel:
        raise NotImplementedError(
            "the tag BitsPerSample is missing, and the pixels have more than 1 bit"
        )
    if num_samples == 1 or page.is_tiled or _PLANAR_CONFIGURATION_TAG in tags:
        return
    num_strips = -(-page.imagelength // min(page.rowsperstrip, page.imagelength))
    offsets = tags.get(_STRIP_OFFSETS_TAG)
    if offsets is not None and offsets.count == num_samples * num_strips:
        raise NotImplementedError(
            "the tag PlanarConfiguration is missing, and each band has its own strips"
        )


def colour_space(page: Any) -> int:
    """Return the photometric interpretation of a page.

    If the tag is missing, use the same rule as libtiff. The TIFF standard has no default for this
    tag. The default of tifffile (zero is white) would give an inverted image.
    """
    from tifffile import PHOTOMETRIC

    if _PHOTOMETRIC_TAG in page.tags:
        return int(page.photometric)
    if page.colormap is not None:
        return PHOTOMETRIC.PALETTE
    if page.samplesperpixel >= 3:
        return PHOTOMETRIC.RGB
    is_fax = page.compression in _TIFF_FAX
    return PHOTOMETRIC.MINISWHITE if is_fax else PHOTOMETRIC.MINISBLACK


def num_bands(page: Any) -> int | None:
    """Return the number of bands in a page. Return None if it has a palette or CMYK inks."""
    from tifffile import PHOTOMETRIC

    if colour_space(page) in {PHOTOMETRIC.PALETTE, PHOTOMETRIC.SEPARATED}:
        return None
    return int(page.samplesperpixel)


def tiff_array_rgb(
    page: Any, max_side_px: int, chosen: tuple[int, ...] | None = None
) -> Image.Image:
    """Decode a page to RGB. It can have any bit depth, number of bands and layout.

    Args:
        page: the page, from tifffile.
        max_side_px: see `skytext.pixels.stretch.bands_to_rgb`.
        chosen: see `skytext.pixels.stretch.bands_to_rgb`.

    Raises:
        SampleError: a chosen band does not exist.
        NotImplementedError: this kind of page is not supported.
    """
    from tifffile import PHOTOMETRIC

    check_tiff_tags(page)
    axes, photometric = page.axes, colour_space(page)
    page.photometric = photometric  # tifffile's decoders of JPEG segments use this attribute
    if axes not in {"YX", "YXS", "SYX"}:
        raise NotImplementedError(f"the page has the axes {axes}, so it is not a 2-D image")
    if photometric not in _TIFF_COLOURS:
        raise NotImplementedError(
            f"the photometric interpretation {photometric!r} is not supported"
        )
    depth = page.bitspersample
    if not isinstance(depth, int):
        raise NotImplementedError(f"bands with different bit depths {depth} are not supported")
    array = page.asarray()
    if axes == "SYX":
        array = np.moveaxis(array, 0, -1)
    elif axes == "YX":
        array = array[..., np.newaxis]
    if photometric == PHOTOMETRIC.PALETTE and page.colormap is not None:
        # The TIFF standard requires 16-bit colours in a palette, but some encoders write 8 bits.
        shift = 8 if page.colormap.max() > 255 else 0
        colours = (page.colormap >> shift).astype(np.uint8).transpose()
        return Image.fromarray(colours[array[..., 0]])
    if photometric == PHOTOMETRIC.SEPARATED and array.shape[2] >= 4:
        return inks_to_rgb(array[..., :4])
    if chosen is not None and max(chosen) > array.shape[2]:
        raise pixel_error(
            Reason.UNSUPPORTED_IMAGE,
            f"images.bands names band {max(chosen)}, but the image has only {array.shape[2]} bands",
        )
    if page.sampleformat == 1 and depth < 8:
        array = (array.astype(np.uint16) * 255 // (2**depth - 1)).astype(np.uint8)
    return bands_to_rgb(
        array,
        max_side_px,
        plain=page.sampleformat == 1 and depth <= 8,
        nodata=_nodata(page),
        inverted=photometric == PHOTOMETRIC.MINISWHITE,
        chosen=chosen,
    )


def _nodata(page: Any) -> tuple[float, float] | None:
    """Return the lowest and the highest value that mean a missing pixel, or None.

    The GDAL nodata tag contains one value as text. If it has a decimal point or an exponent, it may
    be rounded. In this case, the range contains all numbers that would be rounded to this value.
    For example, ``-3.40282e+38`` means the lowest float32. If the tag contains several numbers, the
    first number is used, as in GDAL.
    """
    tag = page.tags.get(_NODATA_TAG)
    value = tag.value if tag is not None else ""
    words = str(value[0] if isinstance(value, tuple) else value).replace("\x00", " ").split()
    try:
        number = Decimal(words[0])
        digits = number.as_tuple()
    except (IndexError, InvalidOperation):
        return None
    if not isinstance(digits.exponent, int):
        return None  # NaN and infinities always mean a missing pixel
    is_rounded = not words[0].lstrip("+-").isdigit() and (
        len(digits.digits) >= _ROUNDED_DIGITS or abs(number) >= _BEYOND_MEASURE
    )
    half = Decimal(5).scaleb(digits.exponent - 1) if is_rounded else Decimal(0)
    return float(number - half), float(number + half)
