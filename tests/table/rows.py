"""Make rows and units of the ``images`` table without a run."""

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
from skytext.table.images_dataset import ImagesTable
from skytext.table.location import TableLocation
from skytext.table.schema import RUN_FIELDS, embedded
from skytext.table.vector_columns import VectorColumn, VectorKind, is_vector_name

DIM = 16
# These settings build an index for few rows and measure it with few queries. This takes seconds
# instead of half a minute.
ALWAYS = IndexConfig(vector="always", recall_queries=32)


def text_column(model: str = "fake", fingerprint: str = "f" * 32, dim: int = 0) -> VectorColumn:
    return VectorColumn(VectorKind.TEXT, fingerprint, model, "", dim)


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
    """Convert rows to the types that workers use, and pass them to `to_images_table`."""
    schema = pa.schema([*embedded(dim), *RUN_FIELDS])
    full = [{name: row.get(name) for name in schema.names} for row in rows]
    return to_images_table(pa.Table.from_pylist(full, schema=schema), text_column(dim=dim))


def stage(
    where: TableLocation,
    rows: Sequence[dict[str, Any]] | pa.Table,
    dim: int = DIM,
    *,
    unit_id: str = "",
    embedding_fingerprint: str = "f" * 32,
    **more: Any,
) -> StagedUnit:
    """Stage rows as one unit. Write the unit id into each row. Pass ``more`` to `stage_rows`."""
    table = rows if isinstance(rows, pa.Table) else to_table(rows, dim)
    column = text_column(fingerprint=embedding_fingerprint, dim=dim)
    there = ImagesTable.find(where)
    if there is not None:
        name = there.text_column.name
        table = table.rename_columns([name if is_vector_name(n) else n for n in table.column_names])
    unit_id = unit_id or uuid.uuid4().hex
    names = pa.repeat(pa.scalar(unit_id), table.num_rows)
    place = table.schema.get_field_index("unit_id")
    table = table.set_column(place, table.schema.field(place), names)
    return stage_rows(where, unit_id, table, column, **more)


def good_rows(first: int, count: int, **more: Any) -> list[dict[str, Any]]:
    return [good_row(f"{i:05d}.jpg", **more) for i in range(first, first + count)]


def committer(where: TableLocation, ours: VectorColumn | None = None) -> Committer:
    """Return a writer that starts from the latest version, like a writer with a new plan."""
    table = ImagesTable.find(where)
    version = None if table is None else table.version
    return Committer(where, text_column() if ours is None else ours, version)


def make_table(where: TableLocation, *groups: Sequence[dict[str, Any]]) -> ImagesTable:
    """Commit each group of rows separately, and return the table."""
    writer = committer(where)
    for group in groups:
        writer.commit([stage(where, group)])
    return ImagesTable.open(where)


def rows_of(table: ImagesTable, *names: str, filter: str | None = None) -> list[dict[str, Any]]:
    """Return rows with the named columns. If there are no names, return all columns.

    ``vectors`` and ``image_vector`` are the names of the active vector columns.
    """
    columns = {"vectors": table.text_column.name}
    if table.image_column is not None:
        columns["image_vector"] = table.image_column.name
    wanted = [columns.get(name, name) for name in names] or None
    found = table.dataset.to_table(columns=wanted, filter=filter)
    plain = {column: name for name, column in columns.items()}
    return found.rename_columns([plain.get(n, n) for n in found.column_names]).to_pylist()


def make_old(where: TableLocation, *units: StagedUnit) -> None:
    """Make the files of units older than seven days, because Lance keeps younger files."""
    week_ago = time.time() - 8 * 86400
    for unit in units:
        for name in data_files(unit):
            os.utime(Path(where.uri, "images.lance", "data", name), (week_ago, week_ago))
