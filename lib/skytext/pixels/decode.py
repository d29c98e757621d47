"""Decode, check and normalise the pixels of one encoded image.

Images travel between the stages as encoded bytes, never as arrays. :func:`normalise` decodes an
image once, in full, and gives bytes that any later stage decodes to the same upright 8-bit RGB
pixels: the original bytes where they already are that, else a PNG.

What the pixels of the many kinds of remote-sensing image become:

* **Grey, palette, CMYK, 1 bit**: RGB.
* **Alpha** of PNG and WebP is composited on black. In a TIFF a fourth band is dropped: there it
  is near infrared or a mask as often as it is opacity, whatever the header says.
* **16-bit, float and other deep bands**: each band is stretched linearly from its 2nd to its 98th
  percentile to 0 … 255. NaN, infinities and the GDAL nodata value take no part and become 0. A
  constant band becomes 0. The magnitude of complex (radar) values is what is stretched.
* **More than three bands**: the first three. **Two bands**: the first, as grey.
* **Several pages or frames**: the first.
* **Orientation** (EXIF) is applied. Colour profiles are not.
"""

from __future__ import annotations

import hashlib
import io
import itertools
import logging
import re
import struct
import threading
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageChops, ImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.TiffImagePlugin import TiffImageFile
from PIL.WebPImagePlugin import WebPImageFile

from skytext.errors import Reason, SampleError, Stage

PIXELS_VERSION = 1
"""Part of the caption fingerprint: raise it with any change to the pixels this module gives."""

_JPEG, _PNG, _WEBP, _TIFF = "jpeg", "png", "webp", "tiff"

# The plugins' own classes, not Image.open: that one compares with Pillow's global pixel limit,
# which is not ours to change, and takes a JPEG with a second picture for another format (MPO).
_PLUGINS: dict[str, type[ImageFile.ImageFile]] = {
    _JPEG: JpegImageFile,
    _PNG: PngImageFile,
    _WEBP: WebPImageFile,
    _TIFF: TiffImageFile,
}

# Decoders raise nearly anything at damaged bytes; these are the errors that Pillow, tifffile
# (ValueError), imagecodecs (RuntimeError) and zlib are known to raise. A failed allocation is
# among them: the header may promise more than there is memory.
_DECODER_ERRORS = (
    OSError,
    SyntaxError,
    ValueError,
    ArithmeticError,
    LookupError,
    TypeError,
    AttributeError,
    RuntimeError,
    EOFError,
    MemoryError,
    BufferError,
    struct.error,
    zlib.error,
    Image.DecompressionBombError,
)

_TAKEN = "JPEG, PNG, WebP and TIFF are taken"
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

_ORIENTATION_TAG = 0x0112
_NODATA_TAG = 42113
_TRANSPOSE = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_TURNED = frozenset({5, 6, 7, 8})

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

# Writers make about ten. Each is one more pass over all pixels, for a hundred bytes if it is empty.
_MAX_JPEG_SCANS = 100
# One 0xFF, not all that may fill up the space before: "+" takes the square of a run's length.
_JPEG_MARKER = re.compile(rb"\xff([^\x00\x01\xd0-\xd7\xff])")
# Pillow reads what fills a header byte by byte, and its parts one by one, in Python: a second for
# each million. Writers fill with a few bytes; a part holds 64 kB, and colour profiles take some.
_MAX_HEADER_FILL_BYTES = 1 << 16
_MAX_HEADER_PARTS = 10_000
_JPEG_SIZES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_JPEG_TAKEN = frozenset({0xC0, 0xC1, 0xC2, 0xC9, 0xCA})
_JPEG_LS = 0xF7
_JPEG_SCAN, _JPEG_START, _JPEG_END = 0xDA, 0xD8, 0xD9

_STRETCH_PERCENTILES = (2.0, 98.0)
_MAX_PERCENTILE_SAMPLES = 1 << 20
_ROWS_AT_ONCE = 512
# Room for three 16-bit bands and a mask. A cube of hundreds of bands has few pixels and many bytes.
_MAX_BYTES_PER_PIXEL = 8

# warnings.catch_warnings is not safe to use from several threads at once in Python 3.11.
_quiet_lock = threading.RLock()


