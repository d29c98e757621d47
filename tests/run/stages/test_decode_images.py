from __future__ import annotations

import dataclasses
import hashlib

import numpy as np

from skytext.pixels.decode import ImageLimits, decode_rgb
from skytext.run.stages.decode_images import ImageDecoder
from skytext.run.units import unpack
from tests.archives import bad_images, jpeg, tiff16
from tests.pixels.image_corpus import encode, flat, tiff
from tests.run.stages.samples import (
    HEAD,
    REFUSED,
    bad,
    rows_of,
    sample,
    unit,
)

LIMITS = ImageLimits(max_pixels=10_000, min_side_px=8, max_side_px=64)


def test_a_good_image_is_passed_on_unchanged() -> None:
    (row,) = rows_of(ImageDecoder(LIMITS)(unit([sample("a.jpg", jpeg(1), gsd=2.0)])))
    assert row["data"] == jpeg(1)
    assert (row["width_px"], row["height_px"], row["format"]) == (48, 32, "jpeg")
    assert row["content_sha256"] == hashlib.sha256(jpeg(1)).hexdigest()
    assert (row["failure"], row["gsd"]) == (None, 2.0)


def test_a_16_bit_tiff_becomes_what_every_decoder_reads() -> None:
    (row,) = rows_of(ImageDecoder(LIMITS)(unit([sample("a.tif", tiff16(1))])))
    assert (row["width_px"], row["height_px"], row["format"]) == (40, 24, "tiff")
    assert row["content_sha256"] == hashlib.sha256(tiff16(1)).hexdigest()
    assert row["data"] != tiff16(1)
    picture = decode_rgb(row["data"])
    assert (picture.mode, picture.size) == ("RGB", (40, 24))


def test_a_broken_image_fails_alone() -> None:
    broken = bad_images()
    samples = [sample("0.jpg", jpeg(0))]
    for name, (data, _) in broken.items():
        samples += [sample(name, data), sample(f"after-{name}", jpeg(len(name)))]
    rows = rows_of(ImageDecoder(LIMITS)(unit(samples)))
    assert [row["member"] for row in rows] == [row["member"] for row in samples]
    for row in rows:
        if row["member"] not in broken:
            assert row["failure"] is None
            continue
        assert row["failure"]["stage"] == "decode"
        assert row["failure"]["reason"] == broken[row["member"]][1]
        assert row["failure"]["detail"]
        assert row["data"] is None


def test_the_limits_are_the_configured_ones() -> None:
    decoder = ImageDecoder(LIMITS)
    rows = rows_of(
        decoder(
            unit(
                [
                    sample("wide.jpg", jpeg(1, (100, 20))),
                    sample("huge.jpg", jpeg(1, (200, 100))),
                    sample("slim.jpg", jpeg(1, (100, 7))),
                ]
            )
        )
    )
    assert decode_rgb(rows[0]["data"]).size == (64, 13)
    reasons = [row["failure"] and row["failure"]["reason"] for row in rows]
    assert reasons == [None, "too_many_pixels", "too_small"]


def test_failed_images_and_empty_units_pass_through() -> None:
    decoder = ImageDecoder(LIMITS)
    (row,) = rows_of(decoder(unit([bad()])))
    assert row["failure"] == REFUSED
    head, samples = unpack(decoder(unit([])))
    assert (head, samples.num_rows) == (HEAD, 0)


def bands(number: int) -> bytes:
    array = np.full((32, 48, number), 9, np.uint8)
    return tiff(array, photometric="minisblack", planarconfig="contig")


def test_images_of_more_than_three_bands_are_counted_unless_bands_were_chosen() -> None:
    images = [bands(13), bands(4), bands(3), bands(2), encode(flat("CMYK", (0, 9, 9, 0)), "TIFF")]
    samples = [sample(f"{i}.tif", data) for i, data in enumerate([*images, jpeg(1)])] + [bad()]
    head, _ = unpack(ImageDecoder(LIMITS)(unit(samples)))
    assert head == dataclasses.replace(HEAD, num_many_bands=2)
    chosen = dataclasses.replace(LIMITS, bands=(4, 3, 2))
    head, rows = unpack(ImageDecoder(chosen)(unit(samples)))
    assert head == HEAD
    failures = [row["failure"] for row in rows.to_pylist()]
    assert [failure and failure["reason"] for failure in failures] == [
        *(None, None, "unsupported_image", "unsupported_image", None, None, "empty")
    ]
