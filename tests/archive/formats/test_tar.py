from __future__ import annotations

import bz2
import dataclasses
import gzip
import hashlib
import io
import json
import lzma
import os
import pickle
import tarfile
import tracemalloc
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pytest

from skytext.archive import (
    ReadLimits,
    Sample,
    Shard,
    ShardCounts,
    image_id,
    read_range,
    read_shard,
)
from skytext.archive.storage.ranged_file import Window
from skytext.errors import Reason, Stage, StoreFaultError
from tests.archive.formats.tars import link, make_tar, write_shard

A, B, C = b"a" * 700, b"b" * 1024, b"c" * 5
THREE = [("x/a.jpg", A), ("x/b.png", B), ("x/c.webp", C)]


def members(samples: list[Sample]) -> list[str]:
    return [sample.member for sample in samples]


def reasons(samples: list[Sample]) -> list[Reason]:
    return [sample.failure.reason for sample in samples if sample.failure is not None]


def kept(sample: Sample) -> dict[str, object]:
    return dict(json.loads(sample.metadata or "{}"))


def test_every_image_becomes_a_sample(tmp_path: Path) -> None:
    shard = write_shard(tmp_path / "aerial" / "s.tar", THREE)
    counts = ShardCounts()
    samples = list(read_shard(shard, counts=counts))
    assert [(s.member, s.data) for s in samples] == THREE
    one = samples[0]
    assert (one.archive, one.shard, one.shard_etag) == ("aerial", "s.tar", shard.etag)
    assert one.uri == f"{shard.uri}#x/a.jpg"
    assert one.image_id == image_id("aerial", "s.tar", "x/a.jpg", 0)
    assert (one.datetime, one.bbox, one.gsd, one.collection, one.metadata) == (None,) * 5
    assert counts == ShardCounts(num_ok=3)
    with pytest.raises(dataclasses.FrozenInstanceError):
        one.member = "other"  # type: ignore[misc]


@pytest.mark.parametrize(
    "tar_format", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT, tarfile.USTAR_FORMAT]
)
def test_the_stored_range_gives_the_image_again(tmp_path: Path, tar_format: int) -> None:
    long = "d/" * 40 + "n" * 80 + ".jpg"
    data = make_tar([*THREE, (long, A), ("e.jpg", b"")], tar_format)
    samples = list(read_shard(write_shard(tmp_path / "s.tar", data)))
    assert len(samples) == 5
    for sample in samples:
        uri = sample.uri.removesuffix(f"#{sample.member}")
        assert sample.byte_offset is not None
        assert sample.byte_length is not None
        again = read_range(uri, sample.byte_offset, sample.byte_length, etag=sample.shard_etag)
        assert again == sample.data


def test_ids_do_not_depend_on_where_the_archive_lies(tmp_path: Path) -> None:
    here = write_shard(tmp_path / "one" / "aerial" / "s.tar", THREE)
    there = write_shard(tmp_path / "two" / "three" / "aerial" / "s.tar", THREE)
    first, second = list(read_shard(here)), list(read_shard(there))
    assert [s.image_id for s in first] == [s.image_id for s in second]
    assert [s.uri for s in first] != [s.uri for s in second]


def test_an_id_equals_its_documented_hash() -> None:
    parts = [b"aerial", b"n/s.tar", b"x.jpg", b"3"]
    encoded = b"".join(len(part).to_bytes(8, "big") + part for part in parts)
    expected = hashlib.sha256(encoded).hexdigest()[:32]
    assert image_id("aerial", "n/s.tar", "x.jpg", 3) == expected


def test_no_two_places_share_an_id() -> None:
    places = [("a", "b", "c", 0), ("ab", "", "c", 0), ("a", "b", "c", 1), ("a", "bc", "", 0)]
    places += [("a", "b\0c", "", 0), ("a\0b", "c", "", 0), ("", "a", "bc", 0), ("a", "b", "c0", 0)]
    assert len({image_id(*place) for place in places}) == len(places)


def test_members_of_the_same_name_get_different_ids(tmp_path: Path) -> None:
    entries = [("a.jpg", A), ("a.jpg", B), ("b.jpg", A), ("a.jpg", C)]
    samples = list(read_shard(write_shard(tmp_path / "s.tar", entries)))
    assert [s.data for s in samples] == [A, B, A, C]
    assert len({s.image_id for s in samples}) == 4
    assert samples[3].image_id == image_id(tmp_path.name, "s.tar", "a.jpg", 2)


