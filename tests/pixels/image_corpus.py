"""Generate unusual images, each with its required result.

Real archives contain all these kinds of images. An image has 48 x 32 pixels if its name does not
state another size. Most images have one colour, so that one pixel is enough to check lossy formats
and conversions.
"""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import imagecodecs
import numpy as np
import tifffile
from PIL import Image

from skytext.errors import Reason

WIDTH, HEIGHT = 48, 32
RED = (200, 30, 40)

Colour = tuple[int, int, int]


@dataclass(frozen=True)
class Odd:
    """An unusual image and its expected result.

    Attributes:
        name: description of the image. It is part of the test id.
        make: function that returns the encoded bytes.
        reason: the reason of the failure; None if the image must be accepted.
        untouched: true if the bytes must not be changed.
        size: (width, height) after normalisation.
        pixels: expected colours by (x, y).
        tolerance: the allowed difference of a channel.
    """

    name: str
    make: Callable[[], bytes]
    reason: Reason | None = None
    untouched: bool = False
    size: tuple[int, int] = (WIDTH, HEIGHT)
    pixels: tuple[tuple[tuple[int, int], Colour], ...] = ()
    tolerance: int = 4


def encode(image: Image.Image, image_format: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, image_format, **options)
    return buffer.getvalue()


def flat(mode: str = "RGB", colour: Any = RED, size: tuple[int, int] = (WIDTH, HEIGHT)) -> Any:
    return Image.new(mode, size, colour)


def noise(size: tuple[int, int] = (WIDTH, HEIGHT)) -> Image.Image:
    shape = (size[1], size[0], 3)
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, shape, np.uint8))


def tiff(array: Any, **options: Any) -> bytes:
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, array, **options)
    return buffer.getvalue()


def ramp(dtype: Any, low: float, high: float, bands: int = 0) -> Any:
    """Return a ramp from left to right. The percentile stretch must map it to 0 to 255."""
    row = np.linspace(low, high, WIDTH)
    array = np.broadcast_to(row, (HEIGHT, WIDTH))
    if bands:
        array = np.broadcast_to(array[..., None], (HEIGHT, WIDTH, bands))
    return np.ascontiguousarray(array.astype(dtype))


