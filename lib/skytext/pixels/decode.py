"""Decode, check and normalise the pixels of one encoded image.

Between the stages of the pipeline, images are encoded bytes, never arrays. :func:`normalise`
decodes an image completely, and returns bytes for the later stages. Every stage decodes these bytes
to the same upright 8-bit RGB pixels. If the original bytes already decode to such pixels, they are
returned. Otherwise a PNG is returned.

The kinds of remote-sensing images are converted as follows:

* **Grey, palette, CMYK, 1 bit**: the image is converted to RGB.
* **Alpha**: in a PNG or WebP, transparent pixels are combined with a black background. In a TIFF, a
  fourth band is not used, because it is often near infrared or a mask. The fourth band is also not
  used if the header says that it is opacity.
* **16-bit, float and other deep bands**: each band is scaled linearly. Its 2nd percentile becomes
  0, and its 98th percentile becomes 255. NaN, infinities, the largest number of the float type and
  the GDAL nodata value are missing pixels. Missing pixels are ignored when the percentiles are
  computed, and they become 0. If all pixels of a band have the same value, they become 0. If a
  value is complex (radar), its magnitude is used.
* **More than three bands**: the bands in the setting ``images.bands`` are used. If it is not set,
  the first three bands are used.
* **Two bands**: the first band is used as a grey image.
* **Missing TIFF tags**: if the photometric interpretation is missing, an image with three or more
  samples is RGB, and an image with fewer samples is grey. In the grey image, 0 is black. If the
  grey image has a fax compression, 0 is white. If the sample format is missing, the numbers are
  unsigned. A page is refused if a default value would lead to wrong pixels.
* **Several pages or frames**: the first page or frame is used. In a TIFF, reduced copies
  (overviews, thumbnails) and masks are ignored.
* **Orientation** (EXIF) is applied. **Colour profiles** are not applied.
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
"""Version of the pixel conversion. It is part of the caption fingerprint.

Increase this number if a change of the code changes the pixels of common images. An increase makes
the captions of all images stale, whatever their format is. So do not increase the number if only a
rare kind of TIFF changes.
"""


# Use the plugins' classes, not Image.open, for two reasons. Image.open applies Pillow's global
# pixel limit, and this library must not change that limit. Image.open also reads a JPEG that
# contains a second image as a different format (MPO).
_PLUGINS: dict[str, type[ImageFile.ImageFile]] = {
    JPEG: JpegImageFile,
    PNG: PngImageFile,
    WEBP: WebPImageFile,
    TIFF: TiffImageFile,
}

# For damaged bytes, decoders can raise almost any error. The errors in this list were seen with
# Pillow, tifffile (ValueError), imagecodecs (RuntimeError) and zlib. MemoryError is in the list,
# because the size in a damaged header can be larger than the memory.
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


# The number of bytes is limited in addition to the number of pixels, because an image can have
# hundreds of bands. 8 bytes per pixel are enough for three 16-bit bands and a mask.
_MAX_BYTES_PER_PIXEL = 8

# warnings.catch_warnings is not thread-safe in Python 3.11.
_quiet_lock = threading.RLock()


@dataclass(frozen=True)
class ImageLimits:
    """Limits for the size of an image, and the bands to use.

    Attributes:
        max_pixels: the maximum number of pixels (width times height). An image with more pixels is
            refused before it is decoded. The size is read from the header. The default is the limit
            of Pillow.
        min_side_px: the minimum length of each side. An image with a shorter side is refused.
        max_side_px: the maximum length of each side. If a side is longer, the image is scaled down,
            so that its longest side has this length.
        bands: the numbers of the bands to use in a TIFF, from 1. There are one or three numbers.
            None means the first three bands.
    """

    max_pixels: int = 178_956_970
    min_side_px: int = 8
    max_side_px: int = 2048
    bands: tuple[int, ...] | None = None

    @classmethod
    def of(cls, images: ImageConfig) -> ImageLimits:
        """Return the limits from the settings."""
        return cls(images.max_pixels, images.min_side_px, images.max_side_px, images.bands)


@dataclass(frozen=True)
class ImageInfo:
    """Facts about an encoded image.

    Attributes:
        width_px: width of the upright image before it is scaled down.
        height_px: height of the upright image before it is scaled down.
        format: ``jpeg``, ``png``, ``webp`` or ``tiff``.
        content_sha256: SHA-256 of the original bytes as hexadecimal digits.
        num_bands: the number of bands in a TIFF. None if the TIFF has a palette or CMYK inks, or if
            the format is not TIFF.
    """

    width_px: int
    height_px: int
    format: str
    content_sha256: str
    num_bands: int | None = None


@dataclass(frozen=True)
class NormalisedImage:
    """An image in the form that the captioner accepts.

    Attributes:
        data: JPEG, PNG or WebP bytes that decode to upright 8-bit RGB.
        info: facts about the original image.
    """

    data: bytes
    info: ImageInfo


def inspect_image(data: bytes, limits: ImageLimits | None = None) -> ImageInfo:
    """Read and check the header of an encoded image. The pixels are not decoded.

    Raises:
        SampleError: the bytes are not an image, the format is not supported, or the image is too
            large or too small. The error's stage is ``decode``.
    """
    with _boundary(data) as image_format, _Source(data, image_format) as source:
        return source.info(limits or ImageLimits())


def normalise(data: bytes, limits: ImageLimits | None = None) -> NormalisedImage:
    """Decode an image completely and return bytes that decode to upright 8-bit RGB.

    The original bytes are returned if two conditions are true. The image is an 8-bit RGB JPEG, PNG
    or WebP without rotation and transparency. No side is longer than ``max_side_px``. Otherwise the
    result is a lossless PNG that contains the converted pixels. If a side is longer than
    ``max_side_px``, the image is scaled down with a Lanczos filter.

    Raises:
        SampleError: the bytes are not an image, the format is not supported, the image is damaged,
            or the image is too large or too small. The error's stage is ``decode``.
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
    """Decode bytes from :func:`normalise` into an RGB image.

    Raises:
        SampleError: the bytes cannot be decoded. The error's stage is ``decode``.
    """
    image_format = sniff_format(data)
    try:
        # `_quiet` holds a lock, so use it only while the header is read. Then several threads can
        # decode images at the same time.
        with _quiet():
            image = _PLUGINS[image_format](io.BytesIO(data))
        return image.convert("RGB")
    except _DECODER_ERRORS as err:
        raise _failure(data, image_format, err) from err