@dataclass(frozen=True)
class ImageLimits:
    """Which images are taken, and how large they may go on.

    Attributes:
        max_pixels: more pixels (width times height) than this are refused by their header,
            before anything is decoded. The default is Pillow's.
        min_side_px: an image with a shorter side is refused.
        max_side_px: an image with a longer side is scaled down to it.
    """

    max_pixels: int = 178_956_970
    min_side_px: int = 8
    max_side_px: int = 2048


@dataclass(frozen=True)
class ImageInfo:
    """What an encoded image is.

    Attributes:
        width_px: width upright, in the original resolution.
        height_px: height upright, in the original resolution.
        format: ``jpeg``, ``png``, ``webp`` or ``tiff``.
        content_sha256: hex digest of the original bytes.
    """

    width_px: int
    height_px: int
    format: str
    content_sha256: str


@dataclass(frozen=True)
class NormalisedImage:
    """An image as the captioner takes it.

    Attributes:
        data: JPEG, PNG or WebP bytes that decode to upright 8-bit RGB.
        info: what the original was.
    """

    data: bytes
    info: ImageInfo


def inspect_image(data: bytes, limits: ImageLimits | None = None) -> ImageInfo:
    """Read the header of an encoded image and check it; decodes no pixels.

    Raises:
        SampleError: of stage decode: no image, not a format that is taken, too large, too small.
    """
    with _boundary(data) as image_format, _Source(data, image_format) as source:
        return source.info(limits or ImageLimits())


def normalise(data: bytes, limits: ImageLimits | None = None) -> NormalisedImage:
    """Decode an image in full and give bytes that decode to upright 8-bit RGB.

    The bytes are the original ones where the image is an 8-bit RGB JPEG, PNG or WebP without
    rotation or transparency whose longest side fits; else a PNG, losslessly made of the converted
    pixels, scaled down (Lanczos) where the longest side was longer than ``max_side_px``.

    Raises:
        SampleError: of stage decode.
    """
    limits = limits or ImageLimits()
    with _boundary(data) as image_format, _Source(data, image_format) as source:
        info = source.info(limits)
        rgb, untouched = source.rgb(limits.max_side_px)
        size = _fit(rgb.size, limits.max_side_px)
        if size != rgb.size:
            rgb = rgb.resize(size, Image.Resampling.LANCZOS)
            untouched = False
        return NormalisedImage(data if untouched else _to_png(rgb), info)


def decode_rgb(data: bytes) -> Image.Image:
    """Decode bytes that :func:`normalise` gave into an RGB image.

    Raises:
        SampleError: of stage decode.
    """
    image_format = _sniff(data)
    try:
        # The header alone under the lock: several threads may prepare images for one engine.
        with _quiet():
            image = _PLUGINS[image_format](io.BytesIO(data))
        return image.convert("RGB")
    except _DECODER_ERRORS as err:
        raise _failure(data, image_format, err) from err