def halves(image: Image.Image | None = None) -> Image.Image:
    """Make the right half of an image blue. The default image is red."""
    image = image or flat()
    image.paste((10, 20, 220), (WIDTH // 2, 0, WIDTH, HEIGHT))
    return image


def rotated(image_format: str, orientation: int, **options: Any) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return encode(halves(), image_format, exif=exif, **options)


def jpeg_without_adobe_marker() -> bytes:
    """Return a red CMYK JPEG without inverted inks. Software of Adobe does not write such files."""
    inverted = flat("CMYK", (255 - 0, 255 - 255, 255 - 255, 255 - 0))
    data = encode(inverted, "JPEG", quality=95)
    start = data.index(b"\xff\xee")
    length = int.from_bytes(data[start + 2 : start + 4], "big")
    return data[:start] + data[start + 2 + length :]


def jpeg_with_broken_exif() -> bytes:
    data = encode(flat(), "JPEG", quality=95)
    block = b"Exif\x00\x00II*\x00\xff\xff\xff\xff" + b"\x07" * 9
    return data[:2] + b"\xff\xe1" + (len(block) + 2).to_bytes(2, "big") + block + data[2:]


def png_chunk(kind: bytes, body: bytes) -> bytes:
    crc = zlib.crc32(kind + body).to_bytes(4, "big")
    return len(body).to_bytes(4, "big") + kind + body + crc


def png_with(*chunks: tuple[bytes, bytes]) -> bytes:
    """Return a PNG with more chunks before its pixels."""
    data = encode(flat(), "PNG")
    return data[:33] + b"".join(png_chunk(*chunk) for chunk in chunks) + data[33:]


LONG = zlib.compress(bytes(2 << 20))
# Pillow refuses the whole image because of such chunks.
PNG_CHUNKS = {
    "a long text": [(b"zTXt", b"k\0\0" + LONG)],
    "a long international text": [(b"iTXt", b"k\0\1\0\0\0" + LONG)],
    "a long profile": [(b"iCCP", b"k\0\0" + LONG)],
    "many texts": [(b"zTXt", b"k%d\0\0" % i + zlib.compress(bytes(1 << 20))) for i in range(70)],
    "short chunks": [(b"pHYs", b"a"), (b"gAMA", b"a"), (b"cHRM", b"a"), (b"sRGB", b"")],
}


def png_claiming(width: int, height: int) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    body = zlib.compress(bytes(1000))
    return (
        b"\x89PNG\r\n\x1a\n"
        + png_chunk(b"IHDR", header)
        + png_chunk(b"IDAT", body)
        + png_chunk(b"IEND", b"")
    )


def png_with_bad_crc() -> bytes:
    data = bytearray(encode(noise(), "PNG"))
    place = data.index(b"IDAT") + 10
    data[place : place + 40] = b"\xaa" * 40
    return bytes(data)


def jpeg_claiming(width: int, height: int) -> bytes:
    data = bytearray(encode(flat(), "JPEG"))
    place = data.index(b"\xff\xc0") + 5
    data[place : place + 4] = struct.pack(">HH", height, width)
    return bytes(data)


def webp_claiming(width: int, height: int) -> bytes:
    data = bytearray(encode(flat("RGBA", (*RED, 99)), "WEBP"))
    if data[12:16] != b"VP8X":
        raise ValueError("expected an extended WebP header")
    data[24:30] = (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    return bytes(data)


def tiff_claiming(width: int, height: int) -> bytes:
    data = bytearray(tiff(np.zeros((HEIGHT, WIDTH), np.uint8)))
    with tifffile.TiffFile(io.BytesIO(bytes(data))) as opened:
        page: Any = opened.pages[0]
        for tag, value in ((256, width), (257, height)):
            place = page.tags[tag].valueoffset
            kind = "<H" if page.tags[tag].dtype == tifffile.DATATYPE.SHORT else "<I"
            data[place : place + struct.calcsize(kind)] = struct.pack(kind, value)
    return bytes(data)


def cut(data: bytes, part: float) -> bytes:
    return data[: int(len(data) * part)]


def float_with_holes(*, infinite: bool = False) -> bytes:
    array = ramp(np.float32, 0.0, 1.0)
    array[0, 0] = np.nan
    if infinite:
        array[0, 1], array[0, 2] = np.inf, -np.inf
    return tiff(array)


def with_nodata() -> bytes:
    array = ramp(np.float32, 100.0, 200.0)
    array[:, :8] = -9999.0
    return tiff(array, extratags=[(42113, "s", 0, "-9999", True)])


def deep_png(bands: int) -> bytes:
    array = ramp(np.uint16, 100, 4000, bands)
    if bands in (2, 4):
        array[..., -1] = 65535
        array[0, :, -1] = 0
    return bytes(imagecodecs.png_encode(array))


def four_bit_tiff() -> bytes:
    """Return a 4-bit TIFF. Each byte contains two pixels with the value 5."""
    data = bytearray(tiff(np.full((HEIGHT, WIDTH // 2), 0x55, np.uint8)))
    with tifffile.TiffFile(io.BytesIO(bytes(data))) as opened:
        page: Any = opened.pages[0]
        for tag, value in ((256, WIDTH), (258, 4)):
            data[page.tags[tag].valueoffset] = value
    return bytes(data)


def palette(transparent: bool) -> bytes:
    image = flat().quantize(4)
    return encode(image, "PNG", **({"transparency": image.getpixel((0, 0))} if transparent else {}))


def animated(image_format: str) -> bytes:
    more = [flat(colour=(0, 0, 255))]
    return encode(flat(), image_format, save_all=True, append_images=more, duration=50, quality=95)


def planar(dtype: Any) -> bytes:
    bands = np.stack([np.full((HEIGHT, WIDTH), value, dtype) for value in RED])
    return tiff(bands, photometric="rgb", planarconfig="separate")


BLACK, WHITE = (0, 0, 0), (255, 255, 255)
RAMP = (((0, 5), BLACK), ((WIDTH - 1, 5), WHITE))
SOLID = (((5, 5), RED),)
BLUE_TOP = (((16, 40), RED), ((16, 5), (10, 20, 220)))  # `halves`, turned left by 90 degrees
PILLARS = (((5, 16), RED), ((40, 16), (10, 20, 220)))


def _rgb8(**options: Any) -> bytes:
    return tiff(np.array(flat()), photometric="rgb", **options)


TAKEN = [
    Odd("jpeg", lambda: encode(flat(), "JPEG", quality=95), untouched=True, pixels=SOLID),
    Odd(
        "jpeg progressive",
        lambda: encode(flat(), "JPEG", quality=95, progressive=True),
        untouched=True,
        pixels=SOLID,
    ),
    Odd(
        "jpeg with bytes behind it",
        lambda: encode(flat(), "JPEG", quality=95) + b"junk" * 9,
        untouched=True,
        pixels=SOLID,
    ),
    Odd("jpeg with broken exif", jpeg_with_broken_exif, untouched=True, pixels=SOLID),
    Odd("jpeg of two pictures (MPO)", lambda: animated("MPO"), untouched=True, pixels=SOLID),
    Odd("jpeg grey", lambda: encode(flat("L", 77), "JPEG"), pixels=(((5, 5), (77, 77, 77)),)),
    Odd(
        "jpeg cmyk, Adobe",
        lambda: encode(flat("CMYK", (0, 255, 255, 0)), "JPEG", quality=95),
        pixels=(((5, 5), (255, 0, 0)),),
    ),
    Odd("jpeg cmyk, no marker", jpeg_without_adobe_marker, pixels=(((5, 5), (255, 0, 0)),)),
    Odd(
        "jpeg rotated by exif 8",
        lambda: rotated("JPEG", 8, quality=95),
        size=(HEIGHT, WIDTH),
        pixels=BLUE_TOP,
        tolerance=12,
    ),
    Odd(
        "jpeg mirrored by exif 2",
        lambda: rotated("JPEG", 2, quality=95),
        pixels=(((40, 16), RED), ((5, 16), (10, 20, 220))),
        tolerance=12,
    ),
    Odd(
        "jpeg with a meaningless orientation",
        lambda: rotated("JPEG", 9, quality=95),
        untouched=True,
        pixels=PILLARS,
        tolerance=12,
    ),
    Odd(
        "jpeg of 5000 px",
        lambda: encode(flat(size=(5000, 1000)), "JPEG", quality=95),
        size=(2048, 410),
        pixels=SOLID,
    ),
    Odd("png", lambda: encode(noise(), "PNG"), untouched=True),
    Odd(
        "png rotated by exif 8",
        lambda: rotated("PNG", 8),
        size=(HEIGHT, WIDTH),
        pixels=BLUE_TOP,
    ),
    *(
        Odd(f"png with {name}", lambda chunks=chunks: png_with(*chunks), pixels=SOLID)
        for name, chunks in PNG_CHUNKS.items()
    ),
    Odd("png palette", lambda: palette(False), pixels=SOLID),
    Odd("png palette, transparent", lambda: palette(True), pixels=(((5, 5), BLACK),)),
    Odd(
        "png rgb with a transparent colour",
        lambda: encode(flat(), "PNG", transparency=RED),
        pixels=(((5, 5), BLACK),),
    ),
    Odd(
        "png rgba half transparent",
        lambda: encode(flat("RGBA", (200, 30, 40, 128)), "PNG"),
        pixels=(((5, 5), (100, 15, 20)),),
    ),
    Odd(
        "png grey and alpha",
        lambda: encode(flat("LA", (90, 255)), "PNG"),
        pixels=(((5, 5), (90, 90, 90)),),
    ),
    Odd("png 1 bit", lambda: encode(flat("1", 1), "PNG"), pixels=(((5, 5), WHITE),)),
    Odd("png 16 bit grey", lambda: deep_png(0), pixels=RAMP),
    Odd("png 16 bit grey and alpha", lambda: deep_png(2), pixels=(*RAMP, ((47, 0), BLACK))),
    Odd("png 16 bit rgb", lambda: deep_png(3), pixels=RAMP),
    Odd("png 16 bit rgba", lambda: deep_png(4), pixels=(*RAMP, ((47, 0), BLACK))),
    Odd(
        "png of 3000 px",
        lambda: encode(flat(size=(1500, 3000)), "PNG"),
        size=(1024, 2048),
        pixels=SOLID,
    ),
    Odd(
        "png of 9000 x 8 px",
        lambda: encode(flat(size=(9000, 8)), "PNG"),
        size=(2048, 8),
        pixels=(((5, 7), RED),),
    ),
    Odd("webp", lambda: encode(flat(), "WEBP", quality=95), untouched=True, pixels=SOLID),
    Odd(
        "webp lossless",
        lambda: encode(noise(), "WEBP", lossless=True),
        untouched=True,
    ),
    Odd(
        "webp with alpha",
        lambda: encode(flat("RGBA", (*RED, 0)), "WEBP", lossless=True),
        pixels=(((5, 5), BLACK),),
    ),
    Odd("webp animated", lambda: animated("WEBP"), untouched=True, pixels=SOLID),
    Odd(
        "webp rotated by exif 8",
        lambda: rotated("WEBP", 8, lossless=True),
        size=(HEIGHT, WIDTH),
        pixels=BLUE_TOP,
    ),
    Odd("tiff rgb", _rgb8, pixels=SOLID, tolerance=0),
    Odd("tiff rgb PackBits", lambda: encode(flat(), "TIFF", compression="packbits"), pixels=SOLID),
    Odd("tiff rgb LZW", lambda: encode(flat(), "TIFF", compression="tiff_lzw"), pixels=SOLID),
    Odd("tiff rgb zstd", lambda: _rgb8(compression="zstd"), pixels=SOLID, tolerance=0),
    Odd("tiff rgb lerc", lambda: _rgb8(compression="lerc"), pixels=SOLID, tolerance=0),
    Odd(
        "tiff rgb tiled, deflate with predictor",
        lambda: _rgb8(tile=(16, 16), compression="deflate", predictor=True),
        pixels=SOLID,
        tolerance=0,
    ),
    Odd("tiff big-endian", lambda: _rgb8(byteorder=">"), pixels=SOLID, tolerance=0),
    Odd("tiff BigTIFF", lambda: _rgb8(bigtiff=True), pixels=SOLID, tolerance=0),
    Odd("tiff planar", lambda: planar(np.uint8), pixels=SOLID, tolerance=0),
    Odd(
        "tiff rgb and near infrared called alpha",
        lambda: encode(flat("RGBA", (*RED, 7)), "TIFF"),
        pixels=SOLID,
        tolerance=0,
    ),
    Odd(
        "tiff 4 bands of 8 bit, no colours named",
        lambda: tiff(
            np.full((HEIGHT, WIDTH, 4), (*RED, 9), np.uint8),
            photometric="minisblack",
            planarconfig="contig",
        ),
        pixels=SOLID,
        tolerance=0,
    ),
    Odd(
        "tiff of JPEG tiles in YCbCr",
        lambda: _rgb8(compression="jpeg", tile=(16, 16)),
        pixels=SOLID,
        tolerance=12,
    ),
    Odd(
        "tiff YCbCr, not as JPEG",
        lambda: encode(flat("YCbCr", (128, 128, 128)), "TIFF"),
        pixels=(((5, 5), (128, 128, 128)),),
    ),
    Odd(
        "tiff 4 bit grey",
        four_bit_tiff,
        pixels=(((5, 5), (85, 85, 85)),),
        tolerance=0,
    ),
    Odd("tiff palette", lambda: encode(flat().quantize(4), "TIFF"), pixels=SOLID),
    Odd(
        "tiff cmyk",
        lambda: encode(flat("CMYK", (0, 255, 255, 0)), "TIFF"),
        pixels=(((5, 5), (255, 0, 0)),),
    ),
    Odd(
        "tiff cmyk 16 bit",
        lambda: tiff(
            np.full((HEIGHT, WIDTH, 4), (0, 65535, 65535, 0), np.uint16), photometric="separated"
        ),
        pixels=(((5, 5), (255, 0, 0)),),
    ),
    Odd(
        "tiff white is zero",
        lambda: tiff(np.full((HEIGHT, WIDTH), 55, np.uint8), photometric="miniswhite"),
        pixels=(((5, 5), (200, 200, 200)),),
    ),
    Odd(
        "tiff white is zero, 16 bit",
        lambda: tiff(ramp(np.uint16, 0, 3000), photometric="miniswhite"),
        pixels=(((0, 5), WHITE), ((47, 5), BLACK)),
    ),
    Odd(
        "tiff fax, 1 bit",
        lambda: encode(flat("1", 1), "TIFF", compression="group4"),
        pixels=(((5, 5), WHITE),),
    ),
    Odd("tiff 16 bit grey", lambda: tiff(ramp(np.uint16, 300, 5000)), pixels=RAMP),
    Odd(
        "tiff 16 bit rgb",
        lambda: tiff(ramp(np.uint16, 300, 5000, 3), photometric="rgb"),
        pixels=RAMP,
    ),
    Odd(
        "tiff 16 bit, 13 bands",
        lambda: tiff(ramp(np.uint16, 1, 999, 13), photometric="minisblack", planarconfig="contig"),
        pixels=RAMP,
    ),
    Odd(
        "tiff 16 bit, 2 bands",
        lambda: tiff(ramp(np.uint16, 1, 999, 2), photometric="minisblack", planarconfig="contig"),
        pixels=RAMP,
    ),
    Odd(
        "tiff 16 bit, planar, 4 bands",
        lambda: tiff(
            np.moveaxis(ramp(np.uint16, 1, 999, 4), -1, 0),
            photometric="minisblack",
            planarconfig="separate",
        ),
        pixels=RAMP,
    ),
    Odd("tiff int16 below zero", lambda: tiff(ramp(np.int16, -3000, -100)), pixels=RAMP),
    Odd("tiff uint32", lambda: tiff(ramp(np.uint32, 0, 4e9)), pixels=RAMP),
    Odd("tiff float64", lambda: tiff(ramp(np.float64, -1e300, 1e300)), pixels=RAMP),
    Odd("tiff complex", lambda: tiff(ramp(np.complex64, 0, 9)), pixels=RAMP),
    Odd("tiff float with NaN", float_with_holes, pixels=(*RAMP, ((0, 0), BLACK))),
    Odd("tiff float with inf", lambda: float_with_holes(infinite=True), pixels=RAMP),
    Odd(
        "tiff float, all NaN",
        lambda: tiff(np.full((HEIGHT, WIDTH), np.nan, np.float32)),
        pixels=(((5, 5), BLACK),),
    ),
    Odd(
        "tiff float, constant",
        lambda: tiff(np.full((HEIGHT, WIDTH), 3.5, np.float32)),
        pixels=(((5, 5), BLACK),),
    ),
    Odd(
        "tiff float with GDAL nodata",
        with_nodata,
        pixels=(((3, 5), BLACK), ((9, 5), BLACK), ((47, 5), WHITE)),
        tolerance=12,
    ),
    Odd(
        "tiff of three pages",
        lambda: tiff(np.stack([np.array(flat(colour=c)) for c in (RED, BLACK, WHITE)])),
        pixels=SOLID,
        tolerance=0,
    ),
    Odd(
        "tiff rotated, 8 bit",
        lambda: tiff(np.array(halves()), photometric="rgb", extratags=[(274, 3, 1, 8, True)]),
        size=(HEIGHT, WIDTH),
        pixels=BLUE_TOP,
        tolerance=0,
    ),
    Odd(
        "tiff rotated, 16 bit",
        lambda: tiff(ramp(np.uint16, 1, 999), extratags=[(274, 3, 1, 8, True)]),
        size=(HEIGHT, WIDTH),
        pixels=(((5, 0), WHITE), ((5, 47), BLACK)),
    ),
    Odd(
        "tiff 16 bit of 9000 px",
        lambda: tiff(np.tile(np.arange(9000, dtype=np.uint16), (40, 1))),
        size=(2048, 9),
        pixels=(((0, 5), BLACK), ((2047, 5), WHITE)),
    ),
]

REFUSED = [
    Odd("nothing", lambda: b"", Reason.EMPTY),
    Odd("one byte", lambda: b"\xff", Reason.NOT_AN_IMAGE),
    Odd("text", lambda: b"a page about ships\n" * 9, Reason.NOT_AN_IMAGE),
    Odd("a page of a web server", lambda: b"<!DOCTYPE html><html>403", Reason.NOT_AN_IMAGE),
    Odd("text that begins like BMP", lambda: b"BMW is a car maker. " * 3, Reason.NOT_AN_IMAGE),
    Odd("zeros", lambda: bytes(5000), Reason.NOT_AN_IMAGE),
    Odd("gif", lambda: encode(flat(), "GIF"), Reason.UNSUPPORTED_IMAGE),
    Odd("bmp", lambda: encode(flat(), "BMP"), Reason.UNSUPPORTED_IMAGE),
    Odd("ico", lambda: encode(flat(), "ICO"), Reason.UNSUPPORTED_IMAGE),
    Odd("jpeg 2000", lambda: encode(flat(), "JPEG2000"), Reason.UNSUPPORTED_IMAGE),
    Odd("hdf5", lambda: b"\x89HDF\r\n\x1a\n" + bytes(99), Reason.UNSUPPORTED_IMAGE),
    Odd("pdf", lambda: b"%PDF-1.7" + bytes(99), Reason.UNSUPPORTED_IMAGE),
    Odd(
        "tiff of a volume",
        lambda: tiff(np.zeros((16, 32, 48), np.uint16), volumetric=True, tile=(16, 16, 16)),
        Reason.UNSUPPORTED_IMAGE,
    ),
    Odd(
        "tiff lab",
        lambda: tiff(np.zeros((HEIGHT, WIDTH, 3), np.uint8), photometric="cielab"),
        Reason.UNSUPPORTED_IMAGE,
    ),
    Odd("jpeg cut", lambda: cut(encode(noise(), "JPEG"), 0.6), Reason.TRUNCATED_IMAGE),
    Odd("jpeg of three bytes", lambda: b"\xff\xd8\xff", Reason.TRUNCATED_IMAGE),
    Odd("jpeg cut in its header", lambda: encode(noise(), "JPEG")[:60], Reason.TRUNCATED_IMAGE),
    Odd("png cut", lambda: cut(encode(noise(), "PNG"), 0.6), Reason.TRUNCATED_IMAGE),
    Odd("png of its first bytes", lambda: encode(noise(), "PNG")[:8], Reason.TRUNCATED_IMAGE),
    Odd("png 16 bit cut", lambda: cut(deep_png(3), 0.6), Reason.TRUNCATED_IMAGE),
    Odd("png damaged", png_with_bad_crc, Reason.CORRUPT_IMAGE),
    Odd("webp cut", lambda: cut(encode(noise(), "WEBP"), 0.6), Reason.TRUNCATED_IMAGE),
    Odd("webp of its first bytes", lambda: encode(noise(), "WEBP")[:14], Reason.TRUNCATED_IMAGE),
    Odd("tiff cut", lambda: cut(_rgb8(), 0.6), Reason.TRUNCATED_IMAGE),
    Odd("tiff of its first bytes", lambda: _rgb8()[:6], Reason.TRUNCATED_IMAGE),
    Odd(
        "tiff cut before its directory",
        lambda: cut(encode(noise(), "TIFF", compression="tiff_lzw"), 0.8),
        Reason.TRUNCATED_IMAGE,
    ),
    Odd("tiff 16 bit cut", lambda: cut(tiff(ramp(np.uint16, 0, 9)), 0.7), Reason.TRUNCATED_IMAGE),
    Odd("png bomb", lambda: png_claiming(60000, 60000), Reason.TOO_MANY_PIXELS),
    Odd("jpeg bomb", lambda: jpeg_claiming(65000, 65000), Reason.TOO_MANY_PIXELS),
    Odd("webp bomb", lambda: webp_claiming(16000, 16000), Reason.TOO_MANY_PIXELS),
    Odd("tiff bomb", lambda: tiff_claiming(60000, 60000), Reason.TOO_MANY_PIXELS),
    Odd("one pixel", lambda: encode(flat(size=(1, 1)), "PNG"), Reason.TOO_SMALL),
    Odd("a line", lambda: encode(flat(size=(400, 2)), "JPEG"), Reason.TOO_SMALL),
]