class _Source:
    """One encoded image with its parsed header."""

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
            # The decoder allocates memory for the whole image when it is opened. So it is not
            # opened here. `info` first checks the size, then opens the decoder, and then reads the
            # orientation.
            self._orientation = 1
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
        """Check the size of the image, and return facts about the image."""
        width, height = self._size
        if width * height > limits.max_pixels:
            raise pixel_error(
                Reason.TOO_MANY_PIXELS,
                f"{width} x {height} pixels are more than the limit of {limits.max_pixels} pixels",
            )
        if min(width, height) < limits.min_side_px:
            raise pixel_error(
                Reason.TOO_SMALL,
                f"{width} x {height} pixels: the shorter side has less than the minimum of "
                f"{limits.min_side_px} pixels",
            )
        if self._tiff is not None:
            num_bytes = int(self._page.nbytes)
            if num_bytes > limits.max_pixels * _MAX_BYTES_PER_PIXEL:
                raise pixel_error(
                    Reason.TOO_MANY_PIXELS,
                    f"the decoded bands would have {num_bytes} bytes, more than the limit of "
                    f"{limits.max_pixels * _MAX_BYTES_PER_PIXEL} bytes",
                )
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
        """Decode the image to upright RGB.

        The image may be reduced in size. Its longest side is never reduced below ``max_side_px``.

        Returns:
            The decoded image. Also the original bytes if they decode to the same image, and None if
            they do not.
        """
        if self._tiff is not None:
            return self._tiff_rgb(max_side_px, bands), None
        image = cast(ImageFile.ImageFile, self._image)
        if self._format == PNG and self._data[24:25] == b"\x10":
            # First read the whole image with Pillow to find damage. For a damaged image,
            # imagecodecs would write messages to stderr.
            image.load()
            upright = _turn(_deep_png_rgb(self._data, max_side_px), self._orientation)
            return upright, None
        if self._format == JPEG:
            check_jpeg_scans(self._data)
        if self._format == JPEG and max(image.size) > max_side_px:
            # A JPEG decoder can scale an image down by 2, 4 or 8 without extra work. The result
            # must have at least twice the final size, so that the Lanczos filter has enough pixels.
            width, height = _fit(image.size, ImageLimits(max_side_px=max_side_px))
            image.draft(None, (2 * width, 2 * height))
        image.load()
        if self._format == JPEG:
            check_jpeg_end(self._data)
        if image.mode == "CMYK" and "adobe" not in image.info:
            # CMYK values are inverted in JPEG files from Adobe programs, so Pillow inverts every
            # CMYK JPEG. If the file has no Adobe marker, invert the values back.
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
            # tifffile does not convert this kind of TIFF to RGB, so use Pillow. Pillow also applies
            # the orientation. Do not use Pillow for other kinds of TIFF: it calls libtiff, and
            # libtiff writes warnings to stderr.
            image = TiffImageFile(io.BytesIO(self._data))
            image.seek(page.index)
            return image.convert("RGB")
        return _turn(tiff_array_rgb(page, max_side_px, bands), self._orientation)