class _Source:
    """One encoded image, its header read."""

    def __init__(self, data: bytes, image_format: str) -> None:
        self._data = data
        self._format = image_format
        self._tiff: Any = None
        self._image: ImageFile.ImageFile | None = None
        if image_format == _TIFF:
            self._tiff = _open_tiff(data)
            page = self._tiff.pages[0]
            self._size = (int(page.imagewidth), int(page.imagelength))
            tag = page.tags.get(_ORIENTATION_TAG)
            self._orientation = int(tag.value) if tag is not None else 1
        elif image_format == _WEBP:
            self._size = _webp_size(data)
            self._orientation = 1  # its decoder allocates the canvas, so size goes first
        else:
            _check_header(data, image_format)
            self._image = _PLUGINS[image_format](io.BytesIO(data))
            self._size = self._image.size
            self._orientation = _orientation(self._image, data)

    def __enter__(self) -> _Source:
        return self

    def __exit__(self, *_: object) -> None:
        if self._tiff is not None:
            self._tiff.close()

    def info(self, limits: ImageLimits) -> ImageInfo:
        """Check the size and say what the image is."""
        width, height = self._size
        if width * height > limits.max_pixels:
            raise _error(
                Reason.TOO_MANY_PIXELS,
                f"{width} x {height} pixels are more than the limit of {limits.max_pixels}",
            )
        if min(width, height) < limits.min_side_px:
            raise _error(
                Reason.TOO_SMALL,
                f"{width} x {height} pixels: the shorter side is below {limits.min_side_px}",
            )
        if self._tiff is not None:
            num_bytes = int(self._tiff.pages[0].nbytes)
            if num_bytes > limits.max_pixels * _MAX_BYTES_PER_PIXEL:
                raise _error(Reason.TOO_MANY_PIXELS, f"decodes to {num_bytes} bytes of bands")
        if self._format == _WEBP and self._image is None:
            self._image = WebPImageFile(io.BytesIO(self._data))
            self._orientation = _orientation(self._image, self._data)
        if self._orientation in _TURNED:
            width, height = height, width
        digest = hashlib.sha256(self._data).hexdigest()
        return ImageInfo(width, height, self._format, digest)

    def rgb(self, max_side_px: int) -> tuple[Image.Image, bool]:
        """Decode to upright RGB; the second value says whether the bytes are that already.

        The image may come reduced, but not below ``max_side_px``.
        """
        if self._tiff is not None:
            return self._tiff_rgb(max_side_px), False
        image = cast(ImageFile.ImageFile, self._image)
        if self._format == _PNG and self._data[24:25] == b"\x10":
            image.load()  # checks every chunk, which the other decoder leaves to stderr
            upright = _turn(_deep_png_rgb(self._data, max_side_px), self._orientation)
            return upright, False
        if self._format == _JPEG:
            _check_jpeg_scans(self._data)
        if self._format == _JPEG and max(image.size) > max_side_px:
            # The DCT scales by 2, 4 or 8 for free; stay at twice the target, for Lanczos.
            width, height = _fit(image.size, max_side_px)
            image.draft(None, (2 * width, 2 * height))
        image.load()
        if self._format == _JPEG:
            _check_jpeg_end(self._data)
        if image.mode == "CMYK" and "adobe" not in image.info:
            # Pillow inverts every CMYK JPEG, as Adobe's are; one without Adobe's marker is not.
            image = cast(ImageFile.ImageFile, ImageChops.invert(image))
        plain = image.mode == "RGB" and "transparency" not in image.info
        upright = _turn(_flatten(image), self._orientation)
        return upright, plain and self._orientation not in _TRANSPOSE

    def _tiff_rgb(self, max_side_px: int) -> Image.Image:
        from tifffile import COMPRESSION, PHOTOMETRIC

        page = self._tiff.pages[0]
        _check_tiff_segments(page, self._data)
        jpeg = page.compression == COMPRESSION.JPEG
        if page.photometric == PHOTOMETRIC.YCBCR and page.bitspersample == 8 and not jpeg:
            # The one kind that tifffile does not convert. Not for the others: libtiff under
            # Pillow writes its complaints to the process's stderr.
            # Pillow applies the orientation of a TIFF itself.
            return TiffImageFile(io.BytesIO(self._data)).convert("RGB")
        return _turn(_tiff_array_rgb(page, max_side_px), self._orientation)


# The boundary: any error of a decoder becomes a SampleError here