@pytest.mark.parametrize("first", [True, False], ids=["before", "after"])
def test_a_sample_that_comes_again_keeps_its_own_sidecar(tmp_path: Path, first: bool) -> None:
    entries = []
    for value in (1, 2, 3):
        pair = [("a.jpg", A), ("a.json", {"v": value})]
        entries += pair[::-1] if first else pair
    samples = list(read_shard(write_shard(tmp_path / "s.tar", entries)))
    assert [kept(s) for s in samples] == [{"v": 1}, {"v": 2}, {"v": 3}]
    assert len({s.image_id for s in samples}) == 3


STAC = {
    "type": "Feature",
    "id": "scene",
    "collection": "naip",
    "bbox": [1, 2, 3, 4],
    "properties": {"datetime": "2020-06-01T12:00:00Z", "gsd": 0.6},
}


@pytest.mark.parametrize("first", [True, False], ids=["before", "after"])
def test_a_sidecar_may_stand_before_or_after_its_image(tmp_path: Path, first: bool) -> None:
    sidecars = [("x/a.json", STAC), ("x/a.txt", "a ship")]
    entries = [*sidecars, ("x/a.jpg", A)] if first else [("x/a.jpg", A), *sidecars]
    counts = ShardCounts()
    shard = write_shard(tmp_path / "s.tar", [*entries, ("x/b.jpg", B)])
    one, two = read_shard(shard, counts=counts)
    assert one.datetime == datetime(2020, 6, 1, 12, tzinfo=UTC)
    assert (one.bbox, one.gsd, one.collection) == ((1, 2, 3, 4), 0.6, "naip")
    assert kept(one)["txt"] == "a ship"
    assert two.metadata is None
    assert counts == ShardCounts(num_ok=2, num_sidecars=2)


def test_images_of_one_key_share_its_sidecar_unless_they_have_their_own(tmp_path: Path) -> None:
    entries = [
        ("s.json", {"v": "shared"}),
        ("s.nir.png", A),
        ("s.nir.json", {"v": "own"}),
        ("s.rgb.png", B),
        ("s.JPG", C),
        ("s.other.json", {"v": "nobody's"}),
    ]
    counts = ShardCounts()
    samples = list(read_shard(write_shard(tmp_path / "s.tar", entries), counts=counts))
    assert members(samples) == ["s.nir.png", "s.rgb.png", "s.JPG"]
    assert [kept(s)["v"] for s in samples] == ["own", "shared", "shared"]
    assert counts == ShardCounts(num_ok=3, num_sidecars=2, ignored=Counter(sidecar=1))


def test_hidden_files_are_left_out(tmp_path: Path) -> None:
    hidden = [".a.jpg", "x/._b.jpg", ".ipynb_checkpoints/c.jpg", "__MACOSX/d.jpg", "x/.e/f/g.json"]
    entries = [*((name, A) for name in hidden), ("./x/seen.jpg", B), ("../v1.0/seen.jpg", C)]
    counts = ShardCounts()
    samples = list(read_shard(write_shard(tmp_path / "s.tar", entries), counts=counts))
    assert members(samples) == ["./x/seen.jpg", "../v1.0/seen.jpg"]
    assert counts == ShardCounts(num_ok=2, ignored=Counter(hidden=5))


def test_the_kinds_that_are_counted_are_bounded(tmp_path: Path) -> None:
    entries = [(f"a.{i}", b"") for i in range(100)] + [("b.jpg", B)]
    counts = ShardCounts()
    list(read_shard(write_shard(tmp_path / "s.tar", entries), counts=counts))
    assert counts.ignored.total() == 100
    assert len(counts.ignored) <= 33


def test_a_dot_in_a_folder_is_not_the_end_of_a_key(tmp_path: Path) -> None:
    entries = [("v1.0/a.jpg", A), ("v1.0/a.json", {"v": 1}), ("v1.0/b.jpg", B)]
    one, two = read_shard(write_shard(tmp_path / "s.tar", entries))
    assert kept(one) == {"v": 1}
    assert two.metadata is None


