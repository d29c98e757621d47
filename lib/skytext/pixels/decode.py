"""Decode, check and normalise the pixels of one encoded image.

Images travel between the stages as encoded bytes, never as arrays. :func:`normalise` decodes an
image once, in full, and gives bytes that any later stage decodes to the same upright 8-bit RGB
pixels: the original bytes where they already are that, else a PNG.

What the pixels of the many kinds of remote-sensing image become:

* **Grey, palette, CMYK, 1 bit**: RGB.
* **Alpha** of PNG and WebP is composited on black. In a TIFF a fourth band is dropped: there it
  is near infrared or a mask as often as it is opacity, whatever the header says.
* **16-bit, float and other deep bands**: each band is stretched linearly from its 2nd to its 98th
  percentile to 0 … 255. NaN, infinities, a float type's largest number and the GDAL nodata value
  take no part and become 0. A constant band becomes 0. The magnitude of complex (radar) values is
  what is stretched.
* **More than three bands**: the first three, or those of ``images.bands``. **Two bands**: the
  first, as grey.
* **TIFF tags that are missing**: without a photometric interpretation three samples and more are
  RGB and fewer are grey, 0 black (fax codes: white); without a sample format, numbers are unsigned.
  A page that a default would scramble is refused.
* **Several pages or frames**: the first; of a TIFF, the first that is no reduced copy (an
  overview, a thumbnail) and no mask.
* **Orientation** (EXIF) is applied. Colour profiles are not.
"""

from __future__ import annotations

import hashlib
import io
import logging
import struct
import threading
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
from PIL import Image, ImageChops, ImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.TiffImagePlugin import TiffImageFile
from PIL.WebPImagePlugin import WebPImageFile

from skytext.config.pixels import ImageConfig
from skytext.errors import Reason, SampleError
from skytext.pixels.headers import (
    JPEG,
    PNG,
    TAKEN,
    TIFF,
    WEBP,
    check_header,
    check_jpeg_end,
    check_jpeg_scans,
    jpeg_coding,
    pixel_error,
    sniff_format,
    webp_size,
)
from skytext.pixels.png_chunks import ORIENTATION_MARKS, needed_chunks
from skytext.pixels.stretch import ROWS_AT_ONCE, bands_to_rgb
from skytext.pixels.tiff import (
    check_tiff_segments,
    image_page,
    num_bands,
    open_tiff,
    tiff_array_rgb,
)

PIXELS_VERSION = 1
"""Part of the caption fingerprint: raise it with a change to the pixels of ordinary images.

It is one number for all formats: raised for a rare kind of TIFF, it would make every image stale.
"""