@contextmanager
def _boundary(data: bytes) -> Iterator[str]:
    """Sniff the format; silence its decoders and turn their errors into a SampleError."""
    image_format = _sniff(data)
    with _quiet():
        try:
            yield image_format
        except _DECODER_ERRORS as err:
            raise _failure(data, image_format, err) from err


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep what decoders find odd in a header to themselves: thousands of lines, nobody asked."""
    logger = logging.getLogger("tifffile")
    with _quiet_lock, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        disabled, logger.disabled = logger.disabled, True
        try:
            yield
        finally:
            logger.disabled = disabled


def _sniff(data: bytes) -> str:
    if not data:
        raise _error(Reason.EMPTY, "the image has 0 bytes")
    if data.startswith(b"\xff\xd8\xff"):
        return _JPEG
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return _PNG
    if data.startswith(b"RIFF") and data[8:12] == b"WEBP":
        return _WEBP
    if data[:4] in {b"II*\x00", b"MM\x00*", b"II+\x00", b"MM\x00+"}:
        return _TIFF
    for offset, magic, name in _OTHER_FORMATS:
        if data.startswith(magic, offset):
            raise _error(Reason.UNSUPPORTED_IMAGE, f"{name} is not taken: {_TAKEN}")
    if data.startswith(b"BM") and int.from_bytes(data[14:18], "little") in _BMP_HEADER_BYTES:
        raise _error(Reason.UNSUPPORTED_IMAGE, f"BMP is not taken: {_TAKEN}")
    raise _error(Reason.NOT_AN_IMAGE, f"no image begins with the bytes {data[:8].hex(' ')}")


def _error(reason: Reason, detail: str) -> SampleError:
    return SampleError(Stage.DECODE, reason, detail)


def _failure(data: bytes, image_format: str, err: BaseException) -> SampleError:
    """Tell a truncated image from a damaged one, by the error or by the format's own end mark."""
    if isinstance(err, MemoryError):
        return _error(Reason.TOO_MANY_PIXELS, f"{image_format}: does not fit into memory")
    if isinstance(err, NotImplementedError):
        return _error(Reason.UNSUPPORTED_IMAGE, f"{image_format}: {err}")
    if image_format == _JPEG and (coding := _jpeg_coding(data)) is not None:
        return _error(Reason.UNSUPPORTED_IMAGE, f"{coding} is not taken: {_TAKEN}")
    cut = isinstance(err, EOFError) or "truncated" in str(err).lower()
    if image_format == _PNG:
        cut = cut or b"IEND" not in data
    elif image_format == _JPEG:
        cut = cut or b"\xff\xd9" not in data
    elif image_format == _WEBP:
        cut = cut or int.from_bytes(data[4:8], "little") + 8 > len(data)
    reason = Reason.TRUNCATED_IMAGE if cut else Reason.CORRUPT_IMAGE
    return _error(reason, f"{image_format}: {type(err).__name__}: {err}")


# JPEG, PNG, WebP


def _webp_size(data: bytes) -> tuple[int, int]:
    """Width and height in a WebP header (RFC 9649, section 2.5 to 2.7).

    Pillow allocates the canvas while it reads the header, which is too late to refuse it.
    """
    if len(data) < 30:
        raise EOFError("the header is cut off")
    chunk = data[12:16]
    if chunk == b"VP8X":
        width, height = data[24:27], data[27:30]
        return int.from_bytes(width, "little") + 1, int.from_bytes(height, "little") + 1
    if chunk == b"VP8L":
        bits = int.from_bytes(data[21:25], "little")
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    width, height = data[26:28], data[28:30]
    return int.from_bytes(width, "little") & 0x3FFF, int.from_bytes(height, "little") & 0x3FFF


def _jpeg_markers(data: bytes) -> Iterator[tuple[int, int]]:
    """The markers of a JPEG up to its end, each with its place, as libjpeg finds them."""
    place = 0
    while (found := _JPEG_MARKER.search(data, place)) is not None:
        marker, place = found[1][0], found.end()
        yield marker, place - 1
        if marker == _JPEG_END:
            return
        if marker != _JPEG_START:
            place += int.from_bytes(data[place : place + 2], "big")


def _check_header(data: bytes, image_format: str) -> None:
    """Refuse a JPEG or PNG whose header is there to be read for minutes."""
    fill_bytes, place = 0, 0
    parts = (_jpeg_header if image_format == _JPEG else _png_header)(data)
    for num_parts, (start, end) in enumerate(parts, start=1):
        fill_bytes += start - place
        place = end
        if num_parts > _MAX_HEADER_PARTS:
            raise _error(Reason.CORRUPT_IMAGE, f"its header has over {_MAX_HEADER_PARTS} parts")
        if fill_bytes > _MAX_HEADER_FILL_BYTES:
            raise _error(
                Reason.CORRUPT_IMAGE, f"{fill_bytes} bytes of its header belong to no part of it"
            )


def _jpeg_header(data: bytes) -> Iterator[tuple[int, int]]:
    """Where each part of a JPEG's header begins and ends, and what follows, as one of them."""
    for marker, place in _jpeg_markers(data):
        size = int.from_bytes(data[place + 1 : place + 3], "big")
        if marker in (_JPEG_START, _JPEG_END):
            size = 0
        yield place - 1, place + 1 + size
        if marker in (_JPEG_SCAN, _JPEG_END):
            return
    yield len(data), len(data)


def _png_header(data: bytes) -> Iterator[tuple[int, int]]:
    """Where each chunk of a PNG before its pixels begins and ends."""
    yield 0, 8
    place = 8
    while place < len(data) and data[place + 4 : place + 8] != b"IDAT":
        end = place + 12 + int.from_bytes(data[place : place + 4], "big")
        yield place, end
        place = end


