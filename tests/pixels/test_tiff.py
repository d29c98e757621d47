"""Test TIFF tags that writers omit or round, and the choice of bands."""

from __future__ import annotations

import io
import struct
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image

from skytext.errors import Reason, SampleError
from skytext.pixels.decode import ImageLimits, decode_rgb, inspect_image, normalise
from tests.pixels.image_corpus import (
    BLACK,
    HEIGHT,
    RED,
    WHITE,
    WIDTH,
    Colour,
    encode,
    flat,
    ramp,
    tiff,
)

BITS, COMPRESSION, PHOTOMETRIC, SAMPLES, STRIP_ROWS = 258, 259, 262, 277, 278
STRIP_BYTES, PLANAR, EXTRA_SAMPLES, SAMPLE_FORMAT = 279, 284, 338, 339
ORIENTATION, SOFTWARE, NODATA = 274, 305, 42113
RED_BANDS = np.array(flat())
LEAST = -3.4028234663852886e38
GREY = np.full((HEIGHT, WIDTH), 77, np.uint8)


def rewritten(data: bytes, *without: int, instead: dict[int, bytes] | None = None) -> bytes:
    """Remove some tags of a little-endian TIFF, and replace some entries of its directory."""
    (start,) = struct.unpack_from("<I", data, 4)
    (count,) = struct.unpack_from("<H", data, start)
    end = start + 2 + 12 * count
    entries = [data[place : place + 12] for place in range(start + 2, end, 12)]
    kept = [
        (instead or {}).get(code, entry)
        for entry in entries
        for code in struct.unpack_from("<H", entry)
        if code not in without
    ]
    assert len(kept) == count - len(without), "a tag to leave out was not there"
    directory = struct.pack("<H", len(kept)) + b"".join(kept) + data[end : end + 4]
    return data[:start] + directory + data[start + len(directory) :]


def entry(code: int, *values: int) -> bytes:
    """Return a directory entry with one or two 16-bit numbers."""
    return struct.pack("<HHIHH", code, 3, len(values), *values, *[0] * (2 - len(values)))


def plain(array: Any, **options: Any) -> bytes:
    return tiff(array, metadata=None, **options)


def rgb(**options: Any) -> bytes:
    return plain(RED_BANDS, photometric="rgb", **options)


def pixel(data: bytes, x: int = 5, bands: tuple[int, ...] | None = None) -> Colour:
    colour = decode_rgb(normalise(data, ImageLimits(bands=bands)).data).getpixel((x, 5))
    assert isinstance(colour, tuple)
    red, green, blue = colour
    return red, green, blue


@pytest.mark.parametrize(
    "data",
    [
        rgb(),
        rgb(compression="deflate"),
        rgb(compression="jpeg"),
        encode(flat(), "TIFF", compression="jpeg"),
        plain(np.moveaxis(RED_BANDS, -1, 0), photometric="rgb", planarconfig="separate"),
        plain(np.dstack([RED_BANDS, GREY]), photometric="rgb", extrasamples=["unassalpha"]),
    ],
    ids=["plain", "deflate", "jpeg", "jpeg by Pillow", "planar", "with a fourth band"],
)
def test_colours_without_a_photometric_tag_are_not_inverted(data: bytes) -> None:
    assert np.abs(np.subtract(pixel(rewritten(data, PHOTOMETRIC)), RED)).max() <= 4


@pytest.mark.parametrize(
    ("data", "ends"),
    [
        (plain(ramp(np.uint8, 0, 255)), (BLACK, WHITE)),
        (plain(ramp(np.uint16, 0, 999)), (BLACK, WHITE)),
        (
            tiff(ramp(np.uint16, 0, 999, 2), photometric="minisblack", planarconfig="contig"),
            (BLACK, WHITE),
        ),
        (plain(ramp(np.float32, 0, 1)), (BLACK, WHITE)),
        (plain(ramp(np.uint8, 0, 1), compression="packbits"), (BLACK, (1, 1, 1))),
    ],
    ids=["8 bit", "16 bit", "2 bands", "float", "packbits"],
)
def test_grey_without_a_photometric_tag_is_not_inverted(
    data: bytes, ends: tuple[Colour, Colour]
) -> None:
    there = rewritten(data, PHOTOMETRIC)
    assert (pixel(there, 0), pixel(there, WIDTH - 1)) == ends


def test_a_fax_without_a_photometric_tag_has_white_as_zero() -> None:
    data = encode(flat("1", 0), "TIFF", compression="group4")
    assert pixel(data) == BLACK
    assert pixel(rewritten(data, PHOTOMETRIC)) == WHITE


def colours(scale: int) -> Any:
    table = np.zeros((3, 256), np.uint16)
    table[:, 77] = RED
    return table * scale


