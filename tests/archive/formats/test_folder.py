from __future__ import annotations

import json
import os
import uuid
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from skytext.addresses.address_parser import Location
from skytext.archive import (
    ChangedError,
    Member,
    ReadLimits,
    Sample,
    Shard,
    ShardCounts,
    discover,
    fetch_image,
    image_id,
    list_members,
    read_shard,
)
from skytext.archive.storage.files import stat_file
from skytext.archive.storage.local import LocalStore
from skytext.archive.storage.store import UnavailableError
from skytext.errors import Reason, SourceError, StoreFaultError
from tests.archive.formats.tars import make_tar
from tests.archive.formats.test_by_format import assert_same


def write(root: Path, files: dict[str, bytes | dict[str, Any]]) -> list[Shard]:
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
    return discover([str(root)])


def refuse(monkeypatch: pytest.MonkeyPatch, ending: str, error: OSError) -> None:
    """Make reads of files fail if the file name has this ending."""
    original = LocalStore.read_range

    def read_range(self: LocalStore, location: Location, *more: Any) -> bytes:
        if location.path.endswith(ending):
            raise error
        return original(self, location, *more)

    monkeypatch.setattr(LocalStore, "read_range", read_range)


def paths(shards: list[Shard]) -> list[str]:
    return [shard.path for shard in shards]


def test_every_folder_with_images_is_a_shard(tmp_path: Path) -> None:
    files = {"x.jpg": b"1", "n/y.PNG": b"2", "n/s.tar": make_tar([("a.jpg", b"3")]), "t/a.txt": b""}
    hidden = {"__MACOSX/z.jpg": b"", "__MACOSX/z.tar": b"", "n/._y.PNG": b"", ".h/a/z.jpg": b""}
    shards = write(tmp_path / "aerial", {**files, **hidden})
    assert paths(shards) == ["./", "n/", "n/s.tar"]
    root, north, _ = shards
    assert root.uri == f"{(tmp_path / 'aerial').as_uri()}/"
    assert north.size_bytes == 1
    (one,) = read_shard(root)
    assert one.image_id == image_id("aerial", "./", "x.jpg", 0)
    (two,) = read_shard(north)
    assert (two.shard, two.member, two.data) == ("n/", "y.PNG", b"2")
    assert two.uri == (tmp_path / "aerial/n/y.PNG").as_uri()
    assert (two.byte_offset, two.byte_length) == (0, 1)
    for shard in shards:
        assert_same(shard)


def test_sidecars_belong_to_images_as_in_a_tar(tmp_path: Path) -> None:
    files: dict[str, bytes | dict[str, Any]] = {
        "a.json": {"v": "shared"},
        "a.nir.json": {"v": "own"},
        "a.nir.png": b"1",
        "a.rgb.png": b"2",
        "a-b.jpg": b"3",
        "b.jpg": b"4",
        "b.txt": b"a ship",
        "c.csv": b"",
        ".d.jpg": b"5",
    }
    (shard,) = write(tmp_path, files)
    counts = ShardCounts()
    samples = {s.member: json.loads(s.metadata or "{}") for s in read_shard(shard, counts=counts)}
    assert list(samples) == ["a-b.jpg", "a.nir.png", "a.rgb.png", "b.jpg"]
    assert samples["a-b.jpg"] == {}
    assert samples["a.nir.png"] == {"v": "own"}
    assert samples["a.rgb.png"] == {"v": "shared"}
    assert samples["b.jpg"] == {"txt": "a ship"}
    ignored = Counter({".csv": 1, "hidden": 1})
    assert counts == ShardCounts(num_ok=4, num_sidecars=3, ignored=ignored)


def test_adding_a_file_changes_the_folder_and_no_other_image(tmp_path: Path) -> None:
    (before,) = write(tmp_path, {"a.jpg": b"1", "b.jpg": b"2"})
    old = {m.image_id: m for m in list_members(before)}
    assert discover([str(tmp_path)]) == [before]
    (after,) = write(tmp_path, {"aa.jpg": b"3"})
    new = {m.image_id: m for m in list_members(after)}
    assert after.etag != before.etag
    assert len(new) == 3
    assert all(new[image_id] == member for image_id, member in old.items())
    (changed,) = write(tmp_path, {"a.json": {"v": 1}})
    assert changed.etag != after.etag
    os.utime(tmp_path / "a.jpg", ns=(1, 1))
    assert discover([str(tmp_path)])[0].etag != changed.etag


