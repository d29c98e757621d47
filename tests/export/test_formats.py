"""Test the content of the exports, and their memory use."""

from __future__ import annotations

import datetime as dt
import io
import json
import tarfile
from itertools import pairwise
from pathlib import Path
from typing import Any

import lance
import lancedb
import numpy as np
import pyarrow.parquet as pq
import pytest

from skytext.archive.shards import image_id
from skytext.errors import JobError
from skytext.evaluation.gallery_texts import described_in_jsonl
from skytext.export.geojson_file import geometry, write_geojson
from skytext.export.parquet_file import write_parquet
from skytext.export.rsrt import image_path, write_rsrt_jsonl
from skytext.export.webdataset import suffix, write_webdataset
from skytext.table.images_dataset import ImagesTable
from skytext.table.rows import scan as read
from tests.archive.formats.tars import make_tar
from tests.archives import images, write_archive
from tests.table.image_rows import rows_of, write_manifests
from tests.table.rows import (
    DIM,
    failed_row,
    good_row,
    good_rows,
    location,
    make_table,
)

BOX = {"west": 10.0, "south": 40.0, "east": 11.0, "north": 41.0}
TAKEN = dt.datetime(2024, 5, 31, 12, tzinfo=dt.UTC)
SAID: dict[str, Any] = {
    "datetime": TAKEN,
    "bbox": BOX,
    "gsd": 0.5,
    "collection": "naip",
    "metadata": '{"cloud": 3, "ü": ["ö"]}',
}


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> ImagesTable:
    where = location(tmp_path_factory.mktemp("export") / "t")
    west = BOX | {"west": 179.0, "east": -179.0}
    odd = good_row("b.png", bbox=west, gsd=float("nan"))
    rows = [good_row("x/a.JPG", **SAID), odd, good_row("c"), failed_row("d.jpg")]
    return make_table(where, rows)


