from __future__ import annotations

import json
import tracemalloc
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from skytext.archive import (
    ReadLimits,
    ReadOptions,
    Sample,
    Shard,
    discover,
    fetch_image,
    image_id,
    list_members,
    read_shard,
)
from skytext.archive.formats.parquet_columns import find_columns
from skytext.errors import Reason, SourceError
from tests.archive.formats.tars import make_tar, write_shard
from tests.archive.formats.test_by_format import assert_same, fields_of

IMAGE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])


def cells(num: int, size: int = 1000) -> list[dict[str, Any]]:
    return [{"bytes": bytes([i % 256]) * size, "path": f"d/{i}.jpg"} for i in range(num)]


def write(path: Path, columns: dict[str, Any] | pa.Table, **kwargs: Any) -> Shard:
    path.parent.mkdir(parents=True, exist_ok=True)
    table = columns if isinstance(columns, pa.Table) else pa.table(columns)
    pq.write_table(table, path, **kwargs)
    (shard,) = discover([str(path)])
    return shard


def hugging_face(path: Path, num: int = 10, group: int = 4) -> Shard:
    images = pa.array(cells(num), IMAGE)
    columns = {"image": images, "caption": [f"text {i}" for i in range(num)]}
    return write(path, columns, row_group_size=group)


def metadata_of(sample: Sample) -> Any:
    return json.loads(sample.metadata or "{}")