@pytest.mark.parametrize("without", [(), (PHOTOMETRIC,)], ids=["whole", "no photometric tag"])
@pytest.mark.parametrize("scale", [1, 257], ids=["8 bit", "16 bit"])
def test_a_palette_of_either_depth_gives_its_colours(without: tuple[int], scale: int) -> None:
    data = plain(GREY, photometric="palette", colormap=colours(scale))
    assert pixel(rewritten(data, *without)) == RED


@pytest.mark.parametrize(
    "without",
    [(COMPRESSION,), (STRIP_ROWS,), (STRIP_BYTES,), (PLANAR,), (SAMPLE_FORMAT,)],
)
def test_defaults_of_tiff_hold_for_tags_that_are_missing(without: tuple[int]) -> None:
    data = rgb()
    present = [code for code in without if code != SAMPLE_FORMAT]  # tifffile omits this tag
    assert pixel(rewritten(data, *present)) == RED


@pytest.mark.parametrize("extra", [(), (EXTRA_SAMPLES,), (EXTRA_SAMPLES, PHOTOMETRIC)])
def test_a_fourth_sample_that_no_tag_explains_is_left_out(extra: tuple[int, ...]) -> None:
    data = plain(np.dstack([RED_BANDS, GREY]), photometric="rgb", extrasamples=["unspecified"])
    assert pixel(rewritten(data, *extra)) == RED


@pytest.mark.parametrize(
    ("code", "value"), [(BITS, (8,)), (ORIENTATION, (0,)), (ORIENTATION, (1, 1))]
)
def test_tags_of_another_length_or_without_meaning_do_no_harm(
    code: int, value: tuple[int, ...]
) -> None:
    replaced = code if code == BITS else SOFTWARE
    assert pixel(rewritten(tiff(RED_BANDS, photometric="rgb", software="x" * 9), instead={
        replaced: entry(code, *value)
    })) == RED  # fmt: skip


@pytest.mark.parametrize(
    ("data", "word"),
    [
        (rewritten(rgb(), SAMPLES), "BitsPerSample has 3 values, but a pixel has 1 samples"),
        (rewritten(rgb(), BITS), "BitsPerSample is missing"),
        (rewritten(plain(GREY), BITS), "BitsPerSample is missing"),
        (
            rewritten(
                plain(np.moveaxis(RED_BANDS, -1, 0), photometric="rgb", planarconfig="separate"),
                PLANAR,
            ),
            "PlanarConfiguration is missing",
        ),
    ],
)
def test_a_page_that_a_default_would_scramble_is_refused(data: bytes, word: str) -> None:
    with pytest.raises(SampleError, match=word) as caught:
        normalise(data)
    assert caught.value.reason is Reason.UNSUPPORTED_IMAGE


@pytest.mark.parametrize(
    ("compression", "without"),
    [("raw", ()), ("packbits", (BITS,)), ("tiff_lzw", (BITS,)), ("group4", (BITS,))],
)
def test_one_bit_needs_no_depth(compression: str, without: tuple[int, ...]) -> None:
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 2, (32, 48), np.uint8) > 0)
    data = encode(picture, "TIFF", compression=compression)
    data = rewritten(data, *without)
    assert decode_rgb(normalise(data).data).tobytes() == picture.convert("RGB").tobytes()


