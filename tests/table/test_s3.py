from __future__ import annotations

import datetime as dt
import os
import subprocess
import sys
import uuid
from typing import Any

import lancedb
import pytest

from skytext.config.index import IndexConfig
from skytext.errors import CommitConflictError, TableError, TableHeldError
from skytext.table.commits.adoption import adopt, collect_orphans
from skytext.table.commits.claim import hold
from skytext.table.commits.commit_rows import Committer
from skytext.table.commits.stage_rows import (
    forget_records,
    has_all_files,
    read_records,
    staged_unit_ids,
)
from skytext.table.images_dataset import ImagesTable
from skytext.table.indexes.build_indexes import build_indexes
from skytext.table.location import TableLocation
from skytext.table.runs_dataset import RunRecord, last_runs, record_run
from tests.table.image_rows import commit_vectors, embed_numbers, stage_numbers, vectors_by_number
from tests.table.rows import committer, good_rows, stage, text_column


@pytest.fixture
def where(s3: Any) -> TableLocation:
    s3.create_bucket(Bucket="tables")
    return TableLocation.parse(f"s3://tables/{uuid.uuid4().hex}/t")


def test_a_table_in_a_store_is_written_read_and_fenced(where: TableLocation) -> None:
    assert ImagesTable.find(where) is None
    one = committer(where)
    unit = stage(where, good_rows(0, 3))
    assert ImagesTable.find(where) is None
    one.commit([unit])
    two = committer(where)
    one.commit([stage(where, good_rows(3, 2))])
    with pytest.raises(CommitConflictError):
        two.commit([stage(where, good_rows(3, 2))])
    table = ImagesTable.open(where)
    assert table.num_rows() == 5
    assert len(table.rows_of_shard("aerial", "a.tar")) == 5
    assert ImagesTable.open(where, table.version - 1).num_rows() == 3


def test_opening_a_table_in_a_store_does_not_import_the_namespace_client(
    where: TableLocation,
) -> None:
    """The import of this client takes longer than all other imports of a worker."""
    committer(where).commit([stage(where, good_rows(0, 3))])
    code = f"""
import sys
from skytext.table.images_dataset import ImagesTable
from skytext.table.location import TableLocation
assert ImagesTable.open(TableLocation.parse({where.uri!r})).num_rows() == 3
print("lance_namespace" in sys.modules)
"""
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout == "False\n"


def test_only_one_of_two_writers_creates_a_table_in_a_store(where: TableLocation) -> None:
    one, two = Committer(where, text_column(), None), Committer(where, text_column(), None)
    units = [stage(where, good_rows(0, 2)), stage(where, good_rows(0, 3))]
    version = one.commit(units[:1])
    with pytest.raises(CommitConflictError, match="another run committed"):
        two.commit(units[1:])
    table = ImagesTable.open(where)
    assert (table.version, table.num_rows()) == (version, 2)


def test_a_merge_in_a_store_does_not_block_a_writer(where: TableLocation) -> None:
    writer = committer(where)
    writer.commit([stage(where, good_rows(2 * i, 2)) for i in range(9)])
    late = committer(where)
    assert build_indexes(ImagesTable.open(where), IndexConfig()).num_fragments == 1
    writer.commit([stage(where, good_rows(18, 1))])
    assert ImagesTable.open(where).num_rows() == 19
    with pytest.raises(CommitConflictError):
        late.commit([stage(where, good_rows(18, 1))])


def test_a_table_in_a_store_is_indexed_and_promoted(where: TableLocation) -> None:
    committer(where).commit([stage(where, good_rows(0, 10))])
    assert build_indexes(ImagesTable.open(where), IndexConfig()).promoted
    served = ImagesTable.open_served(where)
    assert served.live_version() == served.version
    run = RunRecord("run", "caption", "done", dt.datetime(2026, 1, 1, tzinfo=dt.UTC))
    record_run(where, run)
    assert last_runs(where, 1) == [run]


