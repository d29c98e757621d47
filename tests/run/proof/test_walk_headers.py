from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest

from skytext.archive import ReadLimits, ReadOptions, Shard, discover
from skytext.errors import StoreFaultError
from skytext.run.proof.walk_headers import HeaderWalk, sample_shards
from skytext.run.stages.read_shards import ShardReader
from skytext.table.location import TableLocation
from skytext.table.shards.manifest import MANIFEST, Manifest, read_manifest, write_manifest
from tests.archives import cut_tar, images, write_archive

SHARDS = [Shard("a", f"file:///{i}.tar", f"{i}.tar", 1, "e") for i in range(1000)]


@pytest.fixture
def where(tmp_path: Path) -> TableLocation:
    return TableLocation.parse(str(tmp_path / "table"))


@pytest.fixture
def shards(tmp_path: Path, where: TableLocation) -> list[Shard]:
    """Return a tar, a damaged tar and a folder that were read to their ends."""
    root = write_archive(
        tmp_path / "aerial", {"a.tar": images(0, 3), "b.tar": cut_tar(images(3, 3))}
    )
    write_archive(root / "folder", dict(images(6, 3)))
    found = discover([str(root)])
    reader = ShardReader(99, 10**9, ReadLimits(), where, None)
    for shard in found:
        list(reader.units(shard))
    return found


def walk(where: TableLocation) -> HeaderWalk:
    return HeaderWalk(where, ReadLimits(), ReadOptions())


def test_unchanged_shards_agree(where: TableLocation, shards: list[Shard]) -> None:
    assert [shard.path for shard in shards] == ["a.tar", "b.tar", "folder/"]
    assert walk(where)(shards) == []


def test_an_image_that_no_manifest_names_is_found(
    where: TableLocation, shards: list[Shard]
) -> None:
    for shard in shards:
        empty = Manifest(shard.etag, shard.size_bytes, 1, MANIFEST.empty_table())
        write_manifest(where, shard.archive, shard.path, empty)
    # One of the three images of b.tar stands for the damaged end of the shard.
    assert walk(where)(shards) == [
        "a.tar: its headers list 3 images, but its manifest lists 0",
        "b.tar: its headers list 3 images, but its manifest lists 0",
        "folder/: its headers list 3 images, but its manifest lists 0",
    ]
    # The next run reads these shards again.
    assert [read_manifest(where, shard.archive, shard.path) for shard in shards] == [None] * 3


def test_a_shard_without_a_manifest_is_found(where: TableLocation) -> None:
    assert walk(where)(SHARDS[:1]) == [
        "0.tar: it has no manifest, because it was not read to its end"
    ]


def test_a_shard_that_changed_meanwhile_is_passed_over(
    tmp_path: Path, where: TableLocation, shards: list[Shard]
) -> None:
    write_archive(tmp_path / "aerial", {"a.tar": images(0, 9)})
    (tmp_path / "aerial" / "b.tar").unlink()
    (tmp_path / "aerial" / "folder" / "new.jpg").write_bytes(b"x")
    assert walk(where)(shards) == []


def test_a_shard_that_cannot_be_read_is_not_proven(
    where: TableLocation, shards: list[Shard], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise StoreFaultError("no answer")

    monkeypatch.setattr("skytext.run.proof.walk_headers.list_members", refuse)
    assert walk(where)(shards[:1]) == ["a.tar: its headers cannot be read: no answer"]


@pytest.mark.parametrize(("num_shards", "expected"), [(0, 0), (2, 2), (5, 3), (301, 4), (1000, 10)])
def test_the_sample_is_one_percent_and_at_least_three_shards(
    num_shards: int, expected: int
) -> None:
    found = sample_shards(SHARDS[:num_shards], "run")
    assert len({shard.path for shard in found}) == len(found) == expected
    assert found == sample_shards(SHARDS[:num_shards], "run")


def test_a_manifest_lists_images_in_the_order_of_the_shard(
    where: TableLocation, shards: list[Shard]
) -> None:
    """A shard with the same ids in another order is a different shard."""
    kept = read_manifest(where, "aerial", "a.tar")
    assert kept is not None
    turned = kept.members.take(pa.array([2, 1, 0]))
    write_manifest(where, "aerial", "a.tar", Manifest(kept.etag, 1, 1, turned))
    assert len(walk(where)(shards)) == 1