# Conversion of decoder errors to SampleError


@contextmanager
def _boundary(data: bytes) -> Iterator[str]:
    """Yield the format of an image. Hide decoder warnings, and convert errors to `SampleError`."""
    image_format = sniff_format(data)
    with _quiet():
        try:
            yield image_format
        except _DECODER_ERRORS as err:
            raise _failure(data, image_format, err) from err


@contextmanager
def _quiet() -> Iterator[None]:
    """Hide warnings about unusual headers. Decoders would write very many such warnings."""
    logger = logging.getLogger("tifffile")
    with _quiet_lock, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        disabled, logger.disabled = logger.disabled, True
        try:
            yield
        finally:
            logger.disabled = disabled


def _failure(data: bytes, image_format: str, err: BaseException) -> SampleError:
    """Convert a decoder error to a `SampleError`.

    An image is reported as truncated if the error says so, or if the end mark of the image is
    missing. Otherwise it is reported as damaged.
    """
    if isinstance(err, MemoryError):
        return pixel_error(
            Reason.TOO_MANY_PIXELS, f"{image_format}: the image does not fit into memory"
        )
    if isinstance(err, NotImplementedError):
        return pixel_error(Reason.UNSUPPORTED_IMAGE, f"{image_format}: {err}")
    if image_format == JPEG and (coding := jpeg_coding(data)) is not None:
        return pixel_error(Reason.UNSUPPORTED_IMAGE, f"{coding} is not supported: {TAKEN}")
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
    """Return the EXIF orientation, 1 to 8.

    The result is 1 if the image has no orientation, or if its EXIF block is damaged.
    """
    # The EXIF block of a PNG can be stored after the pixels. To find the block, Pillow decodes the
    # whole image. Avoid this if the PNG contains no EXIF block.
    marks = (b"eXIf", *ORIENTATION_MARKS)
    if isinstance(image, PngImageFile) and not any(mark in data for mark in marks):
        return 1
    try:
        value = image.getexif().get(_ORIENTATION_TAG, 1)
    except _DECODER_ERRORS:
        return 1
    return value if isinstance(value, int) else 1


def _flatten(image: Image.Image) -> Image.Image:
    """Convert an image to RGB. Transparent pixels are combined with a black background."""
    transparent = image.mode in {"RGBA", "RGBa", "LA", "La", "PA"} or "transparency" in image.info
    if not transparent:
        return image.convert("RGB")
    result = Image.new("RGB", image.size)
    for top in range(0, image.height, ROWS_AT_ONCE):
        # Convert a few rows at a time. Otherwise memory would contain four copies of the image.
        box = (0, top, image.width, min(top + ROWS_AT_ONCE, image.height))
        rgba = image.crop(box).convert("RGBA")
        black = Image.new("RGBA", rgba.size, "black")
        result.paste(Image.alpha_composite(black, rgba).convert("RGB"), box)
    return result


def _turn(image: Image.Image, orientation: int) -> Image.Image:
    method = _TRANSPOSE.get(orientation)
    return image if method is None else image.transpose(method)


def _fit(size: tuple[int, int], limits: ImageLimits) -> tuple[int, int]:
    """Return the size of an image after it is scaled down.

    The longest side gets the length ``max_side_px``. No side becomes shorter than ``min_side_px``.
    Otherwise an image processor could mistake the height of a very flat image for the number of
    colour channels.
    """
    longest = max(size)
    if longest <= limits.max_side_px:
        return size
    scale = limits.max_side_px / longest
    width, height = (max(min(side, limits.min_side_px), round(side * scale)) for side in size)
    return width, height


def _to_png(rgb: Image.Image) -> bytes:
    # Remove the colour profile of the original image, because it may not be valid for RGB.
    rgb.info = {}
    buffer = io.BytesIO()
    rgb.save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()


def _deep_png_rgb(data: bytes, max_side_px: int) -> Image.Image:
    """Decode a 16-bit PNG to RGB. Do not use Pillow, because it drops the lower 8 bits."""
    import imagecodecs

    array = imagecodecs.png_decode(data)
    if array.ndim == 2:
        array = array[..., np.newaxis]
    valid = None
    if array.shape[2] in (2, 4):
        array, valid = array[..., :-1], array[..., -1] > 0
    return bands_to_rgb(array, max_side_px, valid=valid)


# TIFF