# The plugins' own classes, not Image.open: that one compares with Pillow's global pixel limit,
# which is not ours to change, and takes a JPEG with a second picture for another format (MPO).
_PLUGINS: dict[str, type[ImageFile.ImageFile]] = {
    JPEG: JpegImageFile,
    PNG: PngImageFile,
    WEBP: WebPImageFile,
    TIFF: TiffImageFile,
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


_ORIENTATION_TAG = 0x0112
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
        bands: numbers, from 1, of the one or three bands of a TIFF to show; None: the first three.
    """

    max_pixels: int = 178_956_970
    min_side_px: int = 8
    max_side_px: int = 2048
    bands: tuple[int, ...] | None = None

    @classmethod
    def of(cls, images: ImageConfig) -> ImageLimits:
        """Return the limits that the settings say."""
        return cls(images.max_pixels, images.min_side_px, images.max_side_px, images.bands)


@dataclass(frozen=True)
class ImageInfo:
    """What an encoded image is.

    Attributes:
        width_px: width upright, in the original resolution.
        height_px: height upright, in the original resolution.
        format: ``jpeg``, ``png``, ``webp`` or ``tiff``.
        content_sha256: hex digest of the original bytes.
        num_bands: of a TIFF: the bands there are to choose from; None for a palette or inks, and
            for other formats.
    """

    width_px: int
    height_px: int
    format: str
    content_sha256: str
    num_bands: int | None = None


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
        rgb, plain = source.rgb(limits.max_side_px, limits.bands)
        size = _fit(rgb.size, limits)
        if size != rgb.size:
            rgb = rgb.resize(size, Image.Resampling.LANCZOS)
            plain = None
        return NormalisedImage(_to_png(rgb) if plain is None else plain, info)


def decode_rgb(data: bytes) -> Image.Image:
    """Decode bytes that :func:`normalise` gave into an RGB image.

    Raises:
        SampleError: of stage decode.
    """
    image_format = sniff_format(data)
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
        self._digest = hashlib.sha256(data).hexdigest()
        self._data = data
        self._format = image_format
        self._tiff: Any = None
        self._page: Any = None
        self._image: ImageFile.ImageFile | None = None
        if image_format == TIFF:
            self._tiff = open_tiff(data)
            page = self._page = image_page(self._tiff)
            self._size = (int(page.imagewidth), int(page.imagelength))
            tag = page.tags.get(_ORIENTATION_TAG)
            self._orientation = tag.value if tag is not None and isinstance(tag.value, int) else 1
        elif image_format == WEBP:
            self._size = webp_size(data)
            self._orientation = 1  # its decoder allocates the canvas, so size goes first
        else:
            check_header(data, image_format)
            if image_format == PNG:
                self._data = data = needed_chunks(data)
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
            raise pixel_error(
                Reason.TOO_MANY_PIXELS,
                f"{width} x {height} pixels are more than the limit of {limits.max_pixels}",
            )
        if min(width, height) < limits.min_side_px:
            raise pixel_error(
                Reason.TOO_SMALL,
                f"{width} x {height} pixels: the shorter side is below {limits.min_side_px}",
            )
        if self._tiff is not None:
            num_bytes = int(self._page.nbytes)
            if num_bytes > limits.max_pixels * _MAX_BYTES_PER_PIXEL:
                raise pixel_error(Reason.TOO_MANY_PIXELS, f"decodes to {num_bytes} bytes of bands")
        if self._format == WEBP and self._image is None:
            self._image = WebPImageFile(io.BytesIO(self._data))
            self._orientation = _orientation(self._image, self._data)
        if self._orientation in _TURNED:
            width, height = height, width
        bands = None if self._tiff is None else num_bands(self._page)
        return ImageInfo(width, height, self._format, self._digest, bands)

    def rgb(
        self, max_side_px: int, bands: tuple[int, ...] | None
    ) -> tuple[Image.Image, bytes | None]:
        """Decode to upright RGB; the second value are bytes that are that already, if there are.

        The image may come reduced, but not below ``max_side_px``.
        """
        if self._tiff is not None:
            return self._tiff_rgb(max_side_px, bands), None
        image = cast(ImageFile.ImageFile, self._image)
        if self._format == PNG and self._data[24:25] == b"\x10":
            image.load()  # checks every chunk, which the other decoder leaves to stderr
            upright = _turn(_deep_png_rgb(self._data, max_side_px), self._orientation)
            return upright, None
        if self._format == JPEG:
            check_jpeg_scans(self._data)
        if self._format == JPEG and max(image.size) > max_side_px:
            # The DCT scales by 2, 4 or 8 for free; stay at twice the target, for Lanczos.
            width, height = _fit(image.size, ImageLimits(max_side_px=max_side_px))
            image.draft(None, (2 * width, 2 * height))
        image.load()
        if self._format == JPEG:
            check_jpeg_end(self._data)
        if image.mode == "CMYK" and "adobe" not in image.info:
            # Pillow inverts every CMYK JPEG, as Adobe's are; one without Adobe's marker is not.
            image = cast(ImageFile.ImageFile, ImageChops.invert(image))
        plain = image.mode == "RGB" and "transparency" not in image.info
        upright = _turn(_flatten(image), self._orientation)
        return upright, self._data if plain and self._orientation not in _TRANSPOSE else None

    def _tiff_rgb(self, max_side_px: int, bands: tuple[int, ...] | None) -> Image.Image:
        from tifffile import COMPRESSION, PHOTOMETRIC

        page = self._page
        check_tiff_segments(page, self._data)
        jpeg = page.compression == COMPRESSION.JPEG
        if page.photometric == PHOTOMETRIC.YCBCR and page.bitspersample == 8 and not jpeg:
            # The one kind that tifffile does not convert. Not for the others: libtiff under
            # Pillow writes its complaints to the process's stderr.
            # Pillow applies the orientation of a TIFF itself.
            image = TiffImageFile(io.BytesIO(self._data))
            image.seek(page.index)
            return image.convert("RGB")
        return _turn(tiff_array_rgb(page, max_side_px, bands), self._orientation)


# The boundary: any error of a decoder becomes a SampleError here


@contextmanager
def _boundary(data: bytes) -> Iterator[str]:
    """Sniff the format; silence its decoders and turn their errors into a SampleError."""
    image_format = sniff_format(data)
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


def _failure(data: bytes, image_format: str, err: BaseException) -> SampleError:
    """Tell a truncated image from a damaged one, by the error or by the format's own end mark."""
    if isinstance(err, MemoryError):
        return pixel_error(Reason.TOO_MANY_PIXELS, f"{image_format}: does not fit into memory")
    if isinstance(err, NotImplementedError):
        return pixel_error(Reason.UNSUPPORTED_IMAGE, f"{image_format}: {err}")
    if image_format == JPEG and (coding := jpeg_coding(data)) is not None:
        return pixel_error(Reason.UNSUPPORTED_IMAGE, f"{coding} is not taken: {TAKEN}")
    cut = isinstance(err, EOFError) or "truncated" in str(err).lower()
    if image_format == PNG:
        cut = cut or b"IEND" not in data
    elif image_format == JPEG:
        cut = cut or b"\xff\xd9" not in data
    elif image_format == WEBP:
        cut = cut or int.from_bytes(data[4:8], "little") + 8 > len(data)
    reason = Reason.TRUNCATED_IMAGE if cut else Reason.CORRUPT_IMAGE
    return pixel_error(reason, f"{image_format}: {type(err).__name__}: {err}")


# JPEG, PNG, WebP


def _orientation(image: ImageFile.ImageFile, data: bytes) -> int:
    """The EXIF orientation, 1 to 8; 1 where there is none or the EXIF block is damaged."""
    # Pillow decodes a whole PNG to look for a block behind the pixels: only where there is one.
    marks = (b"eXIf", *ORIENTATION_MARKS)
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
    for top in range(0, image.height, ROWS_AT_ONCE):
        # A large image would be held four times over.
        box = (0, top, image.width, min(top + ROWS_AT_ONCE, image.height))
        rgba = image.crop(box).convert("RGBA")
        black = Image.new("RGBA", rgba.size, "black")
        result.paste(Image.alpha_composite(black, rgba).convert("RGB"), box)
    return result


def _turn(image: Image.Image, orientation: int) -> Image.Image:
    method = _TRANSPOSE.get(orientation)
    return image if method is None else image.transpose(method)


def _fit(size: tuple[int, int], limits: ImageLimits) -> tuple[int, int]:
    """Scale a size down until its longest side fits; no side below the least that is taken.

    Of a strip of one pixel, a model cannot tell the side from the colours.
    """
    longest = max(size)
    if longest <= limits.max_side_px:
        return size
    scale = limits.max_side_px / longest
    width, height = (max(min(side, limits.min_side_px), round(side * scale)) for side in size)
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
    return bands_to_rgb(array, max_side_px, valid=valid)


# TIFF