def test_a_file_that_vanishes_changes_or_is_too_large_fails_alone(tmp_path: Path) -> None:
    (shard,) = write(tmp_path, {"a.jpg": b"1", "b.jpg": b"2", "c.jpg": b"3" * 100, "d.jpg": b"4"})
    samples = read_shard(shard, limits=ReadLimits(max_member_bytes=10))
    assert next(samples).data == b"1"
    # Both files were listed before these changes.
    (tmp_path / "b.jpg").unlink()
    (tmp_path / "d.jpg").write_bytes(b"5")
    large, changed = samples
    assert large.failure is not None
    assert large.failure.reason is Reason.MEMBER_TOO_LARGE
    assert (changed.member, changed.data) == ("d.jpg", b"5")
    assert changed.shard_etag == stat_file(changed.uri).etag
    (tmp_path / "link.jpg").symlink_to(tmp_path / "missing.jpg")
    failed = [s for s in read_shard(shard) if s.failure is not None]
    assert [s.member for s in failed] == ["link.jpg"]
    assert failed[0].failure is not None
    assert "broken link" in failed[0].failure.detail


def test_a_file_that_vanishes_and_comes_back_is_read_by_the_next_run(tmp_path: Path) -> None:
    """The listings before and after the read are equal, but a file was missing during the read."""
    (shard,) = write(tmp_path, {"a.jpg": b"1", "b.jpg": b"2"})
    counts = ShardCounts()
    samples = read_shard(shard, counts=counts)
    assert next(samples).member == "a.jpg"
    (tmp_path / "b.jpg").rename(tmp_path.parent / "b.jpg")
    assert list(samples) == []
    (tmp_path.parent / "b.jpg").rename(tmp_path / "b.jpg")
    assert discover([str(tmp_path)]) == [shard]
    assert counts.etag != shard.etag


