"""Compare two methods to store image vectors: write a column, or rewrite complete rows.

Both methods write the same vectors to copies of the same table. The table has a full-text index and
a scalar index. The rows also contain descriptions and description vectors. The result is the ratio
of the costs of the two methods.

    python -m bench.vector_writes
"""

from __future__ import annotations

import json
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import lance
import numpy as np
import pyarrow as pa
import typer
from lance.fragment import write_fragments

from bench.search.table import caption_vectors, make_table
from skytext.table.commits.change_columns import ensure_column
from skytext.table.commits.commit_rows import Committer
from skytext.table.commits.stage_vectors import stage_vectors
from skytext.table.images_dataset import ImagesTable
from skytext.table.location import IMAGES, TableLocation
from skytext.table.schema import FILE_VERSION
from skytext.table.vector_columns import VectorColumn, VectorKind

_DIM = 512
_UNIT = 256
_COLUMN = VectorColumn(VectorKind.IMAGE, "0" * 32, "bench", "", _DIM)


def main(
    num_images: Annotated[int, typer.Option(help="Number of rows in the table.")] = 20_000,
    repeats: Annotated[int, typer.Option(help="Number of runs. The medians are reported.")] = 3,
    output: Annotated[
        Path | None, typer.Option(help="JSON file to which the result is also written.")
    ] = None,
) -> None:
    """Write the vectors with both methods, alternately."""
    vectors = np.random.default_rng(3).normal(size=(num_images, _DIM)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    with tempfile.TemporaryDirectory() as folder:
        made = make_table(Path(folder, "table"), caption_vectors(num_images))
        made.dataset.create_scalar_index("collection", "BTREE")
        ways = {"columns": _as_column, "rows": _as_rows}
        runs = [
            {name: _run(way, folder, vectors) for name, way in ways.items()} for _ in range(repeats)
        ]
    result = {
        "num_images": num_images,
        **{
            f"{name}_{what}": statistics.median(run[name][what] for run in runs)
            for name in ways
            for what in runs[0][name]
        },
    }
    result["seconds_ratio"] = round(result["columns_s"] / result["rows_s"], 3)
    result["bytes_ratio"] = round(result["columns_bytes"] / result["rows_bytes"], 3)
    typer.echo(json.dumps(result, indent=1))
    if output is not None:
        output.write_text(json.dumps(result))


def _run(
    way: Callable[[TableLocation, np.ndarray], None], folder: str, vectors: np.ndarray
) -> dict[str, Any]:
    own = Path(folder, "own")
    shutil.copytree(Path(folder, "table"), own)
    location = TableLocation.parse(str(own))
    before, started = _size(own), time.monotonic()
    way(location, vectors)
    seconds = time.monotonic() - started
    table = ImagesTable.open(location)
    stats = table.dataset.stats.index_stats("collection_idx")
    found = {
        "s": round(seconds, 3),
        "bytes": _size(own) - before,
        "unindexed_rows": stats["num_unindexed_rows"],
    }
    shutil.rmtree(own)
    return found


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def _entries(vectors: np.ndarray) -> pa.Array:
    flat = pa.array(np.ascontiguousarray(vectors).reshape(-1), pa.float32())
    return pa.FixedSizeListArray.from_arrays(flat, _DIM)


def _as_column(location: TableLocation, vectors: np.ndarray) -> None:
    """Write units of vectors and commit them, like the command `embed-images`."""
    table = ImagesTable.open(location)
    rows = table.dataset.to_table(columns=["image_id", "content_sha256"])
    ids, contents = (rows.column(name).to_pylist() for name in ("image_id", "content_sha256"))
    units = [
        stage_vectors(
            location,
            f"unit-{first}",
            _COLUMN,
            ids[first : first + _UNIT],
            contents[first : first + _UNIT],
            _entries(vectors[first : first + _UNIT]),
        )
        for first in range(0, len(ids), _UNIT)
    ]
    Committer(location, table.text_column, table.version).commit(units)


def _as_rows(location: TableLocation, vectors: np.ndarray) -> None:
    """Write new rows with the vectors, and remove the old rows."""
    table = ensure_column(ImagesTable.open(location), _COLUMN)
    dataset, first, fragments = table.dataset, 0, []
    removed = [fragment.fragment_id for fragment in dataset.get_fragments()]
    for batch in dataset.scanner(batch_size=_UNIT, scan_in_order=True).to_batches():
        rows = pa.Table.from_batches([batch])
        place = rows.schema.get_field_index(_COLUMN.name)
        entries = _entries(vectors[first : first + rows.num_rows])
        rows = rows.set_column(place, rows.schema.field(place), entries)
        first += rows.num_rows
        fragments += write_fragments(
            rows,
            location.dataset_uri(IMAGES),
            schema=rows.schema,
            mode="append",
            data_storage_version=FILE_VERSION,
        )
    operation = lance.LanceOperation.Update(
        updated_fragments=[], new_fragments=fragments, removed_fragment_ids=removed
    )
    lance.LanceDataset.commit(dataset, operation, read_version=dataset.version, max_retries=0)


if __name__ == "__main__":
    typer.run(main)
