"""Generate all kinds of bad data that were seen in archives, with the expected results.

There are two tables. An entry of :data:`IMAGES` makes the bytes of one member. An entry of
:data:`SHARDS` makes a whole tar file. Large data are large only after they are unpacked. So no
entry needs more than some megabytes.
"""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import struct
import tarfile
import zlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import imagecodecs
import numpy as np
import tifffile

from skytext.errors import Reason, Stage
from tests.archive.formats.tars import Entry, make_tar
from tests.pixels import image_corpus as corpus
from tests.pixels.image_corpus import (
    HEIGHT,
    RED,
    WIDTH,
    cut,
    encode,
    flat,
    noise,
    png_chunk,
    ramp,
    tiff,
)


@dataclass(frozen=True)
class Ok:
    """The image is described.

    Attributes:
        width: width of the upright image in pixels.
        height: height of the upright image in pixels.
        format: format of the original image.
        invalid: fields of the sidecar that cannot be used.
        sidecar_error: true if the sidecar cannot be read.
    """

    width: int = WIDTH
    height: int = HEIGHT
    format: str = "jpeg"
    invalid: tuple[str, ...] = ()
    sidecar_error: bool = False


@dataclass(frozen=True)
class Failed:
    """The image, or the unreadable rest of its shard, becomes one failed row."""

    stage: Stage
    reason: Reason


Outcome = Ok | Failed


@dataclass(frozen=True)
class Kind:
    """A kind of bad image.

    Attributes:
        name: description of the image.
        build: function that returns the bytes of the image.
        expected: the required result.
        suffix: file suffix of the member.
    """

    name: str
    build: Callable[[], bytes]
    expected: Outcome
    suffix: str = "jpg"

    @property
    def member(self) -> str:
        """The name of the member in a shard that contains all kinds of images."""
        return f"bad/{self.name.replace('.', '-').replace('/', '-')}.{self.suffix}"


@dataclass(frozen=True)
class ShardKind:
    """A kind of bad shard.

    Attributes:
        name: description of the shard.
        build: function that returns the bytes of the tar.
        expected: the expected rows in order, as (member, outcome). If the row stands for an
            unreadable shard or for the unreadable end of a shard, the member is empty.
    """

    name: str
    build: Callable[[], bytes]
    expected: tuple[tuple[str, Outcome], ...]


def _decode(reason: Reason) -> Failed:
    return Failed(Stage.DECODE, reason)


EMPTY = _decode(Reason.EMPTY)
NO_IMAGE = _decode(Reason.NOT_AN_IMAGE)
UNSUPPORTED = _decode(Reason.UNSUPPORTED_IMAGE)
TRUNCATED = _decode(Reason.TRUNCATED_IMAGE)
CORRUPT = _decode(Reason.CORRUPT_IMAGE)
TOO_MANY = _decode(Reason.TOO_MANY_PIXELS)
TOO_SMALL = _decode(Reason.TOO_SMALL)
TAIL = Failed(Stage.READ, Reason.SHARD_TRUNCATED)
COMPRESSED = Failed(Stage.READ, Reason.SHARD_COMPRESSED)
NO_TAR = Failed(Stage.READ, Reason.SHARD_UNREADABLE)
TOO_LARGE = Failed(Stage.READ, Reason.MEMBER_TOO_LARGE)
NO_TARGET = Failed(Stage.READ, Reason.LINK_WITHOUT_TARGET)

PNG, WEBP, TIFF = Ok(format="png"), Ok(format="webp"), Ok(format="tiff")

MAX_MEMBER_BYTES = 8 << 20
"""The size limit that :data:`SHARDS` expect.

With the default limit, a member of more than 256 MiB would be needed.
"""


# The following functions make images that are large only after they are unpacked.


def zlib_of_zeros(num_bytes: int) -> bytes:
    """Return a zlib stream of many zeros. Only one megabyte of zeros is in memory at a time."""
    step = 1 << 20
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    block = packer.compress(bytes(step)) + packer.flush(zlib.Z_FULL_FLUSH)
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    last = packer.compress(bytes(num_bytes % step)) + packer.flush()
    # For zeros, the first sum of Adler-32 stays 1, and the second sum counts the zeros.
    adler = (num_bytes % 65521) << 16 | 1
    return b"\x78\xda" + block * (num_bytes // step) + last + adler.to_bytes(4, "big")


def black_png(
    width: int, height: int, *, depth: int = 8, colour: int = 2, extra: bytes = b""
) -> bytes:
    """Return a PNG of zeros. ``colour`` is 0 for grey, 2 for RGB, 3 for palette, 6 for RGBA."""
    bands = {0: 1, 2: 3, 3: 1, 6: 4}[colour]
    row = 1 + (width * depth * bands + 7) // 8
    return (
        b"\x89PNG\r\n\x1a\n"
        + png_chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0))
        + extra
        + png_chunk(b"IDAT", zlib_of_zeros(row * height))
        + png_chunk(b"IEND", b"")
    )


def tiff_of(tags: Iterable[tuple[int, str, Any]], pixels: bytes = b"") -> bytes:
    """Return a little-endian TIFF with one page. Its pixels start at byte 8.

    Each entry of ``tags`` is (tag, struct code, value or values). The values are written unchanged,
    even if they are invalid.
    """
    entries, behind = b"", b""
    tags = sorted(tags)
    place = 8 + len(pixels) + 2 + 12 * len(tags) + 4
    for tag, code, value in tags:
        values = value if isinstance(value, tuple) else (value,)
        kind = {"B": 1, "H": 3, "I": 4, "d": 12}[code]
        body = struct.pack(f"<{len(values)}{code}", *values)
        if len(body) > 4:
            body, behind = struct.pack("<I", place + len(behind)), behind + body
        entries += struct.pack("<HHI", tag, kind, len(values)) + body.ljust(4, b"\0")
    head = b"II*\0" + struct.pack("<I", 8 + len(pixels))
    return head + pixels + struct.pack("<H", len(tags)) + entries + bytes(4) + behind


def plain_tiff(
    width: int, height: int, segment: bytes, compression: int, *more: tuple[int, str, Any]
) -> bytes:
    """Return an 8-bit RGB TIFF with one strip. ``more`` adds or replaces tags."""
    tags: dict[int, tuple[int, str, Any]] = {
        256: (256, "I", width),
        257: (257, "I", height),
        258: (258, "H", (8, 8, 8)),
        259: (259, "H", compression),
        262: (262, "H", 2),
        273: (273, "I", 8),
        277: (277, "H", 3),
        278: (278, "I", height),
        279: (279, "I", len(segment)),
    }
    tags |= {tag[0]: tag for tag in more}
    return tiff_of(tags.values(), segment)