def test_files_other_than_images_are_counted(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name in ("a.cls", "README", "a.npy", "._b.jpg", "__MACOSX/c.jpg", "x/._d.json"):
            tar.addfile(tarfile.TarInfo(name), io.BytesIO())
        for kind in (tarfile.DIRTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE):
            tar.addfile(link(f"odd{kind!r}.jpg", "", kind))
        tar.addfile(link("latest", "real.jpg"))
        tar.addfile(tarfile.TarInfo("real.jpg"), io.BytesIO())
    counts = ShardCounts()
    shard = write_shard(tmp_path / "s.tar", buffer.getvalue())
    samples = list(read_shard(shard, counts=counts))
    assert members(samples) == ["real.jpg"]
    ignored = {".cls": 1, ".npy": 1, "other": 1, "hidden": 3, "special": 2, "link": 1}
    assert counts == ShardCounts(num_ok=1, ignored=Counter(ignored))


@pytest.mark.parametrize(
    "name",
    [
        "straße/日本 🛰.jpg",
        "n" * 300 + ".jpg",
        "d/" * 150 + "x.jpeg",
        "../../etc/passwd.png",
        "/absolute.tif",
        "a#b?c%20d.TIFF",
        "new\nline.webp",
    ],
)
@pytest.mark.parametrize("tar_format", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT])
def test_a_name_is_only_a_string(tmp_path: Path, name: str, tar_format: int) -> None:
    shard = write_shard(tmp_path / "s.tar", make_tar([(name, A)], tar_format))
    (sample,) = read_shard(shard)
    expected = name.lstrip("/") if sample.member != name else name
    assert sample.member == expected
    assert sample.data == A
    assert list(tmp_path.iterdir()) == [tmp_path / "s.tar"]


def test_a_name_in_another_encoding_becomes_valid_unicode(tmp_path: Path) -> None:
    data = make_tar([("sch_n.jpg", A)], tarfile.USTAR_FORMAT)
    header = tarfile.TarInfo("sch\udcf6n.jpg")
    header.size = len(A)
    block = header.tobuf(tarfile.USTAR_FORMAT, "utf-8", "surrogateescape")
    (sample,) = read_shard(write_shard(tmp_path / "s.tar", block + data[512:]))
    assert sample.member == r"sch\xf6n.jpg"
    sample.member.encode()


# The following tests check the limits.


def test_a_member_above_the_limit_fails_and_others_are_read(tmp_path: Path) -> None:
    entries = [("a.jpg", A), ("big.jpg", b"x" * 5000), ("big.json", {"v": 1}), ("c.jpg", C)]
    shard = write_shard(tmp_path / "s.tar", entries)
    counts = ShardCounts()
    samples = list(read_shard(shard, limits=ReadLimits(max_member_bytes=1024), counts=counts))
    assert members(samples) == ["a.jpg", "big.jpg", "c.jpg"]
    big = samples[1]
    assert big.data is None
    assert big.failure is not None
    assert (big.failure.stage, big.failure.reason) == (Stage.READ, Reason.MEMBER_TOO_LARGE)
    assert "5000" in big.failure.detail
    assert (big.byte_length, kept(big)) == (5000, {"v": 1})
    assert counts == ShardCounts(num_ok=2, num_failed=1, num_sidecars=1)
    exact = list(read_shard(shard, limits=ReadLimits(max_member_bytes=5000)))
    assert reasons(exact) == []


def test_a_sidecar_above_the_limit_is_ignored(tmp_path: Path) -> None:
    entries = [("a.jpg", A), ("a.json", {"v": "x" * 2000}), ("a.txt", "short")]
    shard = write_shard(tmp_path / "s.tar", entries)
    (sample,) = read_shard(shard, limits=ReadLimits(max_sidecar_bytes=1000))
    assert sample.data == A
    assert "1000 bytes" in str(kept(sample)["_sidecar_error"])
    assert kept(sample)["txt"] == "short"


def test_names_that_all_begin_alike_do_not_fill_the_memory(tmp_path: Path) -> None:
    # All images of this shard have the key "scene".
    entries = [("scene.json", {"v": "shared"})]
    for index in range(40):
        entries += [(f"scene.{index}.json", {"v": index}), (f"scene.{index}.jpg", b"x" * 1000)]
    shard = write_shard(tmp_path / "s.tar", entries)
    counts = ShardCounts()
    stream = read_shard(shard, limits=ReadLimits(max_group_bytes=5000), counts=counts)
    first = next(stream)
    assert counts.num_ok == 1
    samples = [first, *stream]
    assert [kept(s)["v"] for s in samples] == list(range(40))
    assert counts == ShardCounts(num_ok=40, num_sidecars=40, ignored=Counter(sidecar=1))


