from __future__ import annotations

import contextlib
import hashlib
import io
import logging
import os
import pickle
import threading
import tracemalloc
import warnings
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFile

from skytext.errors import Reason, SampleError, Stage
from skytext.pixels.decode import ImageLimits, decode_rgb, inspect_image, normalise
from tests.pixels import image_corpus as corpus
from tests.pixels.image_corpus import REFUSED, TAKEN, Odd


@pytest.mark.parametrize("odd", TAKEN, ids=lambda odd: odd.name)
def test_an_odd_image_becomes_upright_rgb(odd: Odd) -> None:
    data = odd.make()
    result = normalise(data)
    image = decode_rgb(result.data)
    assert image.mode == "RGB"
    assert image.size == odd.size
    assert (result.data is data) == odd.untouched
    for place, colour in odd.pixels:
        difference = np.abs(np.subtract(image.getpixel(place), colour))
        assert difference.max() <= odd.tolerance, (place, image.getpixel(place), colour)


@pytest.mark.parametrize("odd", TAKEN, ids=lambda odd: odd.name)
def test_a_plain_decoder_gives_the_same_pixels(odd: Odd) -> None:
    # A decoder of the returned bytes must not need to handle EXIF or alpha.
    result = normalise(odd.make())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow may warn about a damaged EXIF block
        plain = Image.open(io.BytesIO(result.data)).convert("RGB")
    assert plain.tobytes() == decode_rgb(result.data).tobytes()


@pytest.mark.parametrize("odd", TAKEN, ids=lambda odd: odd.name)
def test_the_header_alone_says_the_same_as_the_pixels(odd: Odd) -> None:
    data = odd.make()
    info = inspect_image(data)
    assert info == normalise(data).info
    assert info.content_sha256 == hashlib.sha256(data).hexdigest()
    assert info.format == odd.name.split()[0]
    if max(info.width_px, info.height_px) <= ImageLimits().max_side_px:
        assert (info.width_px, info.height_px) == odd.size


@pytest.mark.parametrize("odd", REFUSED, ids=lambda odd: odd.name)
def test_a_bad_image_is_refused_with_its_reason(odd: Odd) -> None:
    with pytest.raises(SampleError) as caught:
        normalise(odd.make())
    assert (caught.value.stage, caught.value.reason) == (Stage.DECODE, odd.reason)
    assert "\n" not in caught.value.detail
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)