def _check_jpeg_scans(data: bytes) -> None:
    if data.count(b"\xff\xda") <= _MAX_JPEG_SCANS:
        return
    # Counted again, without those of thumbnails and of what else lies beside the image.
    num_scans = sum(marker == _JPEG_SCAN for marker, _ in _jpeg_markers(data))
    if num_scans > _MAX_JPEG_SCANS:
        raise ValueError(f"{num_scans} scans are more than the limit of {_MAX_JPEG_SCANS}")


def _check_jpeg_end(data: bytes) -> None:
    """Refuse a JPEG without its end: where zeros stand for it, they were decoded as grey."""
    if data.endswith(b"\xff\xd9"):
        return
    if all(marker != _JPEG_END for marker, _ in _jpeg_markers(data)):
        raise EOFError("there is no end mark")


def _jpeg_coding(data: bytes) -> str | None:
    """The name of a coding that no decoder here takes; None where it is a common one."""
    for marker, place in _jpeg_markers(data):
        if marker == _JPEG_LS:
            return "JPEG-LS"
        if marker in _JPEG_SIZES:
            depth = data[place + 3] if place + 3 < len(data) else 8
            if marker not in _JPEG_TAKEN:
                return f"lossless or hierarchical JPEG (SOF{marker - 0xC0})"
            return f"JPEG of {depth} bits" if depth != 8 else None
    return None


def _orientation(image: ImageFile.ImageFile, data: bytes) -> int:
    """The EXIF orientation, 1 to 8; 1 where there is none or the EXIF block is damaged."""
    # Pillow decodes a whole PNG to look for a block behind the pixels: only where there is one.
    marks = (b"eXIf", b"Raw profile type exif", b"Raw profile type APP1", b"tiff:Orientation")
    if isinstance(image, PngImageFile) and not any(mark in data for mark in marks):
        return 1
    try:
        value = image.getexif().get(_ORIENTATION_TAG, 1)
    except _DECODER_ERRORS:
        return 1
    return value if isinstance(value, int) else 1


def _flatten(image: Image.Image) -> Image.Image:
    """Convert to RGB, transparency composited on black."""
    transparent = image.mode in {"RGBA", "RGBa", "LA", "La", "PA"} or "transparency" in image.info
    if not transparent:
        return image.convert("RGB")
    result = Image.new("RGB", image.size)
    for top in range(0, image.height, _ROWS_AT_ONCE):
        # A large image would be held four times over.
        box = (0, top, image.width, min(top + _ROWS_AT_ONCE, image.height))
        rgba = image.crop(box).convert("RGBA")
        black = Image.new("RGBA", rgba.size, "black")
        result.paste(Image.alpha_composite(black, rgba).convert("RGB"), box)
    return result


def _turn(image: Image.Image, orientation: int) -> Image.Image:
    method = _TRANSPOSE.get(orientation)
    return image if method is None else image.transpose(method)


def _fit(size: tuple[int, int], max_side_px: int) -> tuple[int, int]:
    """Scale a size down until its longest side fits; no side below 1."""
    longest = max(size)
    if longest <= max_side_px:
        return size
    width, height = (max(1, round(side * max_side_px / longest)) for side in size)
    return width, height


def _to_png(rgb: Image.Image) -> bytes:
    # Pillow would carry a colour profile over, which need not be one for RGB.
    rgb.info = {}
    buffer = io.BytesIO()
    rgb.save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()


def _deep_png_rgb(data: bytes, max_side_px: int) -> Image.Image:
    """Decode a 16-bit PNG, of which Pillow would keep the upper byte alone."""
    import imagecodecs

    array = imagecodecs.png_decode(data)
    if array.ndim == 2:
        array = array[..., np.newaxis]
    valid = None
    if array.shape[2] in (2, 4):
        array, valid = array[..., :-1], array[..., -1] > 0
    return _bands_to_rgb(array, max_side_px, valid=valid)


# TIFF


def _open_tiff(data: bytes) -> Any:
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


def _check_tiff_segments(page: Any, data: bytes) -> None:
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
        found = [place for marker, place in _jpeg_markers(segment) if marker in _JPEG_SIZES]
        sizes = [struct.unpack_from(">HHB", segment, place + 4) for place in found[:1]]
        return max((height * width * bands for height, width, bands in sizes), default=0)
    if not segment:
        return 0
    if compression == _TIFF_PNG:
        width, height = struct.unpack_from(">II", segment, 16)
        return int(width * height)
    if compression in _TIFF_WEBP:
        width, height = _webp_size(segment)
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


