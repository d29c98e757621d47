from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import lance
import lancedb
import pyarrow as pa
import pytest

from skytext.errors import TableError
from skytext.table.images_dataset import ImagesTable, sql_text
from skytext.table.location import IMAGES, TableLocation
from skytext.table.schema import images_schema
from skytext.table.vector_columns import (
    Role,
    VectorColumn,
    VectorKind,
    read_metadata,
    to_metadata,
)
from skytext.table.versions.promote_rollback import promote
from tests.table.rows import (
    DIM,
    failed_row,
    good_row,
    good_rows,
    location,
    make_table,
    stage,
    text_column,
)

ODD_NAMES = ["it's.tar", "' OR '1'='1", "a.tar' OR 1=1 --", "'; drop table images; --", "ü 🛰.tar"]


@pytest.fixture
def where(tmp_path: Path) -> TableLocation:
    return location(tmp_path / "table")


def test_a_missing_table_is_none_or_an_error(where: TableLocation) -> None:
    assert ImagesTable.find(where) is None
    with pytest.raises(TableError, match=r"there is no table at .*skytext caption"):
        ImagesTable.open(where)
    with pytest.raises(TableError):
        ImagesTable.open(where, 3)


def test_a_foreign_data_set_is_rejected(where: TableLocation) -> None:
    lance.write_dataset(pa.table({"image_id": ["x"]}), where.dataset_uri(IMAGES))
    with pytest.raises(TableError, match="was not made by skytext"):
        ImagesTable.open(where)


def metadata(**more: str) -> dict[str, str]:
    return to_metadata([text_column(dim=DIM)]) | more


def test_another_format_says_what_to_do(where: TableLocation) -> None:
    values = metadata() | {"skytext.format_version": "2"}
    empty = images_schema(text_column(dim=DIM)).with_metadata(values).empty_table()
    lance.write_dataset(empty, where.dataset_uri(IMAGES))
    told = "has table format 2, but this release of skytext reads only formats 3 and 4"
    with pytest.raises(TableError, match=told):
        ImagesTable.open(where)


def test_missing_columns_are_named(where: TableLocation) -> None:
    empty = images_schema(text_column(dim=DIM)).with_metadata(metadata()).empty_table()
    lance.write_dataset(empty.drop_columns(["gsd", "text"]), where.dataset_uri(IMAGES))
    told = r"does not have the schema of skytext \(missing columns: gsd, text\)"
    with pytest.raises(TableError, match=told):
        ImagesTable.open(where)


def test_columns_of_vectors_survive_the_metadata() -> None:
    text = VectorColumn(VectorKind.TEXT, "f" * 32, "org/model", "abc", 384, "bfloat16")
    image = VectorColumn(VectorKind.IMAGE, "0" * 32, "clip", "", 512, role=Role.PENDING)
    assert (text.name, image.name) == ("text_vectors_ffffffff", "image_vector_00000000")
    assert read_metadata("t", to_metadata([text, image])) == (4, (text, image))
    assert VectorColumn.from_json(image.to_json()) == image


def test_rows_are_counted_by_status_reason_and_shard(where: TableLocation) -> None:
    table = make_table(
        where,
        good_rows(0, 3),
        [
            failed_row("b.jpg", shard="b.tar"),
            failed_row("c.jpg", shard="b.tar"),
            failed_row("", shard="b.tar", stage="read", reason="shard_truncated"),
            good_row("d.jpg", shard="b.tar"),
            good_row("d.jpg", shard="b.tar", archive="other"),
        ],
    )
    assert table.num_rows() == 8
    assert table.status_counts() == {"ok": 5, "failed": 3, "withdrawn": 0}
    assert list(table.failure_counts().items()) == [
        (("decode", "empty"), 2),
        (("read", "shard_truncated"), 1),
    ]
    found = table.rows_by_shard()
    assert {shard: rows.by_status for shard, rows in found.items()} == {
        ("aerial", "a.tar"): Counter(ok=3),
        ("aerial", "b.tar"): Counter(ok=1, failed=3),
        ("other", "b.tar"): Counter(ok=1),
    }
    for (archive, shard), rows in found.items():
        condition = f"archive = '{archive}' AND shard = '{shard}'"
        ids = table.dataset.to_table(["image_id"], filter=condition).column(0).to_pylist()
        assert rows.ids == (len(ids), sum(int(i[:16], 16) for i in ids) % 2**64)
    assert table.num_stale("c" * 32) == 0
    assert table.num_stale("d" * 32) == 5
    assert table.num_stale("' OR 1=1 --") == 5


def test_a_table_without_failures_says_so(where: TableLocation) -> None:
    table = make_table(where, good_rows(0, 2))
    assert table.status_counts() == {"ok": 2, "failed": 0, "withdrawn": 0}
    assert table.failure_counts() == {}


