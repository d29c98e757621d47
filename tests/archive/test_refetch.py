from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from skytext.archive import Place, discover, fetch_images, read_shard
from tests.archives import images, write_archive


def places_of(root: Path) -> dict[str, tuple[Place, bytes | None]]:
    found = {}
    for shard in discover([str(root)]):
        for sample in read_shard(shard):
            place = Place(
                sample.uri,
                sample.member,
                sample.byte_offset,
                sample.byte_length,
                sample.row_group,
                sample.row,
                sample.shard_etag,
            )
            found[f"{sample.shard}/{sample.member}"] = place, sample.data
    return found


def test_images_of_all_kinds_are_returned_in_the_requested_order(tmp_path: Path) -> None:
    root = write_archive(tmp_path / "aerial", {"a.tar": images(0, 5)})
    (root / "loose.jpg").write_bytes(images(50, 1)[0][1])
    cells = pa.table({"image": pa.array([data for _, data in images(20, 9)], pa.binary())})
    pq.write_table(cells, root / "p.parquet", row_group_size=4)
    found = places_of(root)
    assert len(found) == 15
    names = sorted(found, key=lambda name: name[::-1])
    fetched = list(fetch_images([found[name][0] for name in names], num_threads=3))
    assert fetched == [found[name][1] for name in names]


def test_unavailable_images_are_errors_and_the_others_are_returned(tmp_path: Path) -> None:
    root = write_archive(tmp_path / "aerial", {"a.tar": images(0, 3), "b.tar": images(3, 2)})
    cells = pa.table({"image": pa.array([images(20, 1)[0][1], None, b"x"], pa.binary())})
    pq.write_table(cells, root / "p.parquet")
    found = places_of(root)
    (root / "a.tar").unlink()
    sparse = Place("file:///x/s.tar#m.jpg", "m.jpg")
    fetched = list(fetch_images([*(place for place, _ in found.values()), sparse], num_threads=2))
    results = dict(zip([*found, "sparse"], fetched, strict=True))
    assert [name for name, data in results.items() if isinstance(data, bytes)] == [
        "b.tar/0003.jpg",
        "b.tar/0004.jpg",
        "p.parquet/row-0",
        "p.parquet/row-2",
    ]
    assert isinstance(results["a.tar/0001.jpg"], FileNotFoundError)
    assert "the Parquet cell contains no image" in str(results["p.parquet/row-1"])
    assert "cannot be read alone" in str(results["sparse"])