def _tiff_array_rgb(page: Any, max_side_px: int) -> Image.Image:
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
        return _inks_to_rgb(array[..., :4])
    if page.sampleformat == 1 and depth < 8:
        array = (array.astype(np.uint16) * 255 // (2**depth - 1)).astype(np.uint8)
    return _bands_to_rgb(
        array,
        max_side_px,
        plain=page.sampleformat == 1 and depth <= 8,
        nodata=_nodata(page),
        inverted=photometric == PHOTOMETRIC.MINISWHITE,
    )


def _inks_to_rgb(inks: npt.NDArray[Any]) -> Image.Image:
    """Convert CMYK of any depth; row by row, as the copies of a large image would be too many."""
    height, width = inks.shape[:2]
    result = Image.new("RGB", (width, height))
    for top in range(0, height, _ROWS_AT_ONCE):
        rows = inks[top : top + _ROWS_AT_ONCE] >> (8 * (inks.dtype.itemsize - 1))
        result.paste(Image.fromarray(rows.astype(np.uint8), "CMYK").convert("RGB"), (0, top))
    return result


def _nodata(page: Any) -> float | None:
    """The value that GDAL marks missing pixels with, from its TIFF tag."""
    tag = page.tags.get(_NODATA_TAG)
    try:
        return None if tag is None else float(str(tag.value).strip("\x00 "))
    except ValueError:
        return None


def _bands_to_rgb(
    array: npt.NDArray[Any],
    max_side_px: int,
    *,
    plain: bool = False,
    nodata: float | None = None,
    valid: npt.NDArray[np.bool_] | None = None,
    inverted: bool = False,
) -> Image.Image:
    """Make an RGB image of an array of bands.

    Args:
        array: (height, width, bands) of any numeric dtype.
        max_side_px: pixels may be left out as long as the longest side stays twice this.
        plain: the values are 8-bit pixels, to be taken as they are.
        nodata: the value of missing pixels.
        valid: (height, width), False where a pixel is missing.
        inverted: white is 0.
    """
    step = max(1, max(array.shape[:2]) // (2 * max_side_px))
    array = array[::step, ::step]
    if valid is not None:
        valid = valid[::step, ::step]
    bands = [array[..., index] for index in range(3 if array.shape[2] >= 3 else 1)]
    if plain:
        done = [255 - band if inverted else band for band in bands]
    else:
        done = [_stretch(band, nodata, valid, inverted) for band in bands]
    return Image.fromarray(np.stack(done if len(done) == 3 else done * 3, axis=-1))


def _stretch(
    band: npt.NDArray[Any],
    nodata: float | None,
    valid: npt.NDArray[np.bool_] | None,
    inverted: bool,
) -> npt.NDArray[np.uint8]:
    """Stretch the 2nd … 98th percentile of a band's valid values to 0 … 255."""
    values = np.abs(band) if band.dtype.kind == "c" else band
    values = values.astype(np.float64 if values.dtype.itemsize > 4 else np.float32)
    use = np.isfinite(values)
    if nodata is not None:
        use &= values != values.dtype.type(nodata)
    if valid is not None:
        use &= valid
    known = values[use]
    if known.size == 0:
        return np.zeros(band.shape, np.uint8)
    # An evenly spread million gives the percentiles well enough, in bounded memory.
    some = known[:: max(1, known.size // _MAX_PERCENTILE_SAMPLES)].astype(np.float64)
    low, high = np.percentile(some, _STRETCH_PERCENTILES)
    if high <= low:
        low, high = float(known.min()), float(known.max())
    if high <= low:
        return np.zeros(band.shape, np.uint8)
    result = np.empty(band.shape, np.uint8)
    for top in range(0, band.shape[0], _ROWS_AT_ONCE):
        rows = slice(top, top + _ROWS_AT_ONCE)
        # Clipped before it is subtracted: the distance of two large floats may overflow.
        scaled = (np.clip(values[rows], low, high) - low) / (high - low) * 255
        scaled = 255 - scaled if inverted else scaled
        result[rows] = np.where(use[rows], np.rint(scaled), 0).astype(np.uint8)
    return result