def test_rsrt_lines_are_read_by_the_evaluation(table: ImagesTable, tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    with path.open("wb") as out:
        assert write_rsrt_jsonl(table, out) == 3
    found = list(described_in_jsonl(path))
    assert [image.image for image in found] == ["a.tar/x/a.JPG", "a.tar/b.png", "a.tar/c"]
    assert [one.one_sentence for one in found[0].variants] == [
        "x/a.JPG variant 0",
        "x/a.JPG variant 1",
    ]


@pytest.mark.parametrize(
    ("shard", "path"),
    [
        ("north/a.TAR", "north/a.TAR/x/1.jpg"),
        ("a.parquet", "a.parquet/x/1.jpg"),
        ("./", "x/1.jpg"),
        ("north/", "north/x/1.jpg"),
        ("described.jsonl", "x/1.jpg"),
    ],
)
def test_a_path_is_the_shard_s_and_the_member_s(shard: str, path: str) -> None:
    assert image_path(shard, "x/1.jpg") == path


def test_paths_that_several_images_have_get_the_image_s_id(tmp_path: Path) -> None:
    rows = [
        good_row("1.jpg", shard="a.tar"),
        good_row("1.jpg", shard="b.tar"),
        good_row("1.jpg", shard="b.tar", archive="other"),
        # This name occurs twice in a tar.
        good_row("x/2.jpg"),
        good_row("x/2.jpg", image_id=image_id("aerial", "a.tar", "x/2.jpg", 1)),
    ]
    out = io.BytesIO()
    assert write_rsrt_jsonl(make_table(location(tmp_path / "t"), rows), out) == 5
    ids = [row["image_id"] for row in rows]
    assert [json.loads(line)["image"] for line in out.getvalue().splitlines()] == [
        "a.tar/1.jpg",
        f"b.tar/{ids[1]}/1.jpg",
        f"b.tar/{ids[2]}/1.jpg",
        f"a.tar/{ids[3]}/x/2.jpg",
        f"a.tar/{ids[4]}/x/2.jpg",
    ]


def test_geojson_features(table: ImagesTable) -> None:
    out = io.BytesIO()
    assert write_geojson(table, out) == 3
    collection = json.loads(out.getvalue())
    assert collection["type"] == "FeatureCollection"
    one, two, three = collection["features"]
    assert one["bbox"] == [10, 40, 11, 41]
    assert one["geometry"] == {
        "type": "Polygon",
        "coordinates": [[[10, 40], [11, 40], [11, 41], [10, 41], [10, 40]]],
    }
    properties = one["properties"]
    assert properties["datetime"] == "2024-05-31T12:00:00Z"
    assert properties["gsd"] == 0.5
    assert properties["metadata"] == {"cloud": 3, "ü": ["ö"]}
    assert properties["captions"][1]["one_sentence"] == "x/a.JPG variant 1"
    assert two["geometry"]["type"] == "MultiPolygon"
    assert two["bbox"] == [179, 40, -179, 41]
    # NaN is not valid JSON.
    assert two["properties"]["gsd"] is None
    assert three["geometry"] is None
    assert "bbox" not in three
    assert len({feature["id"] for feature in collection["features"]}) == 3


def test_an_empty_export_is_well_formed(tmp_path: Path) -> None:
    table = make_table(location(tmp_path / "t"), [failed_row("d.jpg")])
    out = io.BytesIO()
    assert write_geojson(table, out) == 0
    assert json.loads(out.getvalue())["features"] == []
    out = io.BytesIO()
    assert write_parquet(table, out) == 0
    assert pq.read_table(io.BytesIO(out.getvalue())).num_rows == 0
    out = io.BytesIO()
    assert write_webdataset(table, out) == 0
    with tarfile.open(fileobj=io.BytesIO(out.getvalue())) as tar:
        assert tar.getnames() == []


@pytest.mark.parametrize(
    ("box", "kind", "spans"),
    [
        ((10, 0, 20, 5), "Polygon", [(10, 20)]),
        ((170, 0, -170, 5), "MultiPolygon", [(170, 180), (-180, -170)]),
        ((180, 0, -170, 5), "Polygon", [(-180, -170)]),
        ((170, 0, -180, 5), "Polygon", [(170, 180)]),
        ((-180, -90, 180, 90), "Polygon", [(-180, 180)]),
        ((10, 5, 10, 5), "Point", None),
    ],
)
def test_boxes_become_geometries(box: Any, kind: str, spans: Any) -> None:
    made = geometry(*box)
    assert made["type"] == kind
    if spans is None:
        assert made["coordinates"] == [10, 5]
        return
    polygons = made["coordinates"] if kind == "MultiPolygon" else [made["coordinates"]]
    assert len(polygons) == len(spans)
    for [ring], (west, east) in zip(polygons, spans, strict=True):
        assert ring[0] == ring[-1]
        longitudes = [x for x, _ in ring]
        assert (min(longitudes), max(longitudes)) == (west, east)
        assert {y for _, y in ring} == {box[1], box[3]}
        doubled = sum(x1 * y2 - x2 * y1 for (x1, y1), (x2, y2) in pairwise(ring))
        assert doubled > 0, "an exterior ring runs counter-clockwise"


def test_parquet_columns(table: ImagesTable) -> None:
    out = io.BytesIO()
    assert write_parquet(table, out, with_vectors=True) == 3
    found = pq.read_table(io.BytesIO(out.getvalue()))
    first = found.slice(0, 1).to_pylist()[0]
    assert first["datetime"] == TAKEN
    assert first["bbox"] == BOX
    assert json.loads(first["metadata"]) == {"cloud": 3, "ü": ["ö"]}
    assert first["captions"][0]["one_sentence"] == "x/a.JPG variant 0"
    assert np.shape(first["vectors"]) == (2, DIM)
    out = io.BytesIO()
    write_parquet(table, out)
    assert "vectors" not in pq.read_schema(io.BytesIO(out.getvalue())).names


def test_webdataset_pairs_captions_with_the_bytes_of_their_image(tmp_path: Path) -> None:
    shard = tmp_path / "a.tar"
    content = {"x/a.JPG": b"first image", "b.png": b"second"}
    shard.write_bytes(make_tar(list(content.items())))
    with tarfile.open(shard) as tar:
        offsets = {info.name: info.offset_data for info in tar}
    rows = [
        good_row(
            name,
            uri=f"file://{shard}#{name}",
            byte_offset=offsets[name],
            byte_length=len(content[name]),
        )
        for name in content
    ]
    table = make_table(location(tmp_path / "t"), rows)
    out = io.BytesIO()
    assert write_webdataset(table, out, with_images=True) == 2
    with tarfile.open(fileobj=io.BytesIO(out.getvalue())) as tar:
        files = {info.name: tar.extractfile(info).read() for info in tar}  # type: ignore[union-attr]
    for row, end in zip(rows, ("jpg", "png"), strict=True):
        key = row["image_id"]
        assert files[f"{key}.{end}"] == content[row["member"]]
        assert files[f"{key}.txt"] == b"a river"
        assert json.loads(files[f"{key}.json"])["member"] == row["member"]
    # The files of one image follow each other in the tar.
    assert [name.split(".")[1] for name in files] == ["json", "txt", "jpg", "json", "txt", "png"]
    again = io.BytesIO()
    write_webdataset(table, again, with_images=True)
    assert again.getvalue() == out.getvalue()


def test_webdataset_has_the_images_of_a_rewritten_tar(tmp_path: Path) -> None:
    root = write_archive(tmp_path / "aerial", {"a.tar": images(0, 3)})
    table = make_table(location(tmp_path / "t"), rows_of(root))
    before, after = io.BytesIO(), io.BytesIO()
    write_webdataset(table, before, with_images=True)
    write_archive(root, {"a.tar": [*images(5, 1), *images(0, 3)]})
    with pytest.raises(JobError, match="changed after it was read"):
        write_webdataset(table, after, with_images=True)
    write_manifests(table.location, root)
    after = io.BytesIO()
    assert write_webdataset(table, after, with_images=True) == 3
    assert after.getvalue() == before.getvalue()


@pytest.mark.parametrize(
    ("member", "end"),
    [("a.JPG", "jpg"), ("x.y/b", "img"), (".hidden", "img"), ("a.tar.tiff", "tiff"), ("", "img")],
)
def test_suffixes(member: str, end: str) -> None:
    assert suffix(member) == end


class _Counting(io.RawIOBase):
    """A stream that counts the written bytes."""

    def __init__(self) -> None:
        super().__init__()
        self.num_bytes = 0

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self.num_bytes += len(data)
        return len(data)


@pytest.mark.parametrize(
    "write", [write_rsrt_jsonl, write_geojson, write_webdataset, write_parquet]
)
def test_rows_are_written_as_they_are_read(
    write: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Test that the written rows are at most one row group behind the read rows. Therefore the
    memory use does not grow with the table."""
    monkeypatch.setattr(read, "BATCH_ROWS", 10)
    monkeypatch.setattr("skytext.export.parquet_file._GROUP_ROWS", 20)
    table = make_table(location(tmp_path / "t"), good_rows(0, 40), good_rows(40, 60))
    out = _Counting()
    written: list[int] = []
    sizes: list[int] = []
    whole = read.done_batches

    def watched(*arguments: Any) -> Any:
        for batch in whole(*arguments):
            sizes.append(batch.num_rows)
            written.append(out.num_bytes)
            yield batch

    for name in ("image_json", "parquet_file"):
        monkeypatch.setattr(f"skytext.export.{name}.done_batches", watched)
    assert write(table, out) == 100
    assert max(sizes) <= 10
    assert sum(sizes) == 100
    # When the last batch is read, most of the earlier rows are already written. The limit is low
    # because a tar is buffered in blocks of 10 KiB, and because a Parquet file of so few rows is
    # mostly its footer.
    assert written[-1] >= 0.35 * out.num_bytes
    assert sorted(written) == written


def test_lancedb_and_plain_lance_open_the_table(tmp_path: Path) -> None:
    """Test that other tools can read the table that a run writes."""
    folder = tmp_path / "t"
    table = make_table(location(folder), [good_row("a.jpg", **SAID), failed_row("b.jpg")])
    # Users find this name with `skytext status --json`.
    column = table.text_column.name
    opened = lancedb.connect(str(folder)).open_table("images")
    assert opened.count_rows() == 2
    assert opened.count_rows("status = 'ok' AND gsd < 1") == 1
    plain = lance.dataset(str(folder / "images.lance"))
    row = plain.to_table(columns=["captions", column], filter="status = 'ok'").to_pylist()[0]
    assert row["captions"][0]["caption"] == "a river"
    query = np.array(row[column][1], dtype=np.float32)
    [hit] = (
        opened.search(query, vector_column_name=column)
        .distance_type("cosine")
        .where("status = 'ok'")
        .limit(1)
        .to_list()
    )
    assert hit["member"] == "a.jpg"
    assert hit["_distance"] == pytest.approx(0, abs=1e-5)