def test_an_image_whose_sidecar_the_store_does_not_give_is_unread(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (shard,) = write(tmp_path, {"a.jpg": b"1", "a.json": {"gsd": 2}, "b.jpg": b"2"})
    refuse(monkeypatch, "a.json", UnavailableError("no answer"))
    one, two = read_shard(shard)
    assert (one.member, one.data, one.failure, str(one.fault)) == ("a.jpg", None, None, "no answer")
    assert (two.data, two.fault) == (b"2", None)


def test_a_sidecar_that_changes_or_vanishes_is_taken_as_it_is_now(tmp_path: Path) -> None:
    files: dict[str, bytes | dict[str, Any]] = {"a.jpg": b"1", "b.jpg": b"2", "b.json": {"gsd": 2}}
    (shard,) = write(tmp_path, files | {"b.txt": b"x", "c.jpg": b"3"})

    def change(member: Member) -> bool:
        (tmp_path / "b.json").write_bytes(b'{"gsd": 33}')
        (tmp_path / "b.txt").unlink(missing_ok=True)
        return False

    _, b, _ = read_shard(shard, is_known=change)
    assert (b.data, b.gsd, b.metadata, b.fault) == (b"2", 33.0, None, None)


def test_a_file_deleted_before_it_is_read_is_not_a_failed_image(tmp_path: Path) -> None:
    (shard,) = write(tmp_path, {f"{name}.jpg": b"1" for name in "abcd"})
    samples = read_shard(shard)
    assert next(samples).member == "a.jpg"
    (tmp_path / "d.jpg").unlink()
    assert [(s.member, s.failure) for s in samples] == [("b.jpg", None), ("c.jpg", None)]


def test_files_that_are_known_say_nothing_of_the_store(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (shard,) = write(tmp_path, {f"{i:03}.jpg": b"1" for i in range(100)})
    refuse(monkeypatch, "", UnavailableError("no answer"))
    met: list[Sample] = []
    with pytest.raises(StoreFaultError, match="16 consecutive files"):
        met.extend(read_shard(shard, is_known=lambda m: int(m.member[:3]) % 2 == 0))
    assert len(met) == 32


def test_a_folder_that_vanished_is_unread(tmp_path: Path) -> None:
    (shard,) = write(tmp_path / "d", {"a.jpg": b"1"})
    (tmp_path / "d/a.jpg").unlink()
    for words in ("no longer contains images", "No such file"):
        for read in (read_shard, list_members):
            with pytest.raises(StoreFaultError, match=words):
                list(read(shard))
        if (tmp_path / "d").exists():
            (tmp_path / "d").rmdir()


def test_known_images_are_recognised_by_etag(tmp_path: Path) -> None:
    (shard,) = write(tmp_path, {"a.jpg": b"1", "b.jpg": b"2"})
    counts = ShardCounts()
    a, b = read_shard(shard, counts=counts, is_known=lambda member: member.member == "a.jpg")
    assert (a.data, a.failure, a.fault) == (None, None, None)
    assert b.data == b"2"
    assert (counts.etag, counts.num_bytes) == (shard.etag, 2)
    (tmp_path / "c.jpg").write_bytes(b"345")
    list(read_shard(shard, counts=counts))
    assert (counts.etag, counts.num_bytes) == (discover([str(tmp_path)])[0].etag, 5)


def test_a_file_that_becomes_too_large_is_not_read(tmp_path: Path) -> None:
    (shard,) = write(tmp_path, {"a.jpg": b"1", "b.jpg": b"2", "c.jpg": b"3"})

    def change(member: Member) -> bool:
        (tmp_path / "b.jpg").write_bytes(b"2" * 100)
        return False

    limits = ReadLimits(max_member_bytes=10)
    _, large, _ = read_shard(shard, limits=limits, is_known=change)
    assert (large.data, large.byte_length) == (None, 100)
    assert large.failure is not None
    assert large.failure.reason is Reason.MEMBER_TOO_LARGE


def test_files_without_a_suffix_are_not_part_of_a_folder(tmp_path: Path) -> None:
    """Otherwise the etag of the listing would never equal the etag of the files that were read."""
    (shard,) = write(tmp_path, {"a.jpg": b"1", "jpg": b"2", "json": b"{}"})
    counts = ShardCounts()
    assert [s.member for s in read_shard(shard, counts=counts)] == ["a.jpg"]
    assert (counts.etag, counts.num_bytes) == (shard.etag, shard.size_bytes)


def test_odd_names_are_read(tmp_path: Path) -> None:
    names = ["a b#c%20.jpg", "ü 🛰.png", "what?.tif", "[1]*.webp"]
    (shard,) = write(tmp_path, dict.fromkeys(names, b"x"))
    with open(os.path.join(os.fsencode(tmp_path), b"sch\xf6n.jpg"), "wb") as file:
        file.write(b"x")
    samples = list(read_shard(shard))
    assert sorted(s.member for s in samples) == sorted([*names, r"sch\xf6n.jpg"])
    for sample in samples:
        data = fetch_image(sample.uri, sample.member, byte_offset=0, byte_length=1)
        assert data == sample.data == b"x"
        sample.uri.encode()


@pytest.mark.parametrize("name", ["a.jpg", "*.jpg", "*"])
def test_images_are_named_by_their_folder(tmp_path: Path, name: str) -> None:
    write(tmp_path, {"a.jpg": b"1"})
    with pytest.raises(SourceError, match="Give the folder"):
        discover([f"{tmp_path}/{name}"])


def test_a_fetched_image_is_the_one_that_was_read(tmp_path: Path) -> None:
    (shard,) = write(tmp_path, {"a.jpg": b"1234"})
    (sample,) = read_shard(shard)
    place = {"byte_offset": sample.byte_offset, "byte_length": sample.byte_length}
    assert fetch_image(sample.uri, sample.member, etag=sample.shard_etag, **place) == b"1234"
    (tmp_path / "a.jpg").write_bytes(b"12345")
    with pytest.raises(OSError, match="changed"):
        fetch_image(sample.uri, sample.member, etag=sample.shard_etag, **place)


def test_a_folder_in_a_bucket(s3: Any) -> None:
    s3.create_bucket(Bucket="loose")
    for name in ("a.jpg", "b.jpg", "b.json", "north/c.png", "north/deep/d.jpg"):
        body = b'{"gsd": 2}' if name.endswith("json") else name.encode() * 1000
        s3.put_object(Bucket="loose", Key=f"x/{name}", Body=body)
    shards = discover(["s3://loose/x"])
    assert paths(shards) == ["./", "north/", "north/deep/"]
    assert [shard.uri for shard in shards][:2] == ["s3://loose/x/", "s3://loose/x/north/"]
    samples = list(read_shard(shards[0]))
    assert [(s.member, s.gsd) for s in samples] == [("a.jpg", None), ("b.jpg", 2.0)]
    for sample in samples:
        assert sample.data == sample.member.encode() * 1000
        place = {"byte_offset": 0, "byte_length": sample.byte_length, "etag": sample.shard_etag}
        assert fetch_image(sample.uri, sample.member, **place) == sample.data
    for shard in shards:
        assert_same(shard)
    s3.put_object(Bucket="loose", Key="x/a.jpg", Body=b"new")
    with pytest.raises(ChangedError, match="deleted or changed after"):
        fetch_image(
            samples[0].uri, "a.jpg", byte_offset=0, byte_length=3, etag=samples[0].shard_etag
        )
    assert discover(["s3://loose/x"])[0].etag != shards[0].etag


ODD_KEYS = {
    "a/x.jpg": "a/",
    "a//x.jpg": "a//",
    "a///x.jpg": "a///",
    "a//deep/x.jpg": "a//deep/",
    "/x.jpg": "/",
    "//x.jpg": "//",
    "x.jpg": "./",
    "x?v=1#a%20 b.jpg": "./",
    "ü 🛰/%2F/x.jpg": "ü 🛰/%2F/",
    " /x.jpg": " /",
    "a/../x.jpg": "a/../",
}
MARKERS = ("", "a/", "a//", "a/none/", "none/")


def put_odd(s3: Any, bucket: str, root: str) -> None:
    s3.create_bucket(Bucket=bucket)
    for key in MARKERS:
        if root or key:
            s3.put_object(Bucket=bucket, Key=f"{root}{key}", Body=b"")
    for key in ODD_KEYS:
        s3.put_object(Bucket=bucket, Key=f"{root}{key}", Body=key.encode())


@pytest.mark.parametrize("root", ["", "photos/", "photos//", "/", "/photos/"])
def test_odd_keys_of_a_bucket_are_found_read_and_fetched_again(s3: Any, root: str) -> None:
    bucket = uuid.uuid4().hex
    put_odd(s3, bucket, root)
    shards = discover([f"s3://{bucket}/{root}"], archive="odd")
    assert {shard.path for shard in shards} == set(ODD_KEYS.values())
    read = {}
    for shard in shards:
        assert shard.uri == f"s3://{bucket}/{root}{shard.path.removeprefix('./')}"
        assert_same(shard)
        for sample in read_shard(shard):
            assert sample.failure is None
            key = sample.uri.removeprefix(f"s3://{bucket}/{root}")
            read[key] = shard.path
            assert sample.data == key.encode()
            assert sample.image_id == image_id("odd", shard.path, sample.member, 0)
            place = {"byte_offset": 0, "byte_length": sample.byte_length}
            again = fetch_image(sample.uri, sample.member, etag=sample.shard_etag, **place)
            assert again == sample.data
    assert read == ODD_KEYS


def test_a_source_with_slashes_at_its_end_names_that_folder(s3: Any) -> None:
    bucket = uuid.uuid4().hex
    put_odd(s3, bucket, "")
    found = {
        source: [shard.uri.removeprefix(f"s3://{bucket}/") for shard in discover([source])]
        for source in (f"s3://{bucket}/a", f"s3://{bucket}/a/", f"s3://{bucket}/a//")
    }
    assert list(found.values()) == [
        ["a/../", "a/", "a//", "a///", "a//deep/"],
        ["a/../", "a/", "a//", "a///", "a//deep/"],
        ["a//", "a///", "a//deep/"],
    ]
