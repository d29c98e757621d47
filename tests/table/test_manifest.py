"""What is known of a shard without opening it."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest

from skytext.table.location import TableLocation
from skytext.table.manifest import MANIFEST, read_manifest, write_manifest

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


def test_what_was_written_is_read_at_the_same_etag(where: TableLocation) -> None:
    write_manifest(where, "aerial", "a.tar", '"etag"', MEMBERS)
    found = read_manifest(where, "aerial", "a.tar", '"etag"')
    assert found is not None
    assert found.schema.equals(MANIFEST)
    assert found.to_pylist() == MEMBERS.to_pylist()
    assert read_manifest(where, "aerial", "a.tar", '"another"') is None


def test_only_the_columns_asked_for_are_read(where: TableLocation) -> None:
    write_manifest(where, "aerial", "a.tar", "e", MEMBERS)
    found = read_manifest(where, "aerial", "a.tar", "e", ["content_sha256", "image_id"])
    assert found is not None
    assert set(found.column_names) == {"content_sha256", "image_id"}
    assert found.column("image_id").to_pylist() == MEMBERS.column("image_id").to_pylist()


def test_the_last_one_counts(where: TableLocation) -> None:
    write_manifest(where, "aerial", "a.tar", "one", MEMBERS)
    write_manifest(where, "aerial", "a.tar", "two", MEMBERS.slice(0, 1))
    assert read_manifest(where, "aerial", "a.tar", "one") is None
    found = read_manifest(where, "aerial", "a.tar", "two")
    assert found is not None
    assert found.num_rows == 1


def test_no_shard_is_taken_for_another(where: TableLocation) -> None:
    """Whatever the names look like, and where they are cut."""
    pairs = [("a", "b/c.tar"), ("a/b", "c.tar"), ('a", "b', "c.tar"), ("", "a"), ("a", "")]
    for i, (archive, shard) in enumerate(pairs):
        write_manifest(where, archive, shard, f"e{i}", MEMBERS)
    for i, (archive, shard) in enumerate(pairs):
        assert read_manifest(where, archive, shard, f"e{i}") is not None
        assert read_manifest(where, archive, shard, f"e{i + 1}") is None
    assert read_manifest(where, "b", "c.tar", "e0") is None


def test_names_and_etags_of_all_bytes(where: TableLocation) -> None:
    """A file system's names are bytes, of which not all are text."""
    etag = "odd \udcff etag"
    write_manifest(where, "aerial", "shärd \udcff.tar", etag, MEMBERS)
    found = read_manifest(where, "aerial", "shärd \udcff.tar", etag)
    assert found is not None
    assert found.num_rows == 3


def test_an_empty_shard_is_known_to_be_empty(where: TableLocation) -> None:
    write_manifest(where, "aerial", "a.tar", "e", MANIFEST.empty_table())
    found = read_manifest(where, "aerial", "a.tar", "e")
    assert found is not None
    assert found.num_rows == 0
