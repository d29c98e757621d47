"""Test the manifest of a shard."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from skytext.table.location import TableLocation
from skytext.table.shards.manifest import MANIFEST, Manifest, read_manifest, write_manifest

MEMBERS = pa.Table.from_pylist(
    [
        {
            "image_id": f"{i:032x}",
            "member": f"ü {i}.jpg",
            "content_sha256": None if i == 1 else f"{i:064x}",
            "byte_offset": 512 * i,
            "byte_length": 100 + i,
        }
        for i in range(3)
    ],
    schema=MANIFEST,
)


@pytest.fixture
def where(tmp_path: Path) -> TableLocation:
    return TableLocation.parse(str(tmp_path / "table"))


def written(where: TableLocation, shard: str = "a.tar", **fields: Any) -> Manifest:
    defaults = {"etag": "e", "num_bytes": 9, "num_units": 2, "members": MEMBERS}
    manifest = Manifest(**(defaults | fields))
    write_manifest(where, "aerial", shard, manifest)
    return manifest


def test_a_manifest_is_read_as_written(where: TableLocation) -> None:
    kept = written(where, etag='"etag"')
    found = read_manifest(where, "aerial", "a.tar")
    assert found is not None
    assert found == replace(kept, members=found.members)
    assert found.members.cast(MANIFEST).to_pylist() == MEMBERS.to_pylist()
    assert not found.is_damaged
    assert read_manifest(where, "aerial", "b.tar") is None


def test_only_the_requested_columns_are_read(where: TableLocation) -> None:
    written(where)
    found = read_manifest(where, "aerial", "a.tar", ["content_sha256", "image_id"])
    assert found is not None
    assert set(found.members.column_names) == {"content_sha256", "image_id"}
    assert found.members.column("image_id").to_pylist() == MEMBERS.column("image_id").to_pylist()


def test_the_last_manifest_wins(where: TableLocation) -> None:
    written(where, etag="one")
    written(where, etag="two", members=MEMBERS.slice(0, 1))
    found = read_manifest(where, "aerial", "a.tar")
    assert found is not None
    assert (found.etag, found.members.num_rows) == ("two", 1)


def test_shards_are_never_confused(where: TableLocation) -> None:
    """The names may contain any characters. Two pairs of names may have the same joined path."""
    pairs = [("a", "b/c.tar"), ("a/b", "c.tar"), ('a", "b', "c.tar"), ("", "a"), ("a", "")]
    for i, (archive, shard) in enumerate(pairs):
        write_manifest(where, archive, shard, Manifest(f"e{i}", 9, 2, MEMBERS))
    for i, (archive, shard) in enumerate(pairs):
        found = read_manifest(where, archive, shard)
        assert found is not None
        assert found.etag == f"e{i}"
    assert read_manifest(where, "b", "c.tar") is None


def test_names_and_etags_of_all_bytes(where: TableLocation) -> None:
    """The names in a file system are bytes. Some names are not valid text."""
    shard = "shärd \udcff.tar"
    written(where, shard, etag="odd \udcff etag")
    found = read_manifest(where, "aerial", shard)
    assert found is not None
    assert (found.etag, found.members.num_rows) == ("odd \udcff etag", 3)


def test_an_empty_shard_is_known_to_be_empty(where: TableLocation) -> None:
    written(where, members=MANIFEST.empty_table())
    found = read_manifest(where, "aerial", "a.tar")
    assert found is not None
    assert (found.members.num_rows, found.is_damaged) == (0, False)


def test_a_damaged_shard_is_recognised(where: TableLocation) -> None:
    marker = pa.Table.from_pylist([{"image_id": "a" * 32, "member": ""}], schema=MANIFEST)
    written(where, members=pa.concat_tables([MEMBERS, marker]))
    found = read_manifest(where, "aerial", "a.tar")
    assert found is not None
    assert found.is_damaged


@pytest.mark.parametrize("num_members", [1, 3])
def test_an_older_manifest_counts_only_if_every_image_was_read(
    where: TableLocation, monkeypatch: pytest.MonkeyPatch, num_members: int
) -> None:
    """In skytext 0.1, a store fault could leave unread images in a manifest with a correct etag."""
    with monkeypatch.context() as patch:
        patch.setattr("skytext.table.shards.manifest._NUM_UNITS", b"skytext.other")
        written(where, members=MEMBERS.slice(0, num_members))  # the second image was not read
    found = read_manifest(where, "aerial", "a.tar", ["image_id"])
    assert (found is None) == (num_members == 3)