def test_a_table_in_a_store_is_held_by_one(where: TableLocation) -> None:
    with hold(where, "one", "caption", lease_s=2.0) as claim:
        with (
            pytest.raises(TableHeldError, match=f"is held by .* process {os.getpid()}, since"),
            hold(where, "two", "caption", lease_s=60.0),
        ):
            pass
        claim.check()
    with hold(where, "three", "caption", lease_s=60.0) as after:
        assert (after.number, after.took_over) == (claim.number + 1, False)
        with pytest.raises(TableHeldError):
            claim.check()


def test_staged_units_in_a_store_are_adopted(where: TableLocation) -> None:
    committer(where).commit([stage(where, good_rows(0, 2))])
    fitting = {
        "caption_fingerprint": "c",
        "embedding_fingerprint": text_column().fingerprint,
    }
    stage(where, good_rows(2, 3), **fitting)
    other = stage(where, good_rows(5, 1), **fitting | {"caption_fingerprint": "other"})
    found = adopt(
        where,
        text_column(),
        ImagesTable.open(where).version,
        lambda: None,
        caption_fingerprint="c",
    )
    assert (found.num_adopted, found.num_discarded, found.num_records) == (3, 1, 3)
    assert (staged_unit_ids(where), has_all_files(where, other)) == ([], False)
    orphan = stage(where, good_rows(9, 1))
    assert collect_orphans(where) == 0
    assert has_all_files(where, orphan)
    table = ImagesTable.open(where)
    assert len(table.dataset.to_table()) == table.num_rows() == 5


def test_a_row_is_replaced_in_a_store(where: TableLocation) -> None:
    committer(where).commit([stage(where, good_rows(0, 3))])
    unit = stage(where, good_rows(1, 1), replaces={good_rows(1, 1)[0]["image_id"]: "unit"})
    committer(where).commit([unit])
    table = ImagesTable.open(where)
    assert (table.num_rows(), len(table.double_rows())) == (3, 0)


def test_a_bucket_that_is_not_there_is_a_wrong_call(s3: Any) -> None:
    with pytest.raises(TableError):
        ImagesTable.find(TableLocation.parse("s3://nobucket/t"))


@pytest.mark.parametrize(
    "name",
    ["a b", " a", "ü 🛰", "u\u0308", "100%", "50% b", "%zz", "a+b&c=d", "a@b:c", "...", "[*]\\|"],
)
def test_all_files_of_a_table_are_under_its_literal_name(s3: Any, name: str) -> None:
    bucket = uuid.uuid4().hex
    s3.create_bucket(Bucket=bucket)
    where = TableLocation.parse(f"S3://{bucket}/{name}/")
    with hold(where, "one", "caption"):
        committer(where).commit([stage(where, good_rows(0, 10))])
        committer(where).commit([stage(where, good_rows(10, 2))])
    build_indexes(ImagesTable.open(where), IndexConfig())
    record_run(where, RunRecord("run", "caption", "done", dt.datetime(2026, 1, 1, tzinfo=dt.UTC)))
    assert ImagesTable.open_served(where).num_rows() == 12
    again = lancedb.connect(where.uri, storage_options=where.short_lived_options("images"))
    assert again.open_table("images").count_rows() == 12
    keys = [item["Key"] for item in s3.list_objects_v2(Bucket=bucket)["Contents"]]
    places = {key.removeprefix(f"{name}/").partition("/")[0] for key in keys}
    assert places == {"images.lance", "runs.lance", "state"}
    assert all(key.startswith(f"{name}/") for key in keys)


def test_image_vectors_in_a_store_are_written_read_and_fenced(where: TableLocation) -> None:
    committer(where).commit([stage(where, good_rows(0, 3)), stage(where, good_rows(3, 2))])
    embed_numbers(where, 0, 4)
    version = ImagesTable.open(where).version
    unit = stage_numbers(where, [1])
    commit_vectors(where, version, [unit])
    with pytest.raises(CommitConflictError):
        commit_vectors(where, version, [stage_numbers(where, [2])])
    found = vectors_by_number(where)
    assert [number for number, vector in sorted(found.items()) if vector] == [0, 1, 4]
    assert len(staged_unit_ids(where)) == 5
    forget_records(where, read_records(where, staged_unit_ids(where)))
    assert staged_unit_ids(where) == []