@pytest.fixture
def small_window(monkeypatch: pytest.MonkeyPatch) -> None:
    """Read in small pieces, so that other memory use is visible."""
    monkeypatch.setattr("skytext.archive.formats.tar.STREAMING", Window(64 << 10, 64 << 10))


@pytest.mark.usefixtures("small_window")
def test_orphaned_sidecars_do_not_fill_the_memory(tmp_path: Path) -> None:
    entries = [(f"s.{index}.json", "x" * 900) for index in range(40)] + [("s.a.jpg", A)]
    shard = write_shard(tmp_path / "s.tar", entries)
    counts = ShardCounts()
    limits = ReadLimits(max_group_bytes=5000)
    (sample,) = read_shard(shard, limits=limits, counts=counts)
    assert sample.metadata is None
    assert counts == ShardCounts(num_ok=1, ignored=Counter(sidecar=40))
    shard = write_shard(tmp_path / "s.tar", [(f"s.{i}.json", "x" * 9000) for i in range(600)])
    tracemalloc.start()
    assert list(read_shard(shard, limits=ReadLimits(max_group_bytes=100_000))) == []
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2_000_000


def sparse_shard(path: Path, num_images: int, num_bytes: int) -> Shard:
    """Write a shard as a sparse file. The data of all images are zeros."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        for index in range(num_images):
            header = tarfile.TarInfo(f"{index}.jpg")
            header.size = num_bytes
            file.write(header.tobuf())
            file.seek(-(-num_bytes // 512) * 512, os.SEEK_CUR)
        file.write(bytes(1024))
    stat = path.stat()
    etag = f"{stat.st_size}-{stat.st_mtime_ns}"
    return Shard("a", path.as_uri(), path.name, stat.st_size, etag)


@pytest.mark.usefixtures("small_window")
def test_memory_does_not_grow_with_the_shard(tmp_path: Path) -> None:
    shard = sparse_shard(tmp_path / "s.tar", 50, 4 << 20)
    assert shard.size_bytes > 200_000_000
    tracemalloc.start()
    num_bytes = sum(len(sample.data or b"") for sample in read_shard(shard))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert num_bytes == 50 * (4 << 20)
    assert peak < 40_000_000


@pytest.mark.usefixtures("small_window")
def test_a_large_member_is_skipped_in_flat_memory(tmp_path: Path) -> None:
    shard = sparse_shard(tmp_path / "s.tar", 2, 100 << 20)
    tracemalloc.start()
    samples = list(read_shard(shard, limits=ReadLimits(max_member_bytes=1 << 20)))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert reasons(samples) == [Reason.MEMBER_TOO_LARGE] * 2
    assert peak < 5_000_000


@pytest.mark.usefixtures("small_window")
def test_memory_does_not_grow_with_the_number_of_members(tmp_path: Path) -> None:
    shard = write_shard(tmp_path / "s.tar", [(f"{i}.cls", b"") for i in range(3000)])
    tracemalloc.start()
    assert list(read_shard(shard)) == []
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2_000_000  # the headers alone would need 4 MB


# The following tests read damaged and unusual shards.


def offsets() -> tuple[bytes, list[int]]:
    """Return a tar with three images, and the offsets at which the data of each image end."""
    data = make_tar(THREE, tarfile.USTAR_FORMAT)
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        return data, [header.offset_data + header.size for header in tar]


def test_a_tar_cut_anywhere_gives_all_before_the_cut_and_one_failure(tmp_path: Path) -> None:
    data, ends = offsets()
    last = ends[-1] + (-ends[-1]) % 512
    for length in [*range(512, last + 512, 37), *ends, *(end - 1 for end in ends), last]:
        shard = write_shard(tmp_path / "s.tar", data[:length])
        samples = list(read_shard(shard))
        whole = sum(end <= length for end in ends)
        assert members(samples) == [*(name for name, _ in THREE[:whole]), ""], length
        assert reasons(samples) == [Reason.SHARD_TRUNCATED]
        assert [s.data for s in samples[:-1]] == [body for _, body in THREE[:whole]]


def test_a_tar_cut_in_its_padding_has_lost_nothing(tmp_path: Path) -> None:
    data, ends = offsets()
    last = ends[-1] + (-ends[-1]) % 512
    for length in (last + 512, last + 600, last + 1024, len(data) - 1):
        assert reasons(list(read_shard(write_shard(tmp_path / "s.tar", data[:length])))) == []


def test_the_failure_of_a_tail_has_its_own_id(tmp_path: Path) -> None:
    data, ends = offsets()
    shard = write_shard(tmp_path / "aerial" / "s.tar", data[: ends[1]])
    failed = list(read_shard(shard))[-1]
    assert failed.image_id == image_id("aerial", "s.tar", "", 0)
    assert failed.uri == shard.uri
    assert (failed.member, failed.data) == ("", None)
    assert (failed.byte_offset, failed.byte_length) == (None, None)
    assert failed.failure is not None
    assert failed.failure.stage is Stage.READ
    assert "s.tar" in failed.failure.detail
    assert "after 2 members" in failed.failure.detail


def test_an_image_before_the_cut_keeps_the_sidecar_it_has(tmp_path: Path) -> None:
    data = make_tar([("a.jpg", A), ("a.json", {"v": 1}), ("a.txt", "x" * 600)])
    samples = list(read_shard(write_shard(tmp_path / "s.tar", data[:3200])))
    assert members(samples) == ["a.jpg", ""]
    assert kept(samples[0]) == {"v": 1}


def garble(data: bytes, start: int, length: int) -> bytes:
    noise = np.random.default_rng(3).integers(1, 256, length, np.uint8).tobytes()
    return data[:start] + noise + data[start + length :]


def test_garbage_between_members_is_an_unreadable_tail(tmp_path: Path) -> None:
    data, ends = offsets()
    second = ends[0] + (-ends[0]) % 512
    samples = list(read_shard(write_shard(tmp_path / "s.tar", garble(data, second, 512))))
    assert members(samples) == ["x/a.jpg", ""]
    assert reasons(samples) == [Reason.SHARD_TRUNCATED]


def test_a_second_tar_behind_the_first_is_not_lost_in_silence(tmp_path: Path) -> None:
    data = make_tar(THREE) + make_tar([("d.jpg", A)])
    samples = list(read_shard(write_shard(tmp_path / "s.tar", data)))
    assert members(samples) == ["x/a.jpg", "x/b.png", "x/c.webp", ""]
    assert reasons(samples) == [Reason.SHARD_TRUNCATED]
    assert samples[-1].failure is not None
    assert "end-of-archive" in samples[-1].failure.detail


def test_an_unfinished_copy_of_the_full_size_is_noticed(tmp_path: Path) -> None:
    data, ends = offsets()
    second = ends[0] + (-ends[0]) % 512
    samples = list(read_shard(write_shard(tmp_path / "s.tar", data[:second] + bytes(3 << 20))))
    assert members(samples) == ["x/a.jpg", ""]
    assert reasons(samples) == [Reason.SHARD_TRUNCATED]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", Reason.SHARD_UNREADABLE),
        (b"short", Reason.SHARD_UNREADABLE),
        (b"not a tar at all " * 100, Reason.SHARD_UNREADABLE),
        (b"PK\x03\x04" + bytes(2000), Reason.SHARD_UNREADABLE),
        (gzip.compress(make_tar(THREE)), Reason.SHARD_COMPRESSED),
        (bz2.compress(make_tar(THREE)), Reason.SHARD_COMPRESSED),
        (lzma.compress(make_tar(THREE)), Reason.SHARD_COMPRESSED),
        (b"\x28\xb5\x2f\xfd" + bytes(600), Reason.SHARD_COMPRESSED),
    ],
    ids=["empty", "short", "text", "zip", "gzip", "bzip2", "xz", "zstd"],
)
def test_an_invalid_tar_is_one_failure(tmp_path: Path, content: bytes, reason: Reason) -> None:
    counts = ShardCounts()
    (failed,) = read_shard(write_shard(tmp_path / "s.tar", content), counts=counts)
    assert (failed.member, reasons([failed])) == ("", [reason])
    assert counts == ShardCounts(num_failed=1)


def test_an_empty_tar_holds_nothing_and_fails_nothing(tmp_path: Path) -> None:
    assert list(read_shard(write_shard(tmp_path / "s.tar", make_tar([])))) == []


def test_an_io_error_is_raised_and_fails_no_image(tmp_path: Path) -> None:
    entries = [("a.jpg", A), ("a.json", {"gsd": 1}), ("b.jpg", A), ("b.json", {"gsd": 1})]
    entries += [("c.jpg", b"x" * 200_000)]
    shard = write_shard(tmp_path / "s.tar", entries)

    class Broken(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            if self.tell() > 4096:
                raise OSError("the disk is gone")
            return super().read(size)

    stream = Broken((tmp_path / "s.tar").read_bytes())
    met: list[Sample] = []
    with (
        patch("skytext.archive.formats.tar.open_ranged", return_value=stream),
        pytest.raises(StoreFaultError, match="the disk is gone"),
    ):
        met.extend(read_shard(shard))
    # The second image is not yielded, because its sidecar may be behind the fault.
    assert members(met) == ["a.jpg"]
    assert stream.closed


def test_a_whole_tar_is_read_to_its_last_byte(tmp_path: Path) -> None:
    shard = write_shard(tmp_path / "s.tar", THREE)
    counts = ShardCounts()
    list(read_shard(shard, counts=counts))
    assert (counts.num_bytes, counts.etag) == (shard.size_bytes, shard.etag)


def test_a_header_that_claims_gigabytes_is_not_believed(tmp_path: Path) -> None:
    header = tarfile.TarInfo("././@LongLink")
    header.type, header.size = tarfile.GNUTYPE_LONGNAME, 3 << 30
    data = make_tar(THREE[:1], tarfile.USTAR_FORMAT)[:1536] + header.tobuf(tarfile.GNU_FORMAT)
    shard = write_shard(tmp_path / "s.tar", data + bytes(5 << 20))
    tracemalloc.start()
    samples = list(read_shard(shard))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert members(samples) == ["x/a.jpg", ""]
    assert reasons(samples) == [Reason.SHARD_TRUNCATED]
    assert peak < 5_000_000


def test_no_damage_to_a_tar_makes_reading_raise(tmp_path: Path) -> None:
    data = make_tar([*THREE, ("ü" * 90 + ".jpg", A), ("z.json", STAC)])
    generator = np.random.default_rng(5)
    for _ in range(300):
        damaged = bytearray(data)
        place = int(generator.integers(0, len(data) - 200))
        damaged[place : place + int(generator.integers(1, 200))] = b"\xff\x00-9"
        shard = Shard("a", (tmp_path / "s.tar").as_uri(), "s.tar", 0, "")
        (tmp_path / "s.tar").write_bytes(bytes(damaged))
        samples = list(read_shard(shard))
        assert sum(sample.member == "" for sample in samples) <= 1


def test_a_sparse_member_is_read_but_has_no_range(tmp_path: Path) -> None:
    # `tar --sparse` writes such a member. It contains only the stored parts and a map of their
    # positions.
    body = {"GNU.sparse.major": "1", "GNU.sparse.minor": "0"}
    header = tarfile.TarInfo("GNUSparseFile.0/a.jpg")
    stored = b"1\n1000\n5\n".ljust(512, b"\0") + b"hello".ljust(512, b"\0")
    header.size = len(stored) - 507
    names = {"GNU.sparse.name": "a.jpg", "GNU.sparse.realsize": "1005"}
    header.pax_headers = {**body, **names}
    data = header.tobuf(tarfile.PAX_FORMAT) + stored + make_tar([("b.jpg", B)])
    one, two = read_shard(write_shard(tmp_path / "s.tar", data))
    assert (one.member, one.data) == ("a.jpg", bytes(1000) + b"hello")
    assert (one.byte_offset, one.byte_length) == (None, None)
    assert two.data == B


def test_samples_travel_between_processes(tmp_path: Path) -> None:
    data, ends = offsets()
    for sample in read_shard(write_shard(tmp_path / "s.tar", data[: ends[0]])):
        again = pickle.loads(pickle.dumps(sample))
        assert dataclasses.replace(again, failure=None) == dataclasses.replace(sample, failure=None)
        assert str(again.failure) == str(sample.failure)


def test_leaving_early_closes_the_shard(tmp_path: Path) -> None:
    entries = [("a.jpg", A), ("a.json", {}), ("b.jpg", B), ("b.json", {})]
    shard = write_shard(tmp_path / "s.tar", entries)
    stream = io.BytesIO((tmp_path / "s.tar").read_bytes())
    with patch("skytext.archive.formats.tar.open_ranged", return_value=stream):
        samples = read_shard(shard)
        next(samples)
        samples.close()  # type: ignore[attr-defined]
    assert stream.closed