def black_tiff(width: int, height: int, *more: tuple[int, str, Any], values: int = 3) -> bytes:
    """Return a TIFF of zeros with ``values`` bytes per pixel. All strips have the same position."""
    rows = 100
    strip = zlib_of_zeros(rows * width * values)
    count = -(-height // rows)
    places = [(273, "I", (8,) * count), (279, "I", (len(strip),) * count), (278, "I", rows)]
    return plain_tiff(width, height, strip, 8, *places, *more)


def jpeg_with_many_scans(count: int, size: tuple[int, int] = (WIDTH, HEIGHT)) -> bytes:
    """Return a progressive JPEG that refines the same coefficients many times."""
    data = encode(flat(size=size), "JPEG", progressive=True)
    last = data.rindex(b"\xff\xda")
    return data[:last] + data[last:-2] * count + b"\xff\xd9"


def j2k_claiming(width: int, height: int) -> bytes:
    data = bytearray(encode(flat(), "JPEG2000", no_jp2=True))
    place = data.index(b"\xff\x51")
    for field in (place + 6, place + 22):  # the size of the image, and of its only tile
        data[field : field + 8] = struct.pack(">II", width, height)
    return bytes(data)


def lerc_claiming(width: int, height: int) -> bytes:
    data = bytearray(imagecodecs.lerc_encode(np.zeros((HEIGHT, WIDTH, 3), np.uint8)))
    data[14:22] = struct.pack("<ii", height, width)
    return bytes(data)


# The following functions make damaged images.


def jpeg(**options: Any) -> bytes:
    return encode(noise(), "JPEG", quality=90, **options)


def with_segment(marker: int, body: bytes, *, claims: int | None = None) -> bytes:
    """Return a JPEG with one more segment at its start.

    ``claims`` is the length in the header of the segment. None means the correct length.
    """
    data = encode(flat(), "JPEG", quality=95)
    length = (len(body) + 2) if claims is None else claims
    return data[:2] + bytes([0xFF, marker]) + length.to_bytes(2, "big") + body + data[2:]


def png_with(*chunks: tuple[bytes, bytes]) -> bytes:
    """Return a PNG with more chunks after its header."""
    data = encode(flat(), "PNG")
    return data[:33] + b"".join(png_chunk(kind, body) for kind, body in chunks) + data[33:]


def flip(data: bytes, place: int, length: int = 1) -> bytes:
    flipped = bytes(byte ^ 0xFF for byte in data[place : place + length])
    return data[:place] + flipped + data[place + length :]


def marked_as(marker: int) -> bytes:
    """Return a JPEG whose frame header names a wrong coding."""
    data = jpeg()
    return data.replace(b"\xff\xc0", bytes([0xFF, marker]), 1)


def exif_of(*entries: tuple[int, int, int, bytes], first: int = 8, after: int = 0) -> bytes:
    """Return an EXIF block. Each entry is (tag, type, count, value of four bytes)."""
    body = b"".join(struct.pack("<HHI", *entry[:3]) + entry[3] for entry in entries)
    directory = struct.pack("<H", len(entries)) + body + struct.pack("<I", after)
    return b"Exif\0\0II*\0" + struct.pack("<I", first) + directory


def oriented(value: int) -> bytes:
    return corpus.rotated("JPEG", value, quality=95)


def webp_with_alien_chunk() -> bytes:
    data = encode(flat("RGBA", (*RED, 99)), "WEBP") + b"ODD!" + struct.pack("<I", 4) + b"1234"
    return data[:4] + struct.pack("<I", len(data) - 8) + data[8:]


def float_tiff(*values: float, dtype: Any = np.float32) -> bytes:
    array = ramp(dtype, 0, 1)
    array[0, : len(values)] = values
    return tiff(array)


def multi_page(sizes: Iterable[tuple[int, int]]) -> bytes:
    buffer = io.BytesIO()
    with tifffile.TiffWriter(buffer) as writer:
        for width, height in sizes:
            writer.write(np.full((height, width, 3), RED, np.uint8), photometric="rgb")
    return buffer.getvalue()


def tiff_with_directory_loop() -> bytes:
    """Return a TIFF whose first page refers to itself as the next page."""
    data = bytearray(tiff(np.array(flat()), photometric="rgb", metadata=None))
    first = int.from_bytes(data[4:8], "little")
    count = int.from_bytes(data[first : first + 2], "little")
    end = first + 2 + 12 * count
    data[end : end + 4] = struct.pack("<I", first)
    return bytes(data)


RGB = np.array(flat()).tobytes()
HTML = b"<!DOCTYPE html>\n<html><head><title>403 Forbidden</title></head><body>no</body></html>\n"
SVG = b'<svg xmlns="http://www.w3.org/2000/svg" width="48" height="32"><rect/></svg>'
LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"0" * 64 + b"\nsize 12345\n"


IMAGES: list[Kind] = [
    # Data that are not an image
    Kind("zero bytes", lambda: b"", EMPTY),
    Kind("one byte", lambda: b"\xff", NO_IMAGE),
    Kind("zeros", lambda: bytes(5000), NO_IMAGE),
    Kind("random bytes", lambda: np.random.default_rng(1).bytes(5000), NO_IMAGE),
    Kind("html error page", lambda: HTML, NO_IMAGE),
    Kind("html error page behind blank lines", lambda: b"\n\n  " + HTML, NO_IMAGE, "png"),
    Kind("html error page, gzipped", lambda: gzip.compress(HTML), NO_IMAGE),
    Kind("xml error of an object store", lambda: b"<?xml version='1.0'?><Error/>", NO_IMAGE),
    Kind("json error", lambda: b'{"error": "no such image"}', NO_IMAGE),
    Kind("svg", lambda: SVG, NO_IMAGE, "png"),
    Kind("svg with a byte order mark", lambda: b"\xef\xbb\xbf" + SVG, NO_IMAGE),
    Kind("git lfs pointer", lambda: LFS, NO_IMAGE, "tif"),
    Kind("text in utf-16", lambda: "a page about ships".encode("utf-16"), NO_IMAGE),
    Kind("a tar in a tar", lambda: make_tar([("a.jpg", jpeg())]), NO_IMAGE),
    Kind("zip", lambda: b"PK\x03\x04" + bytes(500), NO_IMAGE),
    Kind("jpeg, gzipped", lambda: gzip.compress(jpeg()), NO_IMAGE),
    Kind("jpeg behind one stray byte", lambda: b"\n" + jpeg(), NO_IMAGE),
    Kind("png with its line ends converted", lambda: encode(flat(), "PNG").replace(b"\r\n", b"\n"),
         NO_IMAGE, "png"),
    Kind("video", lambda: b"\x00\x00\x00\x18ftypisom" + bytes(500), NO_IMAGE),
    # Formats that are not supported
    Kind("pdf", lambda: b"%PDF-1.7\n" + bytes(500), UNSUPPORTED),
    Kind("bmp", lambda: encode(flat(), "BMP"), UNSUPPORTED),
    Kind("gif", lambda: encode(flat(), "GIF"), UNSUPPORTED),
    Kind("gif, animated", lambda: encode(flat(), "GIF", save_all=True, append_images=[noise()]),
         UNSUPPORTED),
    Kind("jpeg 2000", lambda: encode(flat(), "JPEG2000"), UNSUPPORTED),
    Kind("jpeg 2000, bare code", lambda: encode(flat(), "JPEG2000", no_jp2=True), UNSUPPORTED),
    Kind("heic", lambda: b"\x00\x00\x00\x18ftypheic" + bytes(500), UNSUPPORTED),
    Kind("avif", lambda: b"\x00\x00\x00\x20ftypavif" + bytes(500), UNSUPPORTED),
    Kind("jpeg xl", lambda: b"\xff\x0a" + bytes(500), UNSUPPORTED),
    Kind("ico", lambda: encode(flat(), "ICO"), UNSUPPORTED),
    Kind("psd", lambda: b"8BPS\x00\x01" + bytes(500), UNSUPPORTED),
    Kind("hdf5", lambda: b"\x89HDF\r\n\x1a\n" + bytes(500), UNSUPPORTED, "tif"),
    Kind("netcdf", lambda: b"CDF\x01" + bytes(500), UNSUPPORTED, "tif"),
    Kind("nitf", lambda: b"NITF02.10" + bytes(500), UNSUPPORTED, "tif"),
    # Files with the wrong extension
    Kind("png named jpg", lambda: encode(flat(), "PNG"), PNG, "jpg"),
    Kind("tiff named png", lambda: tiff(np.array(flat()), photometric="rgb"), TIFF, "png"),
    Kind("jpeg named tif", jpeg, Ok(), "tif"),
    Kind("webp named JPEG", lambda: encode(flat(), "WEBP"), WEBP, "JPEG"),
    # JPEG
    Kind("jpeg of its first three bytes", lambda: jpeg()[:3], TRUNCATED),
    Kind("jpeg cut in its header", lambda: jpeg()[:100], TRUNCATED),
    Kind("jpeg cut before its pixels", lambda: jpeg()[: jpeg().index(b"\xff\xda")], TRUNCATED),
    Kind("jpeg cut at its first pixel", lambda: jpeg()[: jpeg().index(b"\xff\xda") + 16],
         TRUNCATED),
    Kind("jpeg cut in the middle", lambda: cut(jpeg(), 0.5), TRUNCATED),
    Kind("jpeg cut at 99 percent", lambda: cut(jpeg(), 0.99), TRUNCATED),
    Kind("jpeg without its end mark", lambda: jpeg()[:-2], TRUNCATED),
    Kind("jpeg whose rest is zeros", lambda: cut(jpeg(), 0.5).ljust(len(jpeg()), b"\0"), TRUNCATED),
    Kind("jpeg, progressive", lambda: jpeg(progressive=True), Ok()),
    Kind("jpeg, progressive, cut in its first scan",
         lambda: jpeg(progressive=True)[: jpeg(progressive=True).index(b"\xff\xda") + 60],
         TRUNCATED),
    Kind("jpeg, progressive, cut between scans",
         lambda: jpeg(progressive=True)[: jpeg(progressive=True).rindex(b"\xff\xda")], TRUNCATED),
    Kind("jpeg, progressive, cut in its last scan", lambda: jpeg(progressive=True)[:-20],
         TRUNCATED),
    Kind("jpeg of 5000 scans", lambda: jpeg_with_many_scans(5000), CORRUPT),
    Kind("jpeg with garbage at the end", lambda: jpeg() + np.random.default_rng(2).bytes(9999),
         Ok()),
    Kind("jpeg with a video behind it", lambda: jpeg() + b"\xff\xda\x00\x02" * 999, Ok()),
    Kind("jpeg with garbage in its pixels", lambda: flip(jpeg(), 1200, 300), CORRUPT),
    Kind("jpeg without its tables", lambda: jpeg().replace(b"\xff\xdb", b"\xff\xfe"), CORRUPT),
    Kind("jpeg without its huffman tables", lambda: jpeg().replace(b"\xff\xc4", b"\xff\xfe"), Ok()),
    Kind("jpeg of two pictures", lambda: corpus.animated("MPO"), Ok()),
    Kind("jpeg grey", lambda: encode(flat("L", 77), "JPEG"), Ok()),
    Kind("jpeg cmyk, inverted as Adobe's", lambda: encode(flat("CMYK", (0, 255, 255, 0)), "JPEG"),
         Ok()),
    Kind("jpeg cmyk", corpus.jpeg_without_adobe_marker, Ok()),
    Kind("jpeg marked as arithmetic", lambda: marked_as(0xC9), Ok()),
    Kind("jpeg marked as lossless", lambda: marked_as(0xC3), UNSUPPORTED),
    Kind("jpeg of 12 bit",
         lambda: bytes(imagecodecs.jpeg_encode(ramp(np.uint16, 0, 4095), bitspersample=12)),
         UNSUPPORTED),
    Kind("jpeg, lossless", lambda: bytes(imagecodecs.ljpeg_encode(ramp(np.uint16, 0, 4095))),
         UNSUPPORTED),
    Kind("jpeg-ls", lambda: bytes(imagecodecs.jpegls_encode(ramp(np.uint8, 0, 255))), UNSUPPORTED),
    Kind("jpeg of height 0", lambda: corpus.jpeg_claiming(WIDTH, 0), CORRUPT),
    *(
        Kind(f"jpeg rotated by exif {value}", lambda value=value: oriented(value),
             Ok(HEIGHT, WIDTH) if 5 <= value <= 8 else Ok())
        for value in (*range(10), 65535)
    ),
    Kind("jpeg with broken exif", corpus.jpeg_with_broken_exif, Ok()),
    Kind("jpeg with exif cut off", lambda: with_segment(0xE1, b"Exif\0\0II"), Ok()),
    Kind("jpeg with an orientation in words",
         lambda: with_segment(0xE1, exif_of((0x0112, 2, 4, b"top\0"))), Ok()),
    Kind("jpeg with exif of four billion values",
         lambda: with_segment(0xE1, exif_of((0x0112, 3, 0xFFFFFFFF, b"\x06\0\0\0"))), Ok()),
    Kind("jpeg with an exif directory that is its own next",
         lambda: with_segment(0xE1, exif_of((0x8769, 4, 1, b"\x08\0\0\0"), after=8)), Ok()),
    Kind("jpeg with broken xmp",
         lambda: with_segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0<x tiff:Orientation='\xff"),
         Ok()),
    Kind("jpeg with a broken colour profile",
         lambda: with_segment(0xE2, b"ICC_PROFILE\0\x01\x01" + b"\x99" * 200), Ok()),
    Kind("jpeg with a colour profile in missing parts",
         lambda: with_segment(0xE2, b"ICC_PROFILE\0\x07\x02" + b"\x99" * 200), Ok()),
    Kind("jpeg with broken photoshop data",
         lambda: with_segment(0xED, b"Photoshop 3.0\x008BIM\x03\xed\xff\xff\xff\xff"), Ok()),
    Kind("jpeg with a segment beyond its end",
         lambda: cut(with_segment(0xE1, b"Exif\0\0", claims=65535), 0.9), TRUNCATED),
    Kind("jpeg with a segment of length 0", lambda: with_segment(0xE1, b"", claims=0), Ok()),
    Kind("jpeg with a megabyte of comments",
         lambda: b"\xff\xd8" + (b"\xff\xfe\xff\xff" + b"x" * 65533) * 16 + jpeg()[2:], Ok()),
    # PNG
    Kind("png of its signature", lambda: encode(noise(), "PNG")[:8], TRUNCATED, "png"),
    Kind("png cut in its header", lambda: encode(noise(), "PNG")[:25], TRUNCATED, "png"),
    Kind("png cut before its pixels", lambda: encode(noise(), "PNG")[:33], TRUNCATED, "png"),
    Kind("png cut in the middle", lambda: cut(encode(noise(), "PNG"), 0.5), TRUNCATED, "png"),
    # This PNG contains all its pixels.
    Kind("png without its end", lambda: encode(noise(), "PNG")[:-12], PNG, "png"),
    Kind("png with garbage at the end", lambda: encode(noise(), "PNG") + b"junk" * 99, PNG, "png"),
    Kind("png with garbage in its pixels", corpus.png_with_bad_crc, CORRUPT, "png"),
    Kind("png of a wrong header checksum", lambda: flip(encode(noise(), "PNG"), 30), CORRUPT,
         "png"),
    # The pixel data of this PNG end at the stated position, so Pillow leaves the other rows black.
    Kind("png of fewer rows than it says", lambda: black_png(48, 32).replace(
        *(png_chunk(b"IHDR", struct.pack(">IIBBBBB", 48, rows, 8, 2, 0, 0, 0))
          for rows in (32, 90))), Ok(48, 90, "png"), "png"),
    Kind("png of 0 x 0", lambda: corpus.png_claiming(0, 0), CORRUPT, "png"),
    Kind("png of a depth that is none", lambda: black_png(48, 32).replace(
        *(png_chunk(b"IHDR", struct.pack(">IIBBBBB", 48, 32, depth, 2, 0, 0, 0))
          for depth in (8, 7))), CORRUPT, "png"),
    Kind("png with an unknown chunk that matters", lambda: png_with((b"QQQQ", b"1")), PNG, "png"),
    Kind("png with a broken colour profile", lambda: png_with((b"iCCP", b"x\0\0nonsense")), PNG,
         "png"),
    Kind("png with a colour profile that is a bomb",
         lambda: png_with((b"iCCP", b"x\0\0" + zlib_of_zeros(1 << 30))), PNG, "png"),
    Kind("png with a text that is a bomb",
         lambda: png_with((b"zTXt", b"x\0\0" + zlib_of_zeros(1 << 30))), PNG, "png"),
    Kind("png with broken exif", lambda: png_with((b"eXIf", b"II*\0\xff\xff")), PNG, "png"),
    Kind("png with broken exif in a text",
         lambda: png_with((b"tEXt", b"Raw profile type exif\0\nexif\n   99\nzz")), PNG, "png"),
    Kind("png, animated", lambda: encode(flat(), "PNG", save_all=True, append_images=[noise()]),
         PNG, "png"),
    Kind("png palette with alpha", lambda: corpus.palette(True), PNG, "png"),
    Kind("png palette without its colours", lambda: black_png(48, 32, colour=3), PNG, "png"),
    Kind("png 16 bit", lambda: corpus.deep_png(3), PNG, "png"),
    Kind("png 16 bit cut", lambda: cut(corpus.deep_png(3), 0.6), TRUNCATED, "png"),
    Kind("png 16 bit grey and alpha", lambda: corpus.deep_png(2), PNG, "png"),
    Kind("png 1 bit", lambda: encode(flat("1", 1), "PNG"), PNG, "png"),
    # WebP
    Kind("webp of its first bytes", lambda: encode(noise(), "WEBP")[:14], TRUNCATED, "webp"),
    Kind("webp cut in the middle", lambda: cut(encode(noise(), "WEBP"), 0.5), TRUNCATED, "webp"),
    Kind("webp cut, lossless", lambda: cut(encode(noise(), "WEBP", lossless=True), 0.9), TRUNCATED,
         "webp"),
    Kind("webp with a length that is wrong",
         lambda: flip(encode(noise(), "WEBP"), 4, 4), TRUNCATED, "webp"),
    Kind("webp with garbage in its pixels",
         lambda: flip(encode(noise(), "WEBP", lossless=True), 30, 40), CORRUPT, "webp"),
    Kind("webp with an alien chunk", webp_with_alien_chunk, WEBP, "webp"),
    Kind("webp, animated", lambda: corpus.animated("WEBP"), WEBP, "webp"),
    Kind("webp animated, cut", lambda: cut(corpus.animated("WEBP"), 0.7), TRUNCATED, "webp"),
    Kind("webp with broken exif", lambda: encode(flat(), "WEBP", exif=b"Exif\0\0II*\0\xff"), WEBP,
         "webp"),
    # TIFF
    Kind("tiff of its first bytes", lambda: tiff(np.array(flat()))[:6], TRUNCATED, "tif"),
    Kind("tiff cut in its pixels", lambda: cut(tiff(np.array(noise()), photometric="rgb"), 0.5),
         TRUNCATED, "tif"),
    Kind("tiff cut before its directory",
         lambda: cut(encode(noise(), "TIFF", compression="tiff_lzw"), 0.8), TRUNCATED, "tif"),
    Kind("tiff cut in its directory", lambda: plain_tiff(48, 32, RGB, 1)[:-60], TRUNCATED, "tif"),
    Kind("tiff with garbage in its pixels", lambda: flip(
        tiff(np.array(noise()), photometric="rgb", compression="deflate"), 600, 99), CORRUPT,
         "tif"),
    Kind("tiff of 0 x 0", lambda: plain_tiff(0, 0, b"", 1), TOO_SMALL, "tif"),
    Kind("tiff without pixels", lambda: tiff_of([(256, "I", 48), (257, "I", 32)]), TRUNCATED,
         "tif"),
    Kind("tiff without a directory", lambda: b"II*\0" + bytes(40), CORRUPT, "tif"),
    Kind("tiff whose directory is its own next", tiff_with_directory_loop, TIFF, "tif"),
    Kind("tiff with four billion directory entries",
         lambda: b"II+\0\x08\0\0\0" + struct.pack("<QQ", 16, 1 << 40) + bytes(99), TRUNCATED,
         "tif"),
    Kind("tiff with pixels beyond its end",
         lambda: plain_tiff(48, 32, RGB, 1, (273, "I", 1 << 30)), TRUNCATED, "tif"),
    Kind("tiff with fewer pixels than it says", lambda: plain_tiff(48, 32, RGB[:-500], 1), CORRUPT,
         "tif"),
    Kind("tiff of a compression that is none", lambda: plain_tiff(48, 32, RGB, 4711), UNSUPPORTED,
         "tif"),
    Kind("tiff of a depth that is none",
         lambda: plain_tiff(48, 32, RGB, 1, (258, "H", (77, 77, 77))), CORRUPT, "tif"),
    Kind("tiff of bands of different depths",
         lambda: plain_tiff(48, 32, RGB, 1, (258, "H", (5, 6, 5))), UNSUPPORTED, "tif"),
    Kind("tiff of 65535 bands", lambda: plain_tiff(48, 32, RGB, 1, (277, "H", 65535)), CORRUPT,
         "tif"),
    Kind("tiff of lab colours", lambda: plain_tiff(48, 32, RGB, 1, (262, "H", 8)), UNSUPPORTED,
         "tif"),
    Kind("tiff with a nodata value in words",
         lambda: tiff(ramp(np.float32, 0, 1), extratags=[(42113, "s", 0, "none", True)]), TIFF,
         "tif"),
    Kind("tiff with broken geo keys",
         lambda: plain_tiff(48, 32, RGB, 1, (34735, "H", (1, 1, 0, 999, 7))), TIFF, "tif"),
    Kind("tiff with an absurd orientation", lambda: plain_tiff(48, 32, RGB, 1, (274, "H", 99)),
         TIFF, "tif"),
    Kind("tiff of many pages", lambda: multi_page([(48, 32)] * 40), TIFF, "tif"),
    Kind("tiff of pages of different sizes", lambda: multi_page([(48, 32), (9, 9), (300, 200)]),
         TIFF, "tif"),
    Kind("tiff whose second page is cut", lambda: multi_page([(48, 32), (48, 32)])[:-4000], TIFF,
         "tif"),
    Kind("tiff of a volume",
         lambda: tiff(np.zeros((16, 32, 48), np.uint16), volumetric=True, tile=(16, 16, 16)),
         UNSUPPORTED, "tif"),
    Kind("tiff 16 bit", lambda: tiff(ramp(np.uint16, 300, 5000)), TIFF, "tif"),
    Kind("tiff 16 bit cut", lambda: cut(tiff(ramp(np.uint16, 0, 9)), 0.7), TRUNCATED, "tif"),
    Kind("tiff float with nan and infinities",
         lambda: float_tiff(np.nan, np.inf, -np.inf, 3e38, -3e38, -0.0, 1e-45), TIFF, "tif"),
    Kind("tiff float, all nan", lambda: float_tiff(*[np.nan] * 48), TIFF, "tif"),
    Kind("tiff float64 from end to end",
         lambda: float_tiff(1.7e308, -1.7e308, dtype=np.float64), TIFF, "tif"),
    Kind("tiff float of nothing but nan",
         lambda: tiff(np.full((HEIGHT, WIDTH), np.nan, np.float16)), TIFF, "tif"),
    Kind("tiff complex with nan", lambda: float_tiff(np.nan, np.inf, dtype=np.complex64), TIFF,
         "tif"),
    # Very small, very long and very large images
    Kind("1 x 1", lambda: encode(flat(size=(1, 1)), "PNG"), TOO_SMALL, "png"),
    Kind("1 x 5000", lambda: encode(flat(size=(1, 5000)), "JPEG"), TOO_SMALL),
    Kind("7 x 7", lambda: encode(flat(size=(7, 7)), "WEBP"), TOO_SMALL, "webp"),
    Kind("8 x 8", lambda: encode(flat(size=(8, 8)), "JPEG"), Ok(8, 8)),
    Kind("9000 x 8", lambda: black_png(9000, 8), Ok(9000, 8, "png"), "png"),
    Kind("20000 x 20000 png", lambda: black_png(20_000, 20_000), TOO_MANY, "png"),
    Kind("20000 x 20000 png of 1 bit", lambda: black_png(20_000, 20_000, depth=1, colour=0),
         TOO_MANY, "png"),
    Kind("20000 x 20000 jpeg", lambda: corpus.jpeg_claiming(20_000, 20_000), TOO_MANY),
    Kind("20000 x 20000 tiff", lambda: black_tiff(20_000, 20_000), TOO_MANY, "tif"),
    Kind("bomb, png", lambda: corpus.png_claiming(60_000, 60_000), TOO_MANY, "png"),
    Kind("bomb, png of the largest size", lambda: corpus.png_claiming(2**31 - 1, 2**31 - 1),
         TOO_MANY, "png"),
    Kind("bomb, png of 16 bit", lambda: black_png(15_000, 15_000, depth=16, colour=6), TOO_MANY,
         "png"),
    Kind("bomb, png with more pixels than it says", lambda: black_png(48, 32).replace(
        png_chunk(b"IDAT", zlib_of_zeros(32 * 145)), png_chunk(b"IDAT", zlib_of_zeros(1 << 30))),
         PNG, "png"),
    Kind("bomb, jpeg", lambda: corpus.jpeg_claiming(65_500, 65_500), TOO_MANY),
    Kind("bomb, webp", lambda: corpus.webp_claiming(16_383, 16_383), TOO_MANY, "webp"),
    Kind("bomb, webp canvas", lambda: corpus.webp_claiming(1 << 24, 200), TOO_MANY, "webp"),
    Kind("bomb, tiff", lambda: corpus.tiff_claiming(60_000, 60_000), TOO_MANY, "tif"),
    Kind("bomb, tiff of the largest size", lambda: plain_tiff(2**32 - 1, 2**32 - 1, RGB, 1),
         TOO_MANY, "tif"),
    Kind("bomb, tiff of few pixels and many bands",
         lambda: plain_tiff(2000, 2000, zlib_of_zeros(9), 8, (277, "H", 2000),
                            (258, "H", (8,) * 2000)), TOO_MANY, "tif"),
    Kind("bomb, tiff of deflate", lambda: plain_tiff(48, 32, zlib_of_zeros(1 << 30), 8), CORRUPT,
         "tif"),
    Kind("bomb, tiff of zstd",
         lambda: plain_tiff(48, 32, bytes(imagecodecs.zstd_encode(bytes(1 << 24))), 50000),
         CORRUPT, "tif"),
    Kind("bomb, tiff of lzma", lambda: plain_tiff(48, 32, lzma.compress(bytes(1 << 24)), 34925),
         TIFF, "tif"),
    Kind("bomb, tiff of jpeg", lambda: plain_tiff(48, 32, corpus.jpeg_claiming(65_500, 65_500), 7),
         CORRUPT, "tif"),
    Kind("bomb, tiff of png",
         lambda: plain_tiff(48, 32, black_png(30_000, 30_000), 34933), CORRUPT, "tif"),
    Kind("bomb, tiff of webp",
         lambda: plain_tiff(48, 32, corpus.webp_claiming(16_000, 16_000), 50001), CORRUPT, "tif"),
    Kind("bomb, tiff of jpeg 2000",
         lambda: plain_tiff(48, 32, j2k_claiming(30_000, 30_000), 34712), CORRUPT, "tif"),
    Kind("bomb, tiff of lerc", lambda: plain_tiff(48, 32, lerc_claiming(30_000, 30_000), 34887),
         CORRUPT, "tif"),
    Kind("bomb, tiff of jpeg xl", lambda: plain_tiff(48, 32, b"\xff\x0a" + bytes(99), 50002),
         UNSUPPORTED, "tif"),
    Kind("bomb, tiff of one enormous tile",
         lambda: plain_tiff(48, 32, zlib_of_zeros(1 << 20), 8, (322, "I", 60_000),
                            (323, "I", 60_000), (324, "I", 8), (325, "I", 1041)), CORRUPT, "tif"),
]  # fmt: skip


# The following functions make bad shards.


def good(seed: int = 1) -> bytes:
    return encode(flat(colour=(seed * 37 % 256, seed * 59 % 256, 90)), "JPEG")


A, B, C = ("a.jpg", good(1)), ("b.jpg", good(2)), ("c.jpg", good(3))


def raw(
    name: str | bytes,
    data: bytes = b"",
    *,
    kind: bytes = tarfile.REGTYPE,
    size: int | None = None,
    link: str = "",
    **fields: bytes,
) -> bytes:
    """Return one member with an old-style header. Such a header accepts any values.

    Args:
        name: name of the member, at most 100 bytes.
        data: data after the header. Padding is added.
        kind: the type flag.
        size: size in the header; None for the size of ``data``.
        link: target of the link.
        **fields: other fields of the header (``size_field``, ``mode_field``, …). They are written
            unchanged.
    """
    header = tarfile.TarInfo("x")
    header.type, header.linkname = kind, link
    header.size = len(data) if size is None else size
    block = bytearray(header.tobuf(tarfile.GNU_FORMAT))
    block[:100] = (name.encode() if isinstance(name, str) else name).ljust(100, b"\0")
    places = {"mode_field": 100, "size_field": 124, "mtime_field": 136, "magic_field": 257}
    for field, value in fields.items():
        block[places[field] : places[field] + len(value)] = value
    return sealed(bytes(block)) + data + bytes(-len(data) % tarfile.BLOCKSIZE)


def sealed(block: bytes) -> bytes:
    """Return a header with a correct checksum."""
    blank = block[:148] + b" " * 8 + block[156:]
    return block[:148] + b"%06o\0 " % sum(blank) + block[156:]


def pax(records: dict[str, str] | bytes, kind: bytes = tarfile.XHDTYPE) -> bytes:
    """Return an extended header for the next member. Bytes are used as raw records."""
    if isinstance(records, dict):
        body = b""
        for key, value in records.items():
            text = f" {key}={value}\n".encode("utf-8", "surrogateescape")
            length = len(text) + 1
            while len(str(length)) + len(text) != length:
                length = len(str(length)) + len(text)
            body += str(length).encode() + text
        records = body
    return raw("PaxHeaders/x", records, kind=kind)


END = bytes(2 * tarfile.BLOCKSIZE)


def members(*entries: Entry) -> bytes:
    """Return members without an end-of-archive marker."""
    return b"".join(raw(name, data if isinstance(data, bytes) else b"") for name, data in entries)


def linked(kind: bytes, target: str, name: str = "b.jpg") -> bytes:
    return members(A) + raw(name, kind=kind, link=target) + members(C) + END


def with_sidecar(content: bytes | str | dict[str, Any], name: str = "b.json") -> bytes:
    return make_tar([A, B, (name, content), C])


def sidecar(**values: Any) -> bytes:
    return with_sidecar(json.dumps(values))


def named(name: str, tar_format: int = tarfile.PAX_FORMAT) -> bytes:
    return make_tar([A, (name, good(9)), C], tar_format)


def around(middle: tuple[tuple[str, Outcome], ...]) -> tuple[tuple[str, Outcome], ...]:
    return (("a.jpg", Ok()), *middle, ("c.jpg", Ok()))


def name_kind(what: str, name: str, *, tar_format: int = tarfile.PAX_FORMAT) -> ShardKind:
    return ShardKind(f"name {what}", lambda: named(name, tar_format), around(((name, Ok()),)))


def sidecar_kind(what: str, build: Callable[[], bytes], expected: Ok) -> ShardKind:
    return ShardKind(f"sidecar {what}", build, around((("b.jpg", expected),)))


def sparse_shard() -> bytes:
    """Return a shard with a sparse file, as ``tar --sparse`` writes it.

    The member contains the stored parts of the file and a map of their positions.
    """
    image = good(9) + bytes(3000)
    stored = f"1\n0\n{len(good(9))}\n".encode().ljust(512, b"\0") + good(9)
    names = {"GNU.sparse.name": "sparse.jpg", "GNU.sparse.realsize": str(len(image))}
    head = pax({"GNU.sparse.major": "1", "GNU.sparse.minor": "0", **names})
    return members(A) + head + raw("GNUSparseFile.0/sparse.jpg", stored) + members(C) + END


def sparse_bomb() -> bytes:
    """Return a shard with a sparse member of half a kilobyte. Its header describes a terabyte."""
    names = {"GNU.sparse.name": "sparse.jpg", "GNU.sparse.realsize": str(1 << 40)}
    head = pax({"GNU.sparse.major": "1", "GNU.sparse.minor": "0", **names})
    stored = b"1\n0\n5\n".ljust(512, b"\0") + b"hello"
    return members(A) + head + raw("GNUSparseFile.0/sparse.jpg", stored) + members(C) + END


ALL_OK = (("a.jpg", Ok()), ("b.jpg", Ok()), ("c.jpg", Ok()))
A_THEN_TAIL = (("a.jpg", Ok()), ("", TAIL))
LONG = "n" * 400 + ".jpg"
DEEP = "d/" * 400 + "x.jpg"
_ITEM = {"type": "Feature", "properties": {"datetime": "2020-06-01T12:00:00Z"}}


SHARDS: list[ShardKind] = [
    # Shards with a missing or damaged end
    ShardKind("empty file", lambda: b"", (("", NO_TAR),)),
    ShardKind("tar of no members", lambda: make_tar([]), ()),
    ShardKind("one block of zeros", lambda: bytes(512), ()),
    ShardKind("no tar but text", lambda: HTML * 50, (("", NO_TAR),)),
    ShardKind("no tar but an image", lambda: jpeg(), (("", NO_TAR),)),
    ShardKind("no tar but a zip", lambda: b"PK\x03\x04" + bytes(2000), (("", NO_TAR),)),
    ShardKind("tar in gzip", lambda: gzip.compress(make_tar([A])), (("", COMPRESSED),)),
    ShardKind("tar in bzip2", lambda: bz2.compress(make_tar([A])), (("", COMPRESSED),)),
    ShardKind("tar in xz", lambda: lzma.compress(make_tar([A]), preset=0), (("", COMPRESSED),)),
    ShardKind("tar in zstd", lambda: bytes(imagecodecs.zstd_encode(make_tar([A]))),
              (("", COMPRESSED),)),
    ShardKind("tar without its end mark", lambda: members(A, B, C), (*ALL_OK, ("", TAIL))),
    ShardKind("tar with half an end mark", lambda: members(A, B, C) + bytes(512), ALL_OK),
    ShardKind("tar cut in its padding", lambda: make_tar([A, B, C])[:-3000], ALL_OK),
    ShardKind("tar cut in its first header", lambda: make_tar([A])[:300], (("", NO_TAR),)),
    ShardKind("tar cut in a later header", lambda: members(A) + members(B)[:300], A_THEN_TAIL),
    ShardKind("tar cut behind a header", lambda: members(A) + members(B)[:512], A_THEN_TAIL),
    ShardKind("tar cut in an image", lambda: members(A) + members(B)[:700], A_THEN_TAIL),
    ShardKind("tar cut in a sidecar", lambda: members(A, B, ("b.json", b"x" * 900))[:-600],
              (("a.jpg", Ok()), ("b.jpg", Ok()), ("", TAIL))),
    ShardKind("tar cut in the padding of an image",
              lambda: members(A, ("b.jpg", good(2) + b"x"))[:-1],
              (("a.jpg", Ok()), ("b.jpg", Ok()), ("", TAIL))),
    ShardKind("tar whose rest is zeros", lambda: members(A) + bytes(3 << 20), A_THEN_TAIL),
    ShardKind("two tars in one file", lambda: make_tar([A]) + make_tar([B]), A_THEN_TAIL),
    ShardKind("tar with garbage at the end", lambda: make_tar([A]) + b"junk" * 200, A_THEN_TAIL),
    # Damaged and unusual headers
    ShardKind("garbage between members",
              lambda: members(A) + np.random.default_rng(3).bytes(512) + members(C) + END,
              A_THEN_TAIL),
    ShardKind("garbage of half a block", lambda: members(A) + b"\x01" * 256 + members(C) + END,
              A_THEN_TAIL),
    ShardKind("wrong checksum at the begin", lambda: flip(members(A, C), 100) + END,
              (("", NO_TAR),)),
    ShardKind("wrong checksum in the middle",
              lambda: members(A) + flip(members(B), 100) + members(C) + END, A_THEN_TAIL),
    ShardKind("checksum of no digits",
              lambda: members(A) + members(B)[:148] + b"x" * 8 + members(B)[156:] + END,
              A_THEN_TAIL),
    ShardKind("size of no digits",
              lambda: members(A) + raw(*B, size_field=b"12345zzzzzz\0") + END, A_THEN_TAIL),
    ShardKind("negative size",
              lambda: members(A) + raw(*B, size_field=b"\xff" * 12) + members(C) + END,
              A_THEN_TAIL),
    ShardKind("size of an exabyte",
              lambda: members(A) + raw(*B, size_field=b"\x80" + b"\0" * 4 + b"\x10" + b"\0" * 6)
              + members(C) + END, (("a.jpg", Ok()), ("b.jpg", TOO_LARGE), ("", TAIL))),
    ShardKind("size beyond the end", lambda: members(A) + raw(*B, size=1 << 20) + END,
              A_THEN_TAIL),
    ShardKind("no time of change", lambda: members(A) + raw(*B, mtime_field=b" " * 12)
              + members(C) + END, ALL_OK),
    ShardKind("header of the oldest kind", lambda: members(A) + raw(*B, magic_field=bytes(8))
              + members(C) + END, ALL_OK),
    ShardKind("unknown type of member", lambda: members(A) + raw(*B, kind=b"Z")
              + members(C) + END, around(())),
    ShardKind("pax header that claims gigabytes", lambda: members(A)
              + raw("x", b"", kind=tarfile.XHDTYPE, size=3 << 30) + members(C) + END,
              A_THEN_TAIL),
    ShardKind("pax record of length 0", lambda: members(A) + pax(b"0 path=q.jpg\n")
              + members(B, C) + END, A_THEN_TAIL),
    ShardKind("pax size of no digits", lambda: members(A) + pax({"size": "many"})
              + members(B, C) + END, (("a.jpg", Ok()), ("b.jpg", EMPTY), ("", TAIL))),
    ShardKind("pax negative size", lambda: members(A) + pax({"size": "-512"})
              + members(B, C) + END, A_THEN_TAIL),
    ShardKind("pax time that is no number", lambda: members(A) + pax({"mtime": "nan"})
              + members(B, C) + END, ALL_OK),
    ShardKind("pax header for nobody", lambda: members(A) + pax({"path": "q.jpg"}) + END,
              A_THEN_TAIL),
    ShardKind("long name for nobody", lambda: members(A)
              + raw("././@LongLink", b"q" * 200, kind=tarfile.GNUTYPE_LONGNAME) + END,
              A_THEN_TAIL),
    ShardKind("long name that claims gigabytes", lambda: members(A)
              + raw("././@LongLink", b"", kind=tarfile.GNUTYPE_LONGNAME, size=3 << 30) + END,
              A_THEN_TAIL),
    ShardKind("two thousand pax headers in a row",
              lambda: members(A) + pax({"comment": "x"}) * 2000 + members(B, C) + END,
              A_THEN_TAIL),
    # Members that are not files
    ShardKind("folders", lambda: members(A) + raw("d.jpg", kind=tarfile.DIRTYPE) + members(C) + END,
              around(())),
    ShardKind("symbolic link", lambda: linked(tarfile.SYMTYPE, "a.jpg"),
              around((("b.jpg", Ok()),))),
    ShardKind("symbolic link to a file of the system",
              lambda: linked(tarfile.SYMTYPE, "/etc/passwd"), around((("b.jpg", NO_TARGET),))),
    ShardKind("symbolic link to itself", lambda: linked(tarfile.SYMTYPE, "self.jpg", "self.jpg"),
              around((("self.jpg", NO_TARGET),))),
    ShardKind("hard link", lambda: linked(tarfile.LNKTYPE, "a.jpg"),
              around((("b.jpg", Ok()),))),
    ShardKind("hard link out of the archive", lambda: linked(tarfile.LNKTYPE, "../../canary.jpg"),
              around((("b.jpg", NO_TARGET),))),
    ShardKind("device", lambda: linked(tarfile.CHRTYPE, ""), around(())),
    ShardKind("pipe", lambda: linked(tarfile.FIFOTYPE, ""), around(())),
    ShardKind("debris of a Mac", lambda: make_tar(
        [A, ("._b.jpg", b"\0\5\x16\7"), ("__MACOSX/b.jpg", b"x"), C]), around(())),
    ShardKind("sparse member", sparse_shard, around((("sparse.jpg", Ok()),))),
    ShardKind("sparse member of a terabyte", sparse_bomb, around((("sparse.jpg", TOO_LARGE),))),
    # Unusual members
    ShardKind("member of no bytes", lambda: make_tar([A, ("b.jpg", b""), C]),
              around((("b.jpg", EMPTY),))),
    ShardKind("member larger than the limit",
              lambda: make_tar([A, ("b.jpg", bytes(MAX_MEMBER_BYTES + 1)), C]),
              around((("b.jpg", TOO_LARGE),))),
    ShardKind("member of just the limit",
              lambda: make_tar([A, ("b.jpg", good(2).ljust(MAX_MEMBER_BYTES - 2, b"\0")
                                    + b"\xff\xd9"), C]), ALL_OK),
    ShardKind("names twice, apart", lambda: make_tar([A, C, ("a.jpg", good(4))]),
              (("a.jpg", Ok()), ("c.jpg", Ok()), ("a.jpg", Ok()))),
    ShardKind("names twice, side by side", lambda: make_tar([A, ("a.jpg", b"junk" * 9), A]),
              (("a.jpg", Ok()), ("a.jpg", NO_IMAGE), ("a.jpg", Ok()))),
    ShardKind("keys twice, of two formats", lambda: make_tar([A, ("a.png", encode(flat(), "PNG"))]),
              (("a.jpg", Ok()), ("a.png", PNG))),
    ShardKind("names that differ by their case", lambda: make_tar([A, ("A.JPG", good(4))]),
              (("a.jpg", Ok()), ("A.JPG", Ok()))),
    # Unusual names
    name_kind("in unicode", "straße/日本/🛰 é.jpg"),
    name_kind("in unicode, GNU", "straße/日本/🛰 é.jpg", tar_format=tarfile.GNU_FORMAT),
    name_kind("of right-to-left and zero-width characters", "\u202egpj\u202c\u200b.jpg"),
    name_kind("with a newline", "two\nlines.jpg"),
    name_kind("with control characters", "bell\x07\x1b[31m.jpg"),
    name_kind("with quotes", "o'clock \"x\" `y`.jpg"),
    name_kind("that is a query", "'; DROP TABLE images; --.jpg"),
    name_kind("with signs of an address", "a#b?c=%20&d%2e%2e.jpg"),
    name_kind("with backslashes", "x\\..\\windows\\x.jpg"),
    name_kind("with spaces at its ends", " x .jpg"),
    ShardKind("name of nothing but a suffix, which is hidden",
              lambda: named(".jpg"), around(())),
    name_kind("of two suffixes", "x.tar.gz.jpg"),
    name_kind("that is very long, PAX", LONG),
    name_kind("that is very long, GNU", LONG, tar_format=tarfile.GNU_FORMAT),
    name_kind("that is very deep, PAX", DEEP),
    name_kind("that is very deep, GNU", DEEP, tar_format=tarfile.GNU_FORMAT),
    name_kind("of 100,000 characters", "n" * 100_000 + ".jpg"),
    name_kind("that leads out", "../../canary/escaped.jpg"),
    name_kind("that leads out, GNU", "../../canary/escaped.jpg", tar_format=tarfile.GNU_FORMAT),
    name_kind("that leads out by and by", "x/../../../canary/./escaped.jpg"),
    ShardKind("name that is absolute", lambda: members(A, ("/canary/x.jpg", good(9)), C) + END,
              around((("/canary/x.jpg", Ok()),))),
    ShardKind("name that is not UTF-8",
              lambda: members(A) + raw(b"sch\xf6n.jpg", good(9)) + members(C) + END,
              around(((r"sch\xf6n.jpg", Ok()),))),
    ShardKind("name that is not UTF-8, PAX",
              lambda: members(A) + pax({"path": "sch\udcf6n.jpg"}) + members(B, C) + END,
              around(((r"sch\xf6n.jpg", Ok()),))),
    ShardKind("name with a zero in it, PAX",
              lambda: members(A) + pax({"path": "x\0y.jpg"}) + members(B, C) + END,
              around((("x\0y.jpg", Ok()),))),
    ShardKind("no name", lambda: members(A) + raw("", good(9)) + members(C) + END, around(())),
    ShardKind("name of no suffix", lambda: make_tar([A, ("picture", good(9)), C]), around(())),
    # Damaged and unusual sidecars
    sidecar_kind("that does not parse", lambda: with_sidecar(b"{nope"), Ok(sidecar_error=True)),
    sidecar_kind("of no bytes", lambda: with_sidecar(b""), Ok(sidecar_error=True)),
    sidecar_kind("cut off", lambda: with_sidecar(json.dumps(_ITEM)[:-9]), Ok(sidecar_error=True)),
    sidecar_kind("that is a list", lambda: with_sidecar("[1, 2]"), Ok(sidecar_error=True)),
    sidecar_kind("that is null", lambda: with_sidecar("null"), Ok(sidecar_error=True)),
    sidecar_kind("that is no text", lambda: with_sidecar(b"\xff\xfe\x00\xd8" * 9),
                 Ok(sidecar_error=True)),
    sidecar_kind("of 100,000 brackets", lambda: with_sidecar('{"a":' + "[" * 100_000),
                 Ok(sidecar_error=True)),
    sidecar_kind("of two megabytes", lambda: sidecar(x="y" * (2 << 20)), Ok(sidecar_error=True)),
    sidecar_kind("with a number of 9000 digits",
                 lambda: with_sidecar('{"gsd": ' + "9" * 9000 + "}"), Ok(sidecar_error=True)),
    sidecar_kind("with lone surrogates", lambda: with_sidecar(r'{"x": "\ud800", "\udfff": 1}'),
                 Ok()),
    sidecar_kind("with zeros in its text", lambda: sidecar(x="a\0b"), Ok()),
    sidecar_kind("with a key twice", lambda: with_sidecar('{"gsd": 1, "gsd": "far"}'),
                 Ok(invalid=("gsd",))),
    sidecar_kind("with nan", lambda: with_sidecar('{"gsd": NaN, "bbox": [NaN, 1, 2, Infinity]}'),
                 Ok(invalid=("bbox", "gsd"))),
    sidecar_kind("with a number without end", lambda: with_sidecar('{"gsd": 1e999}'),
                 Ok(invalid=("gsd",))),
    sidecar_kind("with an absurd gsd", lambda: sidecar(gsd=-3), Ok(invalid=("gsd",))),
    sidecar_kind("with a box off the globe", lambda: sidecar(bbox=[0, 0, 500, 95]),
                 Ok(invalid=("bbox",))),
    sidecar_kind("with a box upside down", lambda: sidecar(bbox=[1, 9, 2, 3]),
                 Ok(invalid=("bbox",))),
    sidecar_kind("with a box of metres", lambda: sidecar(bbox=[6e5, 5e6, 6.1e5, 5.1e6]),
                 Ok(invalid=("bbox",))),
    sidecar_kind("with a box of words", lambda: sidecar(bbox="everywhere"), Ok(invalid=("bbox",))),
    sidecar_kind("with a box of three", lambda: sidecar(bbox=[1, 2, 3]), Ok(invalid=("bbox",))),
    sidecar_kind("with a box of huge numbers", lambda: sidecar(bbox=[10**400, 1, 2, 3]),
                 Ok(invalid=("bbox",))),
    sidecar_kind("with an absurd time", lambda: sidecar(datetime="2020-13-45T99:99:99Z"),
                 Ok(invalid=("datetime",))),
    sidecar_kind("with a time of words", lambda: sidecar(datetime="last summer"),
                 Ok(invalid=("datetime",))),
    sidecar_kind("with a time before the years",
                 lambda: sidecar(datetime="0001-01-01T00:00:00+14:00"), Ok(invalid=("datetime",))),
    sidecar_kind("with the last time there is", lambda: sidecar(datetime="9999-12-31T23:59:59Z"),
                 Ok()),
    sidecar_kind("with a time that is a number", lambda: sidecar(datetime=1.6e9),
                 Ok(invalid=("datetime",))),
    sidecar_kind("with an absurd collection", lambda: sidecar(collection={"a": 1}),
                 Ok(invalid=("collection",))),
    sidecar_kind("that claims to have failed", lambda: sidecar(status="failed", failure="x",
                 _sidecar_error=None, data="x"), Ok()),
    sidecar_kind("in text that is not UTF-8", lambda: with_sidecar(b"sch\xf6n\xff\0", "b.txt"),
                 Ok()),
]  # fmt: skip