@pytest.mark.parametrize(
    ("missing", "text", "dtype"),
    [
        (LEAST, "-3.4028234663852886e+38", np.float32),
        (LEAST, "-3.40282346638528860e+38", np.float32),
        (LEAST, "-3.4028235e+38", np.float32),
        (LEAST, "-3.40282e+38", np.float32),
        (LEAST, "-3.402823e+38", np.float32),
        (LEAST, "-3.403e+38", np.float32),
        (LEAST, "-3.4e+38", np.float32),
        (LEAST, "-340282346638528859811704183484516925440.000000", np.float32),
        (LEAST, "-3.40282e+38", np.float64),
        (-1.7976931348623157e308, "-1.79769e+308", np.float64),
        (-1.7976931348623157e308, "-1.797693134862316e+308", np.float64),
        (9.969209968386869e36, "9.96921e+36", np.float32),
        (1e20, "1e+20", np.float32),
        (-9999.0, "-9999", np.float32),
        (-9999.0, " -9999.0 \0", np.float32),
        (-9999.1, "-9999.1", np.float32),
        (-9999.0, "-9999 -9999 -9999", np.float32),
        (0, " 0 ", np.uint16),
        (65535, "65535.000000", np.uint16),
        (-32768, "-3.2768e+04", np.int16),
        (-2147483648, "-2.14748e+09", np.int32),
        (4294967295, "4.29497e+09", np.uint32),
        (LEAST, None, np.float32),
        (LEAST, "nan", np.float32),
    ],
)
def test_missing_pixels_take_no_part_in_the_stretch(
    missing: float, text: str | None, dtype: Any
) -> None:
    array = ramp(dtype, 100.0, 200.0)
    array[:, : WIDTH // 3] = missing
    tags = [] if text is None else [(NODATA, "s", 0, text, True)]
    data = plain(array, extratags=tags)
    shown = [pixel(data, x)[0] for x in (3, WIDTH // 3, WIDTH * 2 // 3, WIDTH - 1)]
    assert (shown[0], shown[3]) == (0, 255)
    assert shown[1] < 20
    assert 100 < shown[2] < 160


@pytest.mark.parametrize("text", ["0", "0.0", "0.000000", "100", "1.0", "nan", "", "none"])
def test_values_near_nodata_are_missing_only_if_it_was_rounded(text: str) -> None:
    data = plain(ramp(np.float32, 0.25, 0.75), extratags=[(NODATA, "s", 0, text, True)])
    whole = plain(ramp(np.float32, 0.25, 0.75))
    assert normalise(data).data == normalise(whole).data


def cube(dtype: Any = np.uint8, planar: bool = False) -> bytes:
    """Return a TIFF with thirteen bands.

    If the type has 8 bits, every pixel of a band is the band number times ten. If the type has more
    bits, each band is a ramp. Band 4 falls, and the other bands rise.
    """
    if np.dtype(dtype).itemsize == 1:
        array = np.full((HEIGHT, WIDTH, 13), np.arange(1, 14) * 10, dtype)
    else:
        array = ramp(dtype, 0, 1000, 13)
        array[..., 3] = array[:, ::-1, 3]
    if planar:
        array = np.moveaxis(array, -1, 0)
    config = "separate" if planar else "contig"
    return plain(array, photometric="minisblack", planarconfig=config)


@pytest.mark.parametrize("planar", [False, True])
def test_the_chosen_bands_are_shown_in_their_order(planar: bool) -> None:
    data = cube(planar=planar)
    assert pixel(data) == (10, 20, 30)
    assert pixel(data, bands=(4, 3, 2)) == (40, 30, 20)
    assert pixel(data, bands=(13,)) == (130, 130, 130)
    assert pixel(rgb(), bands=(3, 2, 1)) == RED[::-1]


def test_the_chosen_deep_bands_are_stretched_each_by_itself() -> None:
    assert pixel(cube(np.uint16), 0, bands=(4, 3, 2)) == (255, 0, 0)


@pytest.mark.parametrize(("data", "there"), [(rgb(), 3), (plain(GREY), 1), (cube(), 13)])
def test_a_missing_chosen_band_is_reported(data: bytes, there: int) -> None:
    with pytest.raises(
        SampleError, match=rf"images\.bands names band 14, .* has only {there} bands$"
    ) as no:
        normalise(data, ImageLimits(bands=(14, 1, 1)))
    assert no.value.reason is Reason.UNSUPPORTED_IMAGE


def test_images_that_have_colours_of_their_own_have_no_bands_to_choose() -> None:
    limits = ImageLimits(bands=(4, 3, 2))
    inks = encode(flat("CMYK", (0, 255, 255, 0)), "TIFF")
    for data in (
        encode(flat(), "PNG"),
        encode(flat(), "JPEG"),
        plain(GREY, photometric="palette", colormap=colours(257)),
        inks,
    ):
        assert normalise(data, limits).data == normalise(data).data
        assert inspect_image(data).num_bands is None


def test_the_number_of_bands_is_reported() -> None:
    assert [inspect_image(data).num_bands for data in (plain(GREY), rgb(), cube())] == [1, 3, 13]


@pytest.mark.parametrize("compression", [None, "jpeg"])
@pytest.mark.parametrize("kind", [1, 3, 4])
def test_a_thumbnail_or_a_mask_before_the_image_is_not_the_image(
    kind: int, compression: str | None
) -> None:
    small, whole, later = (np.full((s, s, 3), s, np.uint8) for s in (16, 64, 32))
    buffer = io.BytesIO()
    with tifffile.TiffWriter(buffer) as writer:
        if kind == 4:
            writer.write(np.ones((64, 64), bool), photometric="mask", subfiletype=kind)
        else:
            writer.write(small, photometric="rgb", subfiletype=kind, compression=compression)
        for pixels in (whole, later):
            writer.write(pixels, photometric="rgb", compression=compression)
    image = decode_rgb(normalise(buffer.getvalue()).data)
    assert (image.size, image.getpixel((5, 5))) == ((64, 64), (64, 64, 64))


def test_a_reduced_copy_alone_is_the_image() -> None:
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, np.full((16, 16, 3), 9, np.uint8), photometric="rgb", subfiletype=1)
    assert decode_rgb(normalise(buffer.getvalue()).data).size == (16, 16)
