"""Test that no bad image needs more memory or time than the limits in this module.

All measurements run in separate processes, because a decoder may crash.
"""

from __future__ import annotations

import json
import random
import resource
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from skytext.archive import ReadLimits, ShardCounts, discover, read_shard
from skytext.errors import Reason, SampleError, Stage
from skytext.pixels.decode import normalise
from tests.pixels.bad_images import (
    IMAGES,
    MAX_MEMBER_BYTES,
    SHARDS,
    Kind,
    black_png,
    black_tiff,
    jpeg_with_many_scans,
)
from tests.pixels.image_corpus import TAKEN, encode, flat, png_chunk

ROOT = Path(__file__).parents[2]

# The limits do not include the memory of Python and the libraries.
LARGEST_MIB = 3 << 10
"""Maximum memory in MiB for any image that the default limits accept."""
REFUSED_MIB = 200
"""Maximum memory in MiB to make and decode all kinds of bad images, one after another."""

# An image with this side has 176,890,000 pixels. The default limit is 178,956,970 pixels.
SIDE = 13_300
# An image with a side above 8191 pixels is subsampled before its contrast is stretched.
SMALLER = 8_100
ADDRESS_SPACE_BYTES = 12 << 30


def webp_of_one_colour(side: int) -> bytes:
    """Return a lossless WebP image of one colour.

    Such an image needs the same few bits at any size.
    """
    data = bytearray(encode(flat(), "WEBP", lossless=True))
    assert data[12:16] == b"VP8L"
    bits = int.from_bytes(data[21:25], "little") & ~0xFFFFFFF
    data[21:25] = (bits | (side - 1) | (side - 1) << 14).to_bytes(4, "little")
    return bytes(data)


def float_tags(bits: int, bands: int, sample_format: int = 3) -> list[tuple[int, str, Any]]:
    colours = 2 if bands >= 3 else 1
    depths, formats = (bits,) * bands, (sample_format,) * bands
    return [(258, "H", depths), (339, "H", formats), (277, "H", bands), (262, "H", colours)]


def separated(bits: int) -> list[tuple[int, str, Any]]:
    return [(258, "H", (bits,) * 4), (277, "H", 4), (262, "H", 5)]


PALETTE = png_chunk(b"PLTE", b"abcdef") + png_chunk(b"tRNS", b"\x40")