def test_every_row_is_an_image(tmp_path: Path) -> None:
    shard = hugging_face(tmp_path / "aerial" / "p.parquet")
    samples = list(read_shard(shard))
    assert [s.data for s in samples] == [cell["bytes"] for cell in cells(10)]
    assert [(s.row_group, s.row) for s in samples] == [(i // 4, i % 4) for i in range(10)]
    one = samples[5]
    assert one.image_id == image_id("aerial", "p.parquet", "d/5.jpg", 0)
    assert one.uri == f"{shard.uri}#d/5.jpg"
    assert (one.byte_offset, one.byte_length, one.shard_etag) == (None, None, shard.etag)
    assert metadata_of(one) == {"caption": "text 5"}
    assert_same(shard)


def test_a_row_without_a_path_is_named_by_its_number(tmp_path: Path) -> None:
    paths = ["a.jpg", None, "", "a.jpg", "row-1"]
    images = [{"bytes": b"x", "path": path} for path in paths]
    shard = write(tmp_path / "p.parquet", {"image": pa.array(images, IMAGE)}, row_group_size=2)
    walked = assert_same(shard)
    assert [m.member for m in walked] == ["a.jpg", "row-1", "row-2", "a.jpg", "row-1"]
    assert len({m.image_id for m in walked}) == 5
    plain = write(tmp_path / "q.parquet", {"jpg": [b"x", b"y"]})
    assert [m.member for m in assert_same(plain)] == ["row-0", "row-1"]


def test_an_image_that_is_not_there_is_a_failure(tmp_path: Path) -> None:
    images = [{"bytes": b"x", "path": "a"}, {"bytes": None, "path": "b"}, None]
    shard = write(tmp_path / "p.parquet", {"image": pa.array(images, IMAGE)})
    samples = list(read_shard(shard, limits=ReadLimits(max_member_bytes=1)))
    assert [s.failure.reason if s.failure else None for s in samples] == [None, *[Reason.EMPTY] * 2]
    assert [s.image_id for s in samples] == [m.image_id for m in list_members(shard)]
    (large,) = read_shard(
        write(tmp_path / "l.parquet", {"image": [b"xx"]}), limits=ReadLimits(max_member_bytes=1)
    )
    assert large.failure is not None
    assert (large.failure.reason, large.data) == (Reason.MEMBER_TOO_LARGE, None)


def test_other_columns_are_metadata(tmp_path: Path) -> None:
    when = datetime(2020, 6, 1, 12, tzinfo=UTC)
    columns = {
        "img": pa.array([b"a", b"b"], pa.large_binary()),
        "datetime": pa.array([when, None], pa.timestamp("ns", "UTC")),
        "bbox": [{"xmin": 1.0, "ymin": 2.0, "xmax": 3.0, "ymax": 4.0}, None],
        "gsd": [0.5, float("nan")],
        "collection": ["naip", None],
        "geometry": [b"wkb", b"wkb"],
        "embedding": [[0.1, 0.2], [0.3, 0.4]],
        "labels": [["a", "b"], None],
        "day": pa.array([18000, None], pa.date32()),
        "json": ['{"gsd": 3, "n": 1}', '{"gsd": 3, "n": 2}'],
    }
    one, two = read_shard(write(tmp_path / "p.parquet", columns))
    assert (one.datetime, one.bbox, one.gsd, one.collection) == (when, (1, 2, 3, 4), 0.5, "naip")
    assert metadata_of(one) == {
        "labels": ["a", "b"],
        "day": "2019-04-14",
        "json": {"gsd": 3, "n": 1},
    }
    assert (two.gsd, metadata_of(two)) == (3.0, {"json": {"n": 2}})


def test_a_stac_item_beside_the_image_is_read_as_a_sidecar(tmp_path: Path) -> None:
    item = {
        "type": "Feature",
        "bbox": [1, 2, 3, 4],
        "properties": {"datetime": "2020-06-01T12:00:00Z", "k": 1},
    }
    columns = {"image": [b"a"], "stac_item": [json.dumps(item)]}
    (sample,) = read_shard(write(tmp_path / "p.parquet", columns))
    assert sample.bbox == (1, 2, 3, 4)
    assert sample.datetime == datetime(2020, 6, 1, 12, tzinfo=UTC)
    assert metadata_of(sample)["stac_item"]["properties"] == {"k": 1}


def test_metadata_above_the_limit_is_ignored(tmp_path: Path) -> None:
    shard = write(tmp_path / "p.parquet", {"image": [b"a"], "t": ["x" * 5000], "gsd": [2.0]})
    (sample,) = read_shard(shard, limits=ReadLimits(max_sidecar_bytes=1000))
    assert (sample.data, sample.gsd) == (b"a", 2.0)
    assert "1000 bytes" in metadata_of(sample)["_sidecar_error"]


# The following tests check which column is the image column.


@pytest.mark.parametrize(
    ("schema", "expected"),
    [
        ({"x": pa.binary()}, "x"),
        ({"x": pa.binary(), "image": pa.binary()}, "image"),
        ({"x": IMAGE, "image": pa.binary()}, "x"),
        ({"geometry": pa.binary(), "y": pa.large_binary()}, "y"),
        ({"thumb": IMAGE, "image": IMAGE}, "image"),
    ],
)
def test_the_image_column_is_found(schema: dict[str, pa.DataType], expected: str) -> None:
    assert find_columns(pa.schema(schema), None).image == expected


def test_the_image_column_declared_by_hugging_face_is_used() -> None:
    features = {"info": {"features": {"b": {"_type": "Image"}, "a": {"_type": "Value"}}}}
    schema = pa.schema({"a": IMAGE, "b": IMAGE}, {"huggingface": json.dumps(features)})
    assert find_columns(schema, None).image == "b"


@pytest.mark.parametrize(
    ("columns", "chosen", "message"),
    [
        ({"before": [b"a"], "after": [b"b"]}, None, "'before', 'after'.*sources.image_column"),
        ({"url": ["http"]}, None, r"no image column.*'url'"),
        ({"image": [b"a"]}, "img", "no column 'img'.*'image'"),
        ({"image": [b"a"], "url": ["x"]}, "url", "type string"),
    ],
)
def test_an_ambiguous_image_column_is_an_error(
    tmp_path: Path, columns: dict[str, Any], chosen: str | None, message: str
) -> None:
    pq.write_table(pa.table(columns), tmp_path / "p.parquet")
    options = ReadOptions(image_column=chosen)
    with pytest.raises(SourceError, match=message) as caught:
        discover([str(tmp_path)], options=options)
    assert "p.parquet" in str(caught.value)
    shard = Shard("a", (tmp_path / "p.parquet").as_uri(), "p.parquet", 0, "")
    (failed,) = read_shard(shard, options=options)
    assert failed.failure is not None
    assert failed.member == ""


def test_the_chosen_column_is_read(tmp_path: Path) -> None:
    pq.write_table(pa.table({"before": [b"a"], "after": [b"b"]}), tmp_path / "p.parquet")
    options = ReadOptions(image_column="after")
    (shard,) = discover([str(tmp_path)], options=options)
    (sample,) = read_shard(shard, options=options)
    assert sample.data == b"b"
    assert fetch_image(sample.uri, sample.member, row_group=0, row=0, options=options) == b"b"


def test_a_parquet_table_beside_its_tar_is_not_a_shard(tmp_path: Path) -> None:
    write_shard(tmp_path / "00000.tar", make_tar([("a.jpg", b"a")]))
    pq.write_table(pa.table({"url": ["x"]}), tmp_path / "00000.parquet")
    assert [shard.path for shard in discover([str(tmp_path)])] == ["00000.tar"]
    pq.write_table(pa.table({"url": ["x"]}), tmp_path / "meta.parquet")
    shards = discover([str(tmp_path)])
    assert [shard.path for shard in shards] == ["00000.tar", "meta.parquet"]
    (failed,) = read_shard(shards[1])
    assert failed.failure is not None
    assert "no image column" in failed.failure.detail


# The following tests check memory use and requests.


def test_a_large_row_group_is_read_in_small_batches(tmp_path: Path) -> None:
    noise = np.random.default_rng(1)
    path = tmp_path / "p.parquet"
    schema = pa.schema({"image": pa.binary()})
    with pq.ParquetWriter(path, schema, compression="none", write_batch_size=16) as writer:
        images = [noise.bytes(250_000) for _ in range(400)]
        writer.write_table(pa.table({"image": images}, schema=schema), row_group_size=400)
        del images
    (shard,) = discover([str(path)])
    assert shard.size_bytes > 99_000_000
    before = pa.total_allocated_bytes()
    tracemalloc.start()
    peak = num = 0
    for sample in read_shard(shard):
        num += len(sample.data or b"")
        peak = max(peak, pa.total_allocated_bytes() - before)
    peak += tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert num == 100_000_000
    assert peak < 80_000_000


def test_the_walk_reads_paths_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from skytext.archive.formats import parquet

    images = [
        {"bytes": np.random.default_rng(i).bytes(100_000), "path": f"{i}.jpg"} for i in range(50)
    ]
    shard = write(tmp_path / "p.parquet", {"image": pa.array(images, IMAGE)}, row_group_size=10)
    files = []
    original = parquet.open_ranged

    def watch(*args: Any, **kwargs: Any) -> Any:
        files.append(original(*args, **kwargs))
        return files[-1]

    monkeypatch.setattr(parquet, "open_ranged", watch)
    assert len(list(list_members(shard))) == 50
    assert files[0].num_fetched_bytes < 200_000
    assert files[0].closed


def test_an_image_is_fetched_again(tmp_path: Path) -> None:
    shard = hugging_face(tmp_path / "p.parquet")
    for sample in read_shard(shard):
        place = {"row_group": sample.row_group, "row": sample.row}
        again = fetch_image(sample.uri, sample.member, etag=shard.etag, **place)
        assert again == sample.data
    for group, row in ((9, 0), (0, 4), (0, -1)):
        with pytest.raises(OSError, match="no row"):
            fetch_image(f"{shard.uri}#x", "x", row_group=group, row=row)
    hugging_face(tmp_path / "p.parquet", 11)
    with pytest.raises(OSError, match="changed"):
        fetch_image(f"{shard.uri}#x", "x", row_group=0, row=0, etag=shard.etag)


def test_parquet_in_a_bucket(s3: Any, tmp_path: Path) -> None:
    local = hugging_face(tmp_path / "x" / "p.parquet")
    s3.create_bucket(Bucket="rows")
    s3.put_object(Bucket="rows", Key="x/p.parquet", Body=(tmp_path / "x/p.parquet").read_bytes())
    (shard,) = discover(["s3://rows/x"])
    there = list(read_shard(shard))
    here = list(read_shard(local))
    assert [(s.image_id, s.data) for s in there] == [(s.image_id, s.data) for s in here]
    assert_same(shard)
    sample = there[6]
    place = {"row_group": sample.row_group, "row": sample.row, "etag": sample.shard_etag}
    assert fetch_image(sample.uri, sample.member, **place) == sample.data


# The following tests read damaged and unusual files.


def test_an_invalid_parquet_file_is_one_failure(tmp_path: Path) -> None:
    hugging_face(tmp_path / "p.parquet")
    data = (tmp_path / "p.parquet").read_bytes()
    footer = int.from_bytes(data[-8:-4], "little")
    contents = {
        b"": Reason.SHARD_UNREADABLE,
        b"not parquet at all" * 10: Reason.SHARD_UNREADABLE,
        data[:-100]: Reason.SHARD_TRUNCATED,
        data[: len(data) // 2]: Reason.SHARD_TRUNCATED,
        data[: -8 - footer] + b"\xff" * footer + data[-8:]: Reason.SHARD_UNREADABLE,
    }
    for content, reason in contents.items():
        (tmp_path / "b.parquet").write_bytes(content)
        (shard,) = discover([str(tmp_path / "b.parquet")])
        (member,) = assert_same(shard)
        assert member.failure is not None
        assert (member.member, member.failure.reason) == ("", reason)


def test_damage_fails_the_rest_of_its_row_group(tmp_path: Path) -> None:
    shard = hugging_face(tmp_path / "p.parquet", 30, 10)
    data = bytearray((tmp_path / "p.parquet").read_bytes())
    chunk = pq.ParquetFile(tmp_path / "p.parquet").metadata.row_group(1).column(0)
    start = chunk.dictionary_page_offset or chunk.data_page_offset
    data[start : start + 40] = b"\xff" * 40
    (tmp_path / "p.parquet").write_bytes(bytes(data))
    (shard,) = discover([str(tmp_path / "p.parquet")])
    samples = list(read_shard(shard))
    assert [s.failure is None for s in samples] == [*[True] * 10, *[False] * 10, *[True] * 10]
    assert samples[10].member == "d/10.jpg"
    assert [s.image_id for s in samples] == [m.image_id for m in list_members(shard)]


def test_header_walk_and_reader_list_the_same_after_damage(tmp_path: Path) -> None:
    hugging_face(tmp_path / "p.parquet", 12, 5)
    data = (tmp_path / "p.parquet").read_bytes()
    generator = np.random.default_rng(7)
    for _ in range(150):
        damaged = bytearray(data)
        for _ in range(int(generator.integers(1, 4))):
            place = int(generator.integers(4, len(data) - 8))
            damaged[place : place + int(generator.integers(1, 30))] = generator.bytes(12)
        (tmp_path / "b.parquet").write_bytes(bytes(damaged))
        shard = Shard("a", (tmp_path / "b.parquet").as_uri(), "b.parquet", 0, "")
        walked = [fields_of(m)[:8] for m in list_members(shard)]
        assert walked == [fields_of(s)[:8] for s in read_shard(shard)]


def test_columns_with_duplicate_names_are_ignored(tmp_path: Path) -> None:
    names = ["image", "cloud", "gsd", "cloud"]
    table = pa.Table.from_arrays([pa.array([b"x"]), *(pa.array([n]) for n in (1, 2, 3))], names)
    (sample,) = read_shard(write(tmp_path / "s.parquet", table))
    assert (sample.data, sample.gsd, sample.metadata) == (b"x", 2, None)


def test_images_in_a_dictionary_are_read(tmp_path: Path) -> None:
    table = pa.table({"image": pa.array([b"x", b"y", b"x", None]).dictionary_encode()})
    shard = write(tmp_path / "s.parquet", table)
    assert [sample.data for sample in read_shard(shard)] == [b"x", b"y", b"x", None]
