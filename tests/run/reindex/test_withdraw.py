"""Test the withdrawal of missing images, and the manifests of their shards."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest

from skytext.archive.shards import Shard
from skytext.run.reindex import withdraw
from skytext.run.reindex.withdraw import withdraw_gone
from skytext.run.worklist import PlanOptions
from skytext.table.commits.claim import hold
from skytext.table.images_dataset import ImagesTable
from skytext.table.shards.manifest import MANIFEST, Manifest, read_manifest, write_manifest
from tests.table.rows import good_row, location, make_table

OPTIONS = PlanOptions("c" * 32, whole_archives=frozenset({"aerial"}))


def test_the_manifest_of_a_shard_that_is_gone_is_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(withdraw, "run_on_driver_node", lambda f, *args: f(*args))
    where = location(tmp_path / "table")
    shards = ("a.tar", "b.tar")
    rows = [good_row("1.jpg", shard=shard, content_sha256="0" * 64) for shard in shards]
    make_table(where, rows)
    for shard, row in zip(shards, rows, strict=True):
        member = {name: row.get(name) for name in MANIFEST.names}
        members = pa.Table.from_pylist([member], schema=MANIFEST)
        write_manifest(where, "aerial", shard, Manifest("etag", 10, 1, members))
    left = Shard("aerial", "file:///x/a.tar", "a.tar", 10, "etag")
    with hold(where, "run", "reindex") as claim:
        done = withdraw_gone(claim, [left], OPTIONS, 0.5, "run")
    assert done.num_images == 1
    assert ImagesTable.open(where).status_counts() == {"ok": 1, "failed": 0, "withdrawn": 1}
    known = [read_manifest(where, "aerial", shard) is not None for shard in shards]
    assert known == [True, False]