def test_a_shard_name_cannot_inject_a_filter(where: TableLocation) -> None:
    rows = [good_row("x.jpg", shard=name) for name in ODD_NAMES]
    table = make_table(where, [*rows, *good_rows(0, 3)])
    for row in rows:
        assert list(table.rows_of_shard("aerial", row["shard"])) == [row["image_id"]]
        assert table.rows_of_shard(row["shard"], "a.tar") == {}
    assert len(table.rows_of_shard("aerial", "a.tar")) == 3
    assert table.rows_of_shard("aerial", "b.tar") == {}
    assert table.num_rows() == len(ODD_NAMES) + 3


def test_rows_of_a_shard_are_looked_for_in_the_fragments_that_are_named(
    where: TableLocation,
) -> None:
    table = make_table(where, good_rows(0, 2), good_rows(2, 1), [good_row("x", shard="b.tar")])
    assert len(table.rows_of_shard("aerial", "a.tar", [0, 1])) == 3
    assert len(table.rows_of_shard("aerial", "a.tar", [1])) == 1
    assert table.rows_of_shard("aerial", "a.tar", [2]) == {}
    fragments = {
        (shard, fragment)
        for batch in table.row_batches("c" * 32)
        for shard, fragment in zip(batch.shard.to_pylist(), batch.fragment.to_pylist(), strict=True)
    }
    assert fragments == {("a.tar", 0), ("a.tar", 1), ("b.tar", 2)}


def test_statuses_of_shards_are_returned_by_image(where: TableLocation) -> None:
    rows = [good_row("x.jpg", shard=name) for name in ODD_NAMES]
    table = make_table(where, [*rows, *good_rows(0, 2)], [failed_row("00001.jpg")])
    one, two = (row["image_id"] for row in good_rows(0, 2))
    keys = [("aerial", "a.tar"), ("aerial", ODD_NAMES[0]), ("other", ODD_NAMES[1])]
    assert table.statuses_of_shards(keys) == {
        keys[0]: {one: ["ok"], two: ["ok", "failed"]},
        keys[1]: {rows[0]["image_id"]: ["ok"]},
        keys[2]: {},
    }
    assert table.statuses_of_shards([]) == {}


@pytest.mark.parametrize("name", ODD_NAMES)
def test_an_image_id_cannot_inject_a_filter(where: TableLocation, name: str) -> None:
    table = make_table(where, [good_row("a.jpg", image_id=name), *good_rows(0, 3)])
    assert table.rows([name], ["image_id"]) == [{"image_id": name}]
    assert sql_text("a'b") == "'a''b'"


def test_rows_are_looked_up_by_id(where: TableLocation) -> None:
    rows = good_rows(0, 5)
    table = make_table(where, rows)
    asked = [rows[3]["image_id"], "0" * 32, rows[1]["image_id"]]
    found = table.rows(asked, ["member", "status"])
    assert sorted(row["member"] for row in found) == ["00001.jpg", "00003.jpg"]
    assert table.rows([], ["member"]) == []


def test_metadata_can_be_queried_by_key(where: TableLocation) -> None:
    notes = [{"sensor": "S2", "cloud": 3}, {"sensor": "L8"}, None]
    rows = [
        good_row(f"{i}.jpg", metadata=None if note is None else json.dumps(note))
        for i, note in enumerate(notes)
    ]
    dataset = make_table(where, rows).dataset
    condition = "json_get_string(metadata, 'sensor') = 'S2'"
    found = dataset.to_table(columns=["member"], filter=condition).to_pylist()
    assert found == [{"member": "0.jpg"}]
    kept = dataset.to_table(columns=["metadata"]).column("metadata").to_pylist()
    assert [None if text is None else json.loads(text) for text in kept] == notes


def test_an_old_version_does_not_change(where: TableLocation) -> None:
    latest = make_table(where, good_rows(0, 2), good_rows(2, 3))
    first = ImagesTable.open(where, latest.version - 1)
    stage(where, good_rows(9, 1))
    assert (first.num_rows(), latest.num_rows()) == (2, 5)
    with pytest.raises(TableError, match="has no version 99"):
        ImagesTable.open(where, 99)
    with pytest.raises(TableError, match="has no version 'nightly'"):
        ImagesTable.open(where, "nightly")


def test_the_promoted_version_is_served(where: TableLocation) -> None:
    table = make_table(where, good_rows(0, 2), good_rows(2, 3))
    assert table.live_version() is None
    assert ImagesTable.open_served(where).version == table.version
    promote(table.location, table.version - 1)
    assert ImagesTable.open_served(where).num_rows() == 2
    assert ImagesTable.open(where, "live").num_rows() == 2
    promote(table.location, table.version)
    assert ImagesTable.open_served(where).num_rows() == 5


def test_lancedb_and_lance_open_a_table(where: TableLocation) -> None:
    make_table(where, good_rows(0, 4))
    opened = lancedb.connect(where.uri).open_table("images")
    assert opened.count_rows() == 4
    assert opened.schema.names == images_schema(text_column(dim=DIM)).names
    assert lance.dataset(f"{where.uri}/images.lance").count_rows() == 4