@pytest.mark.parametrize("name", ["jpeg", "png", "webp", "tiff rgb LZW", "tiff 16 bit rgb"])
def test_no_cut_of_an_image_does_more_than_raise_a_sample_error(name: str) -> None:
    data = next(odd for odd in TAKEN if odd.name == name).make()
    for length in {*range(0, 80), *range(80, len(data), max(1, len(data) // 60))}:
        with contextlib.suppress(SampleError):
            normalise(data[:length])


@pytest.mark.parametrize("name", ["jpeg", "png", "webp lossless", "tiff rgb LZW", "tiff palette"])
def test_no_damage_to_an_image_does_more_than_raise_a_sample_error(name: str) -> None:
    data = next(odd for odd in TAKEN if odd.name == name).make()
    generator = np.random.default_rng(1)
    for _ in range(150):
        damaged = bytearray(data)
        for place in generator.integers(4, min(len(data), 400), 3):
            damaged[place] = generator.integers(0, 256)
        with contextlib.suppress(SampleError):
            normalise(bytes(damaged), ImageLimits(max_pixels=10_000_000))


def test_a_bomb_is_refused_before_its_pixels_are_allocated() -> None:
    bombs = [odd.make() for odd in REFUSED if "bomb" in odd.name]
    tracemalloc.start()
    for bomb in bombs:
        with pytest.raises(SampleError) as caught:
            inspect_image(bomb)
        assert caught.value.reason is Reason.TOO_MANY_PIXELS
    assert tracemalloc.get_traced_memory()[1] < 10_000_000
    tracemalloc.stop()


def test_a_cube_with_few_pixels_and_many_bands_is_refused() -> None:
    cube = corpus.tiff(np.zeros((32, 48, 100), np.uint16), photometric="minisblack")
    with pytest.raises(SampleError) as caught:
        normalise(cube, ImageLimits(max_pixels=32 * 48))
    assert caught.value.reason is Reason.TOO_MANY_PIXELS


def test_limits_are_inclusive() -> None:
    data = corpus.encode(corpus.flat(), "PNG")
    size = corpus.WIDTH * corpus.HEIGHT
    assert normalise(data, ImageLimits(size, corpus.HEIGHT, corpus.WIDTH)).data is data
    for limits in (ImageLimits(size - 1), ImageLimits(min_side_px=corpus.HEIGHT + 1)):
        with pytest.raises(SampleError):
            normalise(data, limits)
    smaller = normalise(data, ImageLimits(max_side_px=24))
    assert decode_rgb(smaller.data).size == (24, 16)
    assert (smaller.info.width_px, smaller.info.height_px) == (48, 32)


def test_images_above_pillows_limit_are_allowed_by_the_setting(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    for name in ("jpeg", "png", "tiff rgb"):
        data = next(odd for odd in TAKEN if odd.name == name).make()
        assert decode_rgb(normalise(data).data).size == (corpus.WIDTH, corpus.HEIGHT)


def test_a_colour_profile_of_another_colour_space_does_not_travel_on() -> None:
    data = corpus.encode(corpus.flat("CMYK", (0, 9, 9, 0)), "JPEG", icc_profile=b"cmyk profile")
    assert "icc_profile" not in Image.open(io.BytesIO(normalise(data).data)).info


def test_a_damaged_text_of_a_png_is_ignored() -> None:
    data = corpus.png_with((b"tEXt", b"k\0text"))
    damaged = data.replace(b"k\0text", b"k\0TEXT")
    whole = corpus.encode(corpus.flat(), "PNG")
    assert normalise(data).data == normalise(damaged).data == whole
    assert inspect_image(damaged).content_sha256 == hashlib.sha256(damaged).hexdigest()


def test_an_orientation_in_a_text_of_a_png_is_kept() -> None:
    xmp = b"XML:com.adobe.xmp\0\0\0\0\0<x:xmpmeta><a tiff:Orientation='6'/></x:xmpmeta>"
    xmp = xmp.replace(b"'", b'"')
    turned = normalise(corpus.png_with((b"iTXt", xmp), (b"tEXt", b"k\0v")))
    width, height = corpus.flat().size
    assert decode_rgb(turned.data).size == (height, width)


@pytest.mark.parametrize("least", [1, 8, 32])
def test_a_long_strip_keeps_the_least_side(least: int) -> None:
    strip = corpus.encode(corpus.flat(size=(400, 32)), "PNG")
    limits = ImageLimits(min_side_px=least, max_side_px=40)
    assert decode_rgb(normalise(strip, limits).data).size == (40, max(3, least))


def test_the_same_image_gives_the_same_bytes() -> None:
    for odd in TAKEN:
        data = odd.make()
        assert normalise(data).data == normalise(data).data


def test_decoding_changes_no_global_state_and_prints_nothing(
    capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    before = (
        Image.MAX_IMAGE_PIXELS,
        ImageFile.LOAD_TRUNCATED_IMAGES,
        list(warnings.filters),
        logging.getLogger("tifffile").disabled,
    )
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        for odd in TAKEN:
            normalise(odd.make())
        for odd in REFUSED:
            with pytest.raises(SampleError):
                normalise(odd.make())
    # The code that generates the images may warn or log. The package must not warn or log.
    assert [str(one.message) for one in warned if "skytext" in one.filename] == []
    assert [record for record in caplog.records if record.name == "tifffile"] == []
    assert capfd.readouterr().err == ""
    assert before == (
        Image.MAX_IMAGE_PIXELS,
        ImageFile.LOAD_TRUNCATED_IMAGES,
        list(warnings.filters),
        logging.getLogger("tifffile").disabled,
    )


def test_threads_do_not_leave_the_warning_filters_changed() -> None:
    data = [odd.make() for odd in TAKEN[:12]]
    before = list(warnings.filters)
    threads = [threading.Thread(target=lambda: [normalise(one) for one in data]) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert list(warnings.filters) == before


def test_bytes_that_do_not_decode_are_a_sample_error_for_the_captioner_too() -> None:
    for data in (b"", b"words", corpus.cut(corpus.encode(corpus.noise(), "PNG"), 0.5)):
        with pytest.raises(SampleError):
            decode_rgb(data)


def _real_images() -> list[Path]:
    root = os.environ.get("SKYTEXT_TEST_DATA")
    if not root:
        return []
    folders = [Path(root, name, "sample_images") for name in ("ucm", "sydney")]
    return sorted(path for folder in folders for path in folder.glob("*.tif"))


@pytest.mark.skipif(not _real_images(), reason="SKYTEXT_TEST_DATA is not set to the sample data")
def test_real_tiff_chips_keep_their_pixels() -> None:
    for path in _real_images():
        data = path.read_bytes()
        result = normalise(data)
        assert result.info.format == "tiff"
        assert decode_rgb(result.data).tobytes() == Image.open(path).convert("RGB").tobytes()
