from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from skytext.archive import Shard, discover, read_range, read_shard
from skytext.errors import AddressError, SourceError
from tests.archive.formats.tars import make_tar, write_shard

IMAGE = [("a.jpg", b"a")]


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    """Make the archive ``aerial`` with two shards, one shard in a sub-folder, and other files."""
    root = tmp_path / "aerial"
    for name in ("b.tar", "a.tar", "north/c.tar"):
        write_shard(root / name, [(f"{name}.jpg", b"x")])
    (root / "README.md").write_text("hello")
    (root / "._a.tar").write_text("debris")
    return root


def places(shards: list[Shard]) -> list[tuple[str, str]]:
    return [(shard.archive, shard.path) for shard in shards]


def test_a_folder_gives_its_shards_sorted_by_path(archive: Path) -> None:
    shards = discover([str(archive)])
    assert places(shards) == [("aerial", "a.tar"), ("aerial", "b.tar"), ("aerial", "north/c.tar")]
    stat = (archive / "a.tar").stat()
    assert shards[0].uri == (archive / "a.tar").as_uri()
    assert shards[0].size_bytes == stat.st_size
    assert shards[0].etag == f"{stat.st_size}-{stat.st_mtime_ns}"


@pytest.mark.parametrize(
    "spell",
    [
        lambda root: f"{root}/",
        lambda root: f"{root}/../aerial/.",
        lambda root: root.as_uri(),
        lambda root: f"{root}/a.tar",
        lambda root: f"{root}/*.tar",
        lambda root: f"{root}/?.tar",
        lambda root: f"{root.as_uri()}/a.tar",
        lambda root: f"{root}/*",
    ],
)
def test_one_shard_has_one_name_however_it_is_reached(
    archive: Path, spell: Callable[[Path], str]
) -> None:
    (archive / "README.md").unlink()
    assert discover([str(archive)])[0] == discover([spell(archive)])[0]