LARGEST: dict[str, Callable[[], bytes]] = {
    "png": lambda: black_png(SIDE, SIDE),
    "png with alpha": lambda: black_png(SIDE, SIDE, colour=6),
    "png palette with alpha": lambda: black_png(SIDE, SIDE, colour=3, extra=PALETTE),
    "png 16 bit with alpha": lambda: black_png(SIDE, SIDE, depth=16, colour=6),
    "png 1 bit": lambda: black_png(SIDE, SIDE, depth=1, colour=0),
    "jpeg": lambda: encode(flat("L", 7, (SIDE, SIDE)), "JPEG"),
    "jpeg of 99 scans": lambda: jpeg_with_many_scans(88, (SIDE // 2, SIDE // 2)),
    "webp": lambda: webp_of_one_colour(SIDE),
    "tiff": lambda: black_tiff(SIDE, SIDE),
    "tiff cmyk": lambda: black_tiff(SIDE, SIDE, *separated(8), values=4),
    "tiff cmyk 16 bit": lambda: black_tiff(SIDE, SIDE, *separated(16), values=8),
    "tiff float64": lambda: black_tiff(SMALLER, SMALLER, *float_tags(64, 1), values=8),
    "tiff float64 of three bands": lambda: black_tiff(7_700, 7_700, *float_tags(64, 3), values=24),
    "tiff complex": lambda: black_tiff(SMALLER, SMALLER, *float_tags(128, 1, 6), values=16),
}


def in_a_process(call: str, argument: object, timeout_s: float) -> Any:
    """Run a function of this module in a new process, and return the result of the function."""
    code = (
        "import json, sys; from tests.proof import test_bad_images as here; "
        f"print(json.dumps(here.{call}(sys.argv[1])))"
    )
    done = subprocess.run(
        [sys.executable, "-X", "faulthandler", "-c", code, str(argument)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
    )
    assert done.returncode == 0, (done.returncode, done.stdout[-500:], done.stderr[-3000:])
    return json.loads(done.stdout.splitlines()[-1])


def peak_mib() -> int:
    """Return the peak memory of this process in MiB.

    `getrusage` is not used, because its result includes the memory of the parent process.
    """
    status = Path("/proc/self/status").read_text().splitlines()
    (line,) = [line for line in status if line.startswith("VmHWM:")]
    return int(line.split()[1]) >> 10


def limit_address_space() -> None:
    resource.setrlimit(resource.RLIMIT_AS, (ADDRESS_SPACE_BYTES, ADDRESS_SPACE_BYTES))


def warm_up() -> int:
    """Load the modules that decode images, and return the peak memory so far."""
    for odd in TAKEN:
        normalise(odd.make())
    return peak_mib()


def outcome(data: bytes | None) -> str:
    """Normalise an image.

    Returns:
        The format of the image, or the reason of a documented failure. All other failures are
        raised.
    """
    try:
        return normalise(data or b"").info.format
    except SampleError as err:
        failure = err
    assert failure.stage is Stage.DECODE
    assert failure.detail
    return failure.reason.value


def weigh_one(path: str) -> dict[str, Any]:
    limit_address_space()
    data = Path(path).read_bytes()
    before, start = warm_up(), time.monotonic()
    result = outcome(data)
    taken = time.monotonic() - start
    return {"result": result, "mib": peak_mib() - before, "seconds": taken}


def weigh_all(folder: str) -> dict[str, Any]:
    limit_address_space()
    before, slowest = warm_up(), 0.0
    for index, kind in enumerate([*IMAGES, *SHARDS]):
        data = kind.build()
        start = time.monotonic()
        if isinstance(kind, Kind):
            outcome(data)
        else:
            read_all(Path(folder, f"{index}.tar"), data)
        slowest = max(slowest, time.monotonic() - start)
    return {"mib": peak_mib() - before, "seconds": slowest}


def read_all(path: Path, data: bytes) -> Counter[str]:
    """Read a shard and decode its images. Check that every image is either ok or failed."""
    path.write_bytes(data)
    counts = ShardCounts()
    (shard,) = discover([str(path)])
    limits = ReadLimits(max_member_bytes=MAX_MEMBER_BYTES)
    found: Counter[str] = Counter()
    members, ids = [], set()
    for sample in read_shard(shard, limits=limits, counts=counts):
        assert (sample.data is None) == (sample.failure is not None)
        members.append(sample.member)
        ids.add(sample.image_id)
        sample.member.encode()
        if sample.failure is None:
            found[outcome(sample.data)] += 1
        else:
            assert sample.failure.stage is Stage.READ
            found[Reason(sample.failure.reason).value] += 1
    assert len(ids) == len(members) == counts.num_ok + counts.num_failed == found.total()
    assert "" not in members[:-1]
    return found


@pytest.mark.proof
@pytest.mark.timeout(300)
def test_all_kinds_together_take_little_memory(tmp_path: Path) -> None:
    measured = in_a_process("weigh_all", tmp_path, 240)
    assert measured["mib"] < REFUSED_MIB, measured
    assert measured["seconds"] < 5, measured


@pytest.mark.proof
@pytest.mark.parametrize("name", LARGEST)
def test_the_largest_images_fit(name: str, tmp_path: Path) -> None:
    path = tmp_path / "image"
    path.write_bytes(LARGEST[name]())
    measured = in_a_process("weigh_one", path, 240)
    assert measured["result"] == name.split()[0]
    assert measured["mib"] < LARGEST_MIB, measured
    assert measured["seconds"] < 60, measured


# The following tests use random damage.

NUM_IMAGES, NUM_TARS, SLOWEST_S = 1500, 500, 20


def damaged(data: bytes, rng: random.Random, reaches: tuple[int, ...]) -> bytes:
    """Damage some bytes at one to three places.

    The distance between a place and the start of the data is limited by ``reaches``.
    """
    for _ in range(rng.randint(1, 3)):
        place = rng.randrange(min(len(data), rng.choice(reaches)) or 1)
        length = rng.choice((1, 1, 2, 4, 16, 300))
        what = rng.choice((0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5))
        if what == 0:
            data = data[:place] + rng.randbytes(length) + data[place + length :]
        elif what == 1:
            flipped = bytes(byte ^ 1 << rng.randrange(8) for byte in data[place : place + length])
            data = data[:place] + flipped + data[place + length :]
        elif what == 2:
            value = rng.choice((b"\0", b"\xff", b"\x7f", b"\x80")) * length
            data = data[:place] + value + data[place + length :]
        elif what == 3:
            data = data[:place] + rng.randbytes(length) + data[place:]
        elif what == 4:
            data = data[:place] + data[place + length :]
        else:
            data = data[: rng.randrange(len(data) + 1)]
    return data


def fuzz(folder: str) -> dict[str, Any]:
    """Damage good images and tars, and read them.

    Each case is saved before the read, because the read may crash the process.
    """
    limit_address_space()
    before, rng = warm_up(), random.Random(20)
    case = Path(folder, "case")
    found: Counter[str] = Counter()
    slowest = 0.0
    pictures = [odd.make() for odd in TAKEN]
    tars = [kind.build() for kind in SHARDS if len(kind.expected) >= 2]
    tars = [data for data in tars if len(data) < 100_000]
    for number in range(NUM_IMAGES + NUM_TARS):
        image = number < NUM_IMAGES
        # The header of an image is usually at its start.
        reaches = (64, 512, 1 << 20) if image else (1 << 20,)
        data = damaged(rng.choice(pictures if image else tars), rng, reaches)
        case.write_bytes(data)
        start = time.monotonic()
        if image:
            found[f"image: {outcome(data)}"] += 1
        else:
            found.update(f"tar: {result}" for result in read_all(Path(folder, "s.tar"), data))
        slowest = max(slowest, time.monotonic() - start)
        assert slowest < SLOWEST_S, f"case {number} took {slowest} s"
    return {"found": found, "mib": peak_mib() - before, "seconds": slowest}


@pytest.mark.proof
def test_random_damage_is_only_ever_a_failed_image(tmp_path: Path) -> None:
    measured = in_a_process("fuzz", tmp_path, 540)
    assert (
        sum(measured["found"][name] for name in measured["found"] if "image:" in name) == NUM_IMAGES
    )
    # All kinds of damage occurred. Many images could be decoded in spite of the damage.
    for result in ("jpeg", "png", "webp", "tiff", "truncated_image", "corrupt_image"):
        assert measured["found"][f"image: {result}"] > 5, measured
    for result in ("shard_truncated", "shard_unreadable", "jpeg"):
        assert measured["found"][f"tar: {result}"] > 5, measured
    assert measured["mib"] < LARGEST_MIB, measured
