"""Rows and units of the ``images`` table, made up without a pipeline."""

from __future__ import annotations

import datetime as dt
import os
import time
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from skytext.archive.shards import image_id
from skytext.config.index import IndexConfig
from skytext.table.commits.commit_rows import Committer
from skytext.table.commits.stage_rows import StagedUnit, data_files, stage_rows, to_images_table
from skytext.table.images_dataset import ImagesTable, TableIdentity
from skytext.table.location import TableLocation
from skytext.table.schema import images_schema

DIM = 16
# An index however few the rows, and few searches to measure it: seconds instead of half a minute.
ALWAYS = IndexConfig(vector="always", recall_queries=32)


def identity(model: str = "fake", fingerprint: str = "f" * 32) -> TableIdentity:
    return TableIdentity(
        embedding_fingerprint=fingerprint,
        embedding_model=model,
        embedding_revision="",
        embedding_dtype="auto",
        dim=0,
    )


def location(folder: Path) -> TableLocation:
    return TableLocation.parse(str(folder))


def unit_vectors(rng: np.random.Generator, shape: tuple[int, ...]) -> Any:
    vectors = rng.normal(size=shape)
    return (vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)).astype(np.float32)


def good_row(
    member: str, *, shard: str = "a.tar", archive: str = "aerial", vectors: Any = None, **more: Any
) -> dict[str, Any]:
    if vectors is None:
        vectors = unit_vectors(np.random.default_rng(len(member)), (2, DIM))
    return {
        "image_id": image_id(archive, shard, member, 0),
        "archive": archive,
        "shard": shard,
        "member": member,
        "uri": f"file:///x/{shard}#{member}",
        "status": "ok",
        "captions": [
            {
                "one_sentence": f"{member} variant {i}",
                "feature": "river",
                "caption": "a river",
                "finish_reason": "stop",
            }
            for i in range(len(vectors))
        ],
        "num_variants": len(vectors),
        "text": f"{member} shows a river",
        "vectors": [vector.tolist() for vector in vectors],
        "caption_fingerprint": "c" * 32,
        "unit_id": "unit",
        "run_id": "run",
        "created_at": dt.datetime(2026, 1, 1, tzinfo=dt.UTC),
        **more,
    }


def failed_row(
    member: str, *, stage: str = "decode", reason: str = "empty", **more: Any
) -> dict[str, Any]:
    failure = {"stage": stage, "reason": reason, "detail": "nothing in it", "attempts": 1}
    empty = {"captions": None, "num_variants": None, "text": None, "vectors": None}
    return good_row(member, **more) | empty | {"status": "failed", "failure": failure}


def to_table(rows: Sequence[dict[str, Any]], dim: int = DIM) -> pa.Table:
    """Rows in the types that workers hand to `to_images_table`."""
    fields = [
        pa.field("metadata", pa.string()) if field.name == "metadata" else field
        for field in images_schema(dim)
    ]
    full = [{field.name: row.get(field.name) for field in fields} for row in rows]
    return to_images_table(pa.Table.from_pylist(full, schema=pa.schema(fields)), dim)


def stage(
    where: TableLocation,
    rows: Sequence[dict[str, Any]] | pa.Table,
    dim: int = DIM,
    *,
    unit_id: str = "",
    **more: Any,
) -> StagedUnit:
    """Stage rows as one unit, which stands in each of them; ``more`` is `stage_rows`' own."""
    table = rows if isinstance(rows, pa.Table) else to_table(rows, dim)
    unit_id = unit_id or uuid.uuid4().hex
    names = pa.repeat(pa.scalar(unit_id), table.num_rows)
    place = table.schema.get_field_index("unit_id")
    table = table.set_column(place, table.schema.field(place), names)
    return stage_rows(where, unit_id, table, **more)


def good_rows(first: int, count: int, **more: Any) -> list[dict[str, Any]]:
    return [good_row(f"{i:05d}.jpg", **more) for i in range(first, first + count)]


def committer(where: TableLocation, ours: TableIdentity | None = None) -> Committer:
    """A writer that goes on from the latest version, as one that has just made its plan."""
    table = ImagesTable.find(where)
    version = None if table is None else table.version
    return Committer(where, identity() if ours is None else ours, version)


def make_table(where: TableLocation, *groups: Sequence[dict[str, Any]]) -> ImagesTable:
    """A table with one commit for each group."""
    writer = committer(where)
    for group in groups:
        writer.commit([stage(where, group)])
    return ImagesTable.open(where)


def make_old(where: TableLocation, *units: StagedUnit) -> None:
    """Make units' files as old as those that Lance takes for orphans."""
    week_ago = time.time() - 8 * 86400
    for unit in units:
        for name in data_files(unit):
            os.utime(Path(where.uri, "images.lance", "data", name), (week_ago, week_ago))
