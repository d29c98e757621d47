"""Write image vectors to test tables without a model."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from skytext.archive import ReadLimits, discover, read_shard
from skytext.pixels.decode import normalise
from skytext.run.stages.read_shards import ShardReader
from skytext.table.commits.commit_rows import Committer
from skytext.table.commits.stage_rows import StagedUnit
from skytext.table.commits.stage_vectors import stage_vectors
from skytext.table.images_dataset import ImagesTable
from skytext.table.location import TableLocation
from skytext.table.schema import DONE
from skytext.table.shards import moved_images
from skytext.table.vector_columns import VectorColumn, VectorKind
from tests.archives import bad_images
from tests.table.rows import good_row, unit_vectors
from tests.table.rows import rows_of as table_rows

IMAGE_DIM = 8


def image_column(model: str = "fake", dim: int = IMAGE_DIM) -> VectorColumn:
    digit = model[0] if model[0] in "0123456789abcdef" else "0"
    return VectorColumn(VectorKind.IMAGE, digit * 32, model, "", dim)


def image_vector(number: int, dim: int = IMAGE_DIM) -> Any:
    return unit_vectors(np.random.default_rng(1000 + number), (dim,))


def stage_numbers(
    where: TableLocation,
    numbers: Sequence[int],
    *,
    column: VectorColumn | None = None,
    contents: Sequence[str | None] | None = None,
    unit_id: str | None = None,
) -> StagedUnit:
    """Stage image vectors for the rows of ``good_rows`` with these numbers."""
    ours = column or image_column()
    unit_id = unit_id or uuid.uuid4().hex
    ids = [good_row(f"{i:05d}.jpg")["image_id"] for i in numbers]
    vectors = pa.array([image_vector(i, ours.dim) for i in numbers], ours.field.type)
    return stage_vectors(where, unit_id, ours, ids, contents or [None] * len(ids), vectors)


def commit_vectors(where: TableLocation, version: int, units: Sequence[StagedUnit]) -> int:
    """Commit units on top of a given version."""
    column = ImagesTable.open(where, version).text_column
    return Committer(where, column, version).commit(units)


def embed_numbers(where: TableLocation, *numbers: int, **more: Any) -> int:
    """Commit image vectors of the rows with these numbers on top of the latest version."""
    version = ImagesTable.open(where).version
    return commit_vectors(where, version, [stage_numbers(where, numbers, **more)])


def vectors_by_number(where: TableLocation) -> dict[int, Any]:
    """Return the image vector of each row by row number. None means that there is no vector."""
    rows = table_rows(ImagesTable.open(where), "member", "image_vector", filter=DONE)
    assert len({row["member"] for row in rows}) == len(rows)
    return {int(row["member"][:5]): row["image_vector"] for row in rows}


def write_manifests(where: TableLocation, root: Path, archive: str | None = None) -> None:
    """Read all shards completely, as a captioning run does. The reader writes the manifests."""
    reader = ShardReader(100, 10**9, ReadLimits(), where, None)
    for shard in discover([str(root)], archive=archive):
        list(reader.units(shard))
    moved_images._manifests.clear()  # cached manifests would otherwise be used for a minute


def rows_of(root: Path) -> list[dict[str, Any]]:
    """Return rows for the images in a folder, like the rows of a captioning run."""
    rows = []
    for shard in discover([str(root)]):
        for sample in read_shard(shard):
            names = ("uri", "shard_etag", "byte_offset", "byte_length", "row_group", "row")
            more = {name: getattr(sample, name) for name in names}
            content = None
            if sample.data and sample.member not in bad_images():
                content = normalise(sample.data).info.content_sha256
            rows.append(
                good_row(
                    sample.member,
                    shard=sample.shard,
                    archive=sample.archive,
                    content_sha256=content,
                    width_px=48,
                    height_px=32,
                    **more,
                )
            )
    return rows
