"""Test the stages that list, fetch, embed and stage images.

The tests process one unit after the other, without a cluster.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from skytext.archive import ReadOptions
from skytext.config.embedding import ImageEmbedConfig
from skytext.config.pixels import ImageConfig
from skytext.errors import ModelError
from skytext.models.checkpoints import image_model
from skytext.models.factory import make_image_embedder
from skytext.models.fakes.embedders import FakeImageEmbedder
from skytext.models.fingerprints import image_embedding_fingerprint
from skytext.pixels.decode import ImageLimits, decode_rgb
from skytext.run.control.prepare_vectors import RowGroup, group_fragments
from skytext.run.control.stop_flag import StopFlag
from skytext.run.stages.decode_images import ImageDecoder
from skytext.run.stages.fetch_images import ImageFetcher
from skytext.run.stages.list_rows import RowLister
from skytext.run.stages.stage_vectors import ImageModel, StageVectors
from skytext.run.units import UnitRecord, unpack
from skytext.table.commits.stage_rows import read_records, staged_unit_ids
from skytext.table.commits.stage_vectors import read_vectors
from skytext.table.images_dataset import ImagesTable
from skytext.table.location import TableLocation
from skytext.table.rows.missing_vectors import count_without_vector
from skytext.table.vector_columns import VectorColumn, VectorKind
from tests.archives import (
    bad_images,
    images,
    jpeg,
    tiff16,
    write_archive,
)
from tests.table.image_rows import rows_of, write_manifests
from tests.table.rows import good_row, location, make_table

MODEL = image_model(ImageEmbedConfig(model="fake"))
COLUMN = VectorColumn(
    VectorKind.IMAGE, image_embedding_fingerprint(MODEL, ImageConfig()), MODEL.name, ""
)


def list_units(where: TableLocation, **more: Any) -> list[pa.Table]:
    table = ImagesTable.open(where)
    options = {"unit_images": 3, "unit_bytes": 2**20} | more
    lister = RowLister(where, table.version, COLUMN, stop=StopFlag(where, "run"), **options)
    groups = group_fragments(count_without_vector(table, COLUMN), 4)
    rows = [{"group": g.name, "fragment_ids": list(g.fragment_ids)} for g in groups]
    return [unit for row in rows for unit in lister(pa.Table.from_pylist([row]))]


def fetch(where: TableLocation, unit: pa.Table) -> pa.Table:
    fetched = ImageFetcher(ReadOptions(), 4, StopFlag(where, "run"), where)(unit)
    return ImageDecoder(ImageLimits())(fetched)


def members(units: Sequence[pa.Table]) -> list[list[str]]:
    return [unpack(unit)[1].column("member").to_pylist() for unit in units]


def test_units_are_bounded_by_images_and_by_bytes(tmp_path: Path) -> None:
    where = location(tmp_path / "t")
    sizes = [100, 100, 100, 100, 900, 50, 60]
    rows = [good_row(f"{i}.jpg", byte_length=size) for i, size in enumerate(sizes)]
    cells = [good_row(f"c{i}", width_px=30, height_px=20) for i in range(3)]
    make_table(where, rows, cells)
    units = list_units(where, unit_bytes=700)
    assert members(units) == [
        ["0.jpg", "1.jpg", "2.jpg"],
        ["3.jpg"],
        ["4.jpg"],
        ["5.jpg", "6.jpg"],
        # The size of Parquet cells is unknown, so one byte per pixel is assumed.
        ["c0"],
        ["c1"],
        ["c2"],
    ]
    ids = [unpack(unit)[0].unit_id for unit in units]
    assert len(set(ids)) == len(ids)


def test_small_fragments_share_a_commit() -> None:
    assert group_fragments({0: 2, 1: 3, 4: 1, 5: 9, 7: 1}, 5) == [
        RowGroup("vectors-0", (0, 1), 5),
        RowGroup("vectors-1", (4, 5), 10),
        RowGroup("vectors-2", (7,), 1),
    ]
    assert group_fragments({}, 5) == []


def test_images_are_fetched_and_unreadable_ones_are_counted(tmp_path: Path) -> None:
    entries = [*images(0, 3), *[(n, data) for n, (data, _) in bad_images().items()]]
    root = write_archive(
        tmp_path / "aerial",
        {"a.tar": entries, "b.tar": images(8, 2), "c.tar": [("t.tif", tiff16(1))]},
    )
    where = location(tmp_path / "t")
    rows = rows_of(root)
    next(row for row in rows if row["member"] == "0001.jpg")["content_sha256"] = "0" * 64
    make_table(where, rows)
    (root / "b.tar").unlink()
    [unit] = list_units(where, unit_images=99)
    found = unpack(fetch(where, unit))[1].to_pylist()
    failures = [row["failure"] for row in found if row["failure"] is not None]
    assert Counter(f"{f['stage']}/{f['reason']}" for f in failures) == {
        "read/changed": 1,
        "read/unreadable": 2,
        "decode/empty": 1,
        "decode/truncated_image": 1,
        "decode/not_an_image": 1,
    }
    [changed] = [failure["detail"] for failure in failures if failure["reason"] == "changed"]
    assert "0001.jpg has changed since its table row was written" in changed
    kept = [row["data"] for row in found if row["failure"] is None]
    assert len(kept) == 3
    assert decode_rgb(kept[0]).tobytes() == decode_rgb(jpeg(0)).tobytes()
    # Images that the model cannot use directly were converted.
    assert decode_rgb(kept[2]).size == (40, 24)
    assert len(failures) + len(kept) == len(rows)


def test_images_of_a_rewritten_tar_and_touched_files_are_fetched(tmp_path: Path) -> None:
    root = write_archive(tmp_path / "aerial", {"a.tar": images(0, 3), "x/1.jpg": jpeg(9)})
    where = location(tmp_path / "t")
    make_table(where, rows_of(root))
    write_archive(root, {"a.tar": [*images(5, 1), *images(0, 3)]})
    os.utime(root / "x" / "1.jpg", ns=(1, 1))
    write_manifests(where, root)
    [unit] = list_units(where, unit_images=99)
    found = unpack(fetch(where, unit))[1].to_pylist()
    assert [row["failure"] for row in found] == [None] * 4
    assert {row["member"]: row["data"] for row in found} == {**dict(images(0, 3)), "1.jpg": jpeg(9)}


def embedding(where: TableLocation, config: ImageEmbedConfig) -> StageVectors:
    model = image_model(config)
    load = lambda: ImageModel(make_image_embedder(config, model), config.batch_size)  # noqa: E731
    return StageVectors(load, COLUMN, where)


def embedded(embed: StageVectors, unit: pa.Table) -> UnitRecord:
    [text] = embed(unit).column("record").to_pylist()
    return UnitRecord.from_json(text)


def test_vectors_are_staged_by_unit_and_the_table_is_unchanged(tmp_path: Path) -> None:
    root = write_archive(tmp_path / "aerial", {"a.tar": images(0, 5)})
    where = location(tmp_path / "t")
    version = make_table(where, rows_of(root)).version
    # A forward pass has fewer images than the unit.
    embed = embedding(where, ImageEmbedConfig(model="fake", batch_size=2))
    found = [embedded(embed, fetch(where, unit)) for unit in list_units(where)]
    assert [(r.num_rows, r.num_ok, r.num_failed) for r in found] == [(3, 3, 0), (2, 2, 0)]
    assert {r.ran_on for r in found} == {("cpu", "float32")}
    assert set(staged_unit_ids(where)) >= {r.head.unit_id for r in found}
    [staged] = read_records(where, [found[1].head.unit_id])
    column = VectorColumn.from_json(staged.column)
    assert column.fits(COLUMN)
    assert (column.dim, staged.num_rows) == (8, 2)
    expected = FakeImageEmbedder().embed_images([decode_rgb(jpeg(3)), decode_rgb(jpeg(4))])
    np.testing.assert_array_equal(
        np.array(read_vectors(where, [staged]).column(COLUMN.name).to_pylist(), np.float32),
        expected,
    )
    assert ImagesTable.open(where).version == version


def test_a_stop_skips_units_that_have_not_started(tmp_path: Path) -> None:
    root = write_archive(tmp_path / "aerial", {"a.tar": images(0, 5)})
    where = location(tmp_path / "t")
    make_table(where, rows_of(root))
    first, _ = list_units(where)
    stop = StopFlag(where, "run")
    stop.raise_()
    left = fetch(where, first)
    loaded: list[str] = []
    embed = StageVectors(lambda: loaded.append("model"), COLUMN, where)  # type: ignore[arg-type]
    record = embedded(embed, left)
    assert loaded == []
    assert (record.num_rows, record.num_ok, record.num_failed) == (None, 0, 0)
    assert record.head.num_listed == 3
    assert list_units(where) == []


class Broken(FakeImageEmbedder):
    """A fake embedder that returns NaN for the first image of a forward pass."""

    def embed_images(self, images: Any) -> Any:
        vectors = super().embed_images(images)
        vectors[0] = np.nan
        return vectors


@pytest.mark.parametrize(("batch_size", "num_lost"), [(3, 1), (1, 3)])
def test_a_vector_that_is_not_finite_is_a_failure(
    tmp_path: Path, batch_size: int, num_lost: int
) -> None:
    root = write_archive(tmp_path / "aerial", {"a.tar": images(0, 3)})
    where = location(tmp_path / "t")
    make_table(where, rows_of(root))
    embed = StageVectors(lambda: ImageModel(Broken(), batch_size), COLUMN, where)
    [unit] = list_units(where)
    record = embedded(embed, fetch(where, unit))
    assert record.num_ok == 3 - num_lost
    assert record.failures == {"embed/embedding_failed": num_lost}
    assert (record.head.unit_id in staged_unit_ids(where)) == (record.num_ok > 0)


def test_a_model_that_does_not_load_ends_the_job(tmp_path: Path) -> None:
    root = write_archive(tmp_path / "aerial", {"a.tar": images(0, 1)})
    where = location(tmp_path / "t")
    make_table(where, rows_of(root))
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text('{"model_type": "clip"}')
    config = ImageEmbedConfig(model=str(folder))
    embed = embedding(where, config)
    [unit] = list_units(where)
    with pytest.raises(ModelError, match="cannot load the embedding model"):
        embed(fetch(where, unit))