def test_a_relative_source_means_the_same(archive: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = discover([str(archive)])
    monkeypatch.chdir(archive)
    assert discover(["."]) == expected
    monkeypatch.chdir(archive.parent)
    assert discover(["aerial"]) == expected


def test_a_wildcard_stays_within_a_folder(archive: Path) -> None:
    assert places(discover([f"{archive}/*.tar"])) == [("aerial", "a.tar"), ("aerial", "b.tar")]
    assert places(discover([f"{archive}/*/*.tar"])) == [("aerial", "north/c.tar")]
    assert places(discover([f"{archive}/nor*/c.tar"])) == [("aerial", "north/c.tar")]


def test_a_shard_reached_twice_counts_once_for_the_outer_root(archive: Path) -> None:
    expected = discover([str(archive)])
    inner = str(archive / "north")
    assert discover([str(archive), f"{archive}/*.tar", inner]) == expected
    assert discover([inner, str(archive)]) == expected


def test_an_archive_can_be_named(archive: Path) -> None:
    assert places(discover([f"{archive}/a.tar"], archive="mine")) == [("mine", "a.tar")]
    for bad in ("", "a\nb", "\0"):
        with pytest.raises(SourceError, match="--archive"):
            discover([str(archive)], archive=bad)


def test_two_shards_of_one_name_are_refused(tmp_path: Path) -> None:
    one = write_shard(tmp_path / "one" / "aerial" / "s.tar", IMAGE)
    two = write_shard(tmp_path / "two" / "aerial" / "s.tar", IMAGE)
    sources = [str(tmp_path / name / "aerial") for name in ("one", "two")]
    with pytest.raises(SourceError, match="--archive") as caught:
        discover(sources)
    assert one.uri in str(caught.value)
    assert two.uri in str(caught.value)


def test_odd_file_names_are_read(tmp_path: Path) -> None:
    for name in ("a b#c%20.tar", "ü 🛰.tar", "what?.tar", "[1]*.tar", "UPPER.TAR"):
        shard = write_shard(tmp_path / "d" / name, IMAGE)
        (sample,) = read_shard(shard)
        assert (shard.path, sample.data) == (name, b"a")
    assert len(discover([str(tmp_path / "d")])) == 5
    assert places(discover([f"{tmp_path}/d/[1]?.tar"])) == [("d", "[1]*.tar")]


def test_a_file_name_that_is_not_unicode_is_read(tmp_path: Path) -> None:
    path = os.path.join(os.fsencode(tmp_path), b"sch\xf6n.tar")
    with open(path, "wb") as file:
        file.write(make_tar(IMAGE))
    (shard,) = discover([str(tmp_path)])
    assert shard.path == r"sch\xf6n.tar"
    assert [sample.data for sample in read_shard(shard)] == [b"a"]


def test_links_are_followed_and_loops_are_not_endless(archive: Path, tmp_path: Path) -> None:
    view = tmp_path / "view"
    view.mkdir()
    (view / "linked").symlink_to(archive / "north")
    (view / "loop").symlink_to(view)
    (view / "s.tar").symlink_to(archive / "a.tar")
    (view / "gone.tar").symlink_to(tmp_path / "missing.tar")
    shards = discover([str(view)])
    assert places(shards) == [("view", "gone.tar"), ("view", "linked/c.tar"), ("view", "s.tar")]
    assert [s.failure is None for shard in shards for s in read_shard(shard)] == [False, True, True]


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("missing", "does not exist"),
        ("empty", "is empty"),
        ("others", r"no file of these types: \.tar, .* 5 other files .*\.csv, .*…"),
        ("others/*.tar", "matches nothing"),
        ("others/*.csv", r"no file of these types: \.tar, "),
        ("others/1.csv", "unknown format"),
        ("zipped", "from a compressed tar. Decompress"),
        ("zipped/s.tar.gz", "from a compressed tar. Decompress"),
        ("mixed", r"t\.tgz is a compressed tar"),
    ],
)
def test_a_source_without_shards_says_what_is_wrong(
    tmp_path: Path, source: str, message: str
) -> None:
    for name in ("empty", "others", "zipped", "mixed"):
        (tmp_path / name).mkdir()
    for index in range(5):
        (tmp_path / "others" / f"{index}.csv").touch()
    for name in ("zipped/s.tar.gz", "mixed/s.tar", "mixed/t.tgz"):
        (tmp_path / name).touch()
    with pytest.raises(SourceError, match=message) as caught:
        discover([str(tmp_path / source)])
    assert source in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("https://host/a.tar", "not supported"),
        ("s3://", "has no bucket"),
        ("file://host/a.tar", "contains the host 'host'"),
        ("", "is empty"),
    ],
)
def test_an_address_that_cannot_be_read_is_refused(source: str, message: str) -> None:
    with pytest.raises(AddressError, match=message):
        discover([source])
    with pytest.raises(SourceError, match="no source"):
        discover([])


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read every folder")
def test_a_folder_that_may_not_be_read_is_named(archive: Path) -> None:
    (archive / "north").chmod(0)
    try:
        with pytest.raises(SourceError, match="north"):
            discover([str(archive)])
    finally:
        (archive / "north").chmod(0o755)


def test_a_pattern_never_leaves_out_a_folder_that_cannot_be_listed(
    archive: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = os.scandir

    def scandir(path: str) -> Any:
        if path.endswith("north"):
            raise OSError(errno.EIO, os.strerror(errno.EIO), path)
        return original(path)

    monkeypatch.setattr(os, "scandir", scandir)
    for pattern in ("*/*.tar", "nor*/c.tar"):
        with pytest.raises(SourceError, match=r"cannot list .*north: Input/output error"):
            discover([f"{archive}/{pattern}"])
    assert len(discover([f"{archive}/*.tar"])) == 2


def test_a_range_beyond_the_end_is_an_error(archive: Path) -> None:
    (shard,) = discover([f"{archive}/a.tar"])
    assert read_range(shard.uri, 0, 0) == b""
    with pytest.raises(OSError, match="shorter"):
        read_range(shard.uri, shard.size_bytes - 5, 6)
