"""What searches fetch of a version's rows, from the table or from a copy on this machine's disk.

A search fetches some forty rows from anywhere in the table: its candidates' vectors, and what its
hits tell. Lance reads every one of them by itself, from object storage with a request each. A copy
is mapped into memory, where a row is found without a call: as exact, for 11 kB of disk an image of
five long variants, vectors of 384 numbers (docs/benchmarks.md).

For each fragment there is one Arrow file with the descriptions' vectors and what hits tell, and
one with the images' own vectors where the table has them. A file is named by the files of the table
that hold these columns, which never change: a later version copies only what is new.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from filelock import FileLock
from lance import LanceFragment
from numpy.typing import NDArray

from skytext.table.images_dataset import ImagesTable
from skytext.table.queries.caption_queries import (
    Floats,
    RowIds,
    Variants,
    take,
    take_variants,
)
from skytext.table.queries.hit_column import HitRow, read_hits
from skytext.table.schema import HIT
from skytext.table.vector_columns import VectorColumn, VectorKind

# A file that is being written; whoever holds the folder's lock may remove it.
_UNFINISHED = ".unfinished"
# 8 MB at five vectors of 384 numbers: what is looked for in a batch lies in few pages.
_ROWS_A_BATCH = 1024


class Rows:
    """What searches fetch of a version's rows.

    Args:
        table: the version.
    """

    def __init__(self, table: ImagesTable) -> None:
        self._table = table
        self._copies: Copies = {}

    @property
    def are_copied(self) -> bool:
        """Whether they are read from a copy."""
        return bool(self._copies)

    def use(self, copies: Copies) -> None:
        """Read from a copy of this version from now on; searches under way may go on meanwhile."""
        self._copies = copies

    def variants(self, ids: RowIds, column: VectorColumn) -> Variants:
        """Return the vectors of some rows, as ``ids`` go; rows without any are left out."""
        copy = self._copies.get(column.name)
        return take_variants(self._table, ids, column) if copy is None else copy.variants(ids)

    def hits(self, ids: RowIds) -> list[HitRow]:
        """Return what hits tell of some rows that are done, as ``ids`` go."""
        copy = self._copies.get(self._table.text_column.name)
        if copy is not None:
            return copy.hits(ids)
        return list(read_hits(take(self._table, ids, [HIT]).column(HIT).to_pylist()))


class _Batch(NamedTuple):
    """Some rows in a mapped file: nothing of it is read before it is looked at.

    Attributes:
        ids: row ids, ascending, shape (rows,).
        ends: where each row's variants start and end, shape (rows + 1,).
        vectors: float32, shape (variants, dim).
        hits: strings, shape (rows,); None in a copy of the images' own vectors.
    """

    ids: RowIds
    ends: NDArray[np.integer]
    vectors: Floats
    hits: pa.Array | None


class RowCopy:
    """The rows of one version that have a vector in a column, mapped into memory.

    Threads may share it.

    Args:
        files: that `copy_rows` made.
        column: of the vectors in them.
    """

    def __init__(self, files: list[Path], column: VectorColumn) -> None:
        self._dim = column.dim
        self._batches = [batch for path in files for batch in _map(path, column)]
        self._batches.sort(key=lambda batch: int(batch.ids[0]))
        self._firsts = np.array([batch.ids[0] for batch in self._batches], np.uint64)

    def variants(self, ids: RowIds) -> Variants:
        """Return the vectors of some rows, as ``ids`` go; rows without any are left out."""
        here, found = [], []
        for i, batch, place in self._places(ids):
            vectors = batch.vectors[batch.ends[place] : batch.ends[place + 1]]
            if len(vectors):
                here.append(i)
                found.append(vectors)
        if not found:
            nothing = np.empty((0, self._dim), np.float32)
            return Variants(ids[:0], nothing, np.empty(0, np.intp))
        counts = np.array([len(vectors) for vectors in found], np.intp)
        return Variants(ids[here], np.concatenate(found), np.cumsum(counts) - counts)

    def hits(self, ids: RowIds) -> list[HitRow]:
        """Return what hits tell of some rows that are done, as ``ids`` go."""
        places = self._places(ids)
        texts = [batch.hits[place].as_py() for _, batch, place in places if batch.hits is not None]
        return list(read_hits(texts))

    def _places(self, ids: RowIds) -> Iterator[tuple[int, _Batch, int]]:
        """Yield the place of an id among ``ids``, and where its row is, for rows that are here."""
        numbers = np.searchsorted(self._firsts, ids, side="right") - 1
        offsets = ids - self._firsts[numbers] if len(self._firsts) else ids
        places = zip(numbers.tolist(), offsets.tolist(), ids, strict=True)
        for i, (number, place, row_id) in enumerate(places):
            if number < 0:
                continue
            batch = self._batches[number]
            if place >= len(batch.ids) or batch.ids[place] != row_id:
                # Rows before it failed, or were deleted.
                place = int(batch.ids.searchsorted(row_id))
                if place == len(batch.ids) or batch.ids[place] != row_id:
                    continue
            yield i, batch, place


Copies = dict[str, RowCopy]
"""Copies of one version by the name of the column of vectors."""


def copy_rows(
    table: ImagesTable, folder: Path, is_wanted: Callable[[], bool] = lambda: True
) -> Copies | None:
    """Copy what is missing of a version's rows, and remove what it does not need.

    Processes may share a folder: one copies, the others wait for it. What another version has
    mapped stays readable for it.

    Args:
        table: the version.
        folder: on a local disk; each table has a folder of its own in it.
        is_wanted: asked between batches of rows.

    Returns:
        The copies; None where they were no longer wanted.

    Raises:
        OSError: it cannot be written, or the store does not answer.
    """
    own = folder / hashlib.sha256(table.location.uri.encode()).hexdigest()[:16]
    own.mkdir(parents=True, exist_ok=True)
    vectors = [column for column in (table.text_column, table.image_column) if column is not None]
    with FileLock(own / "lock"):
        # Whoever waited may have been overtaken: what a later version has copied is not to go.
        if not is_wanted():
            return None
        files = {
            own / _name(table, column, fragment): (column, fragment)
            for column in vectors
            for fragment in table.dataset.get_fragments()
        }
        for path in own.iterdir():
            if path.name != "lock" and path not in files:
                path.unlink()
        for path, (column, fragment) in files.items():
            if not path.exists() and not _write(table, column, fragment, path, is_wanted):
                return None
        # Mapped while it is locked: the next version may not need all of these.
        return {
            column.name: RowCopy([path for path in files if files[path][0] == column], column)
            for column in vectors
        }


def _field_ids(table: ImagesTable, names: list[str]) -> list[int]:
    """Return Lance's ids of some columns, and of what they are made of."""
    found = []
    fields = [field for field in table.dataset.lance_schema.fields() if field.name() in names]
    while fields:
        field = fields.pop()
        found.append(field.id())
        fields.extend(field.children())
    return sorted(found)


def _columns(column: VectorColumn) -> list[str]:
    return [column.name, HIT] if column.kind == VectorKind.TEXT else [column.name]


def _name(table: ImagesTable, column: VectorColumn, fragment: LanceFragment) -> str:
    """Return the file of a fragment: by all that decides which rows are in it, and what they hold.

    Files of other columns do not, so that images may be embedded without a copy anew.
    """
    columns = _columns(column)
    fields = _field_ids(table, columns)
    metadata = fragment.metadata.to_json()
    files = [file for file in metadata["files"] if not set(fields).isdisjoint(file["fields"])]
    of_rows = [metadata.get(key) for key in ("id", "deletion_file", "overlays", "row_id_meta")]
    made_of = [columns, fields, files, of_rows]
    digest = hashlib.sha256(json.dumps(made_of, sort_keys=True).encode())
    return f"{digest.hexdigest()[:32]}.arrow"


def _write(
    table: ImagesTable,
    column: VectorColumn,
    fragment: LanceFragment,
    path: Path,
    is_wanted: Callable[[], bool],
) -> bool:
    """Write the file of a fragment, all of it or nothing; return whether it was wanted so long."""
    unfinished = path.with_suffix(_UNFINISHED)
    scanner = table.dataset.scanner(
        columns=_columns(column),
        with_row_id=True,
        fragments=[fragment],
        batch_size=_ROWS_A_BATCH,
    )
    try:
        with unfinished.open("wb") as file:
            with pa.ipc.new_file(file, scanner.projected_schema) as writer:
                for batch in scanner.to_batches():
                    if not is_wanted():
                        return False
                    # Only an image that is done has vectors.
                    done = batch.filter(pc.is_valid(batch.column(column.name)))
                    if done.num_rows:
                        writer.write_batch(done)
            file.flush()
            os.fsync(file.fileno())
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)
    return True


def _map(path: Path, column: VectorColumn) -> Iterator[_Batch]:
    try:
        reader = pa.ipc.open_file(pa.memory_map(str(path)))
    except pa.ArrowInvalid:
        # Damaged: the next try is to write it again, and not to fail for ever.
        path.unlink(missing_ok=True)
        raise
    for number in range(reader.num_record_batches):
        batch = reader.get_batch(number)
        lists = batch.column(column.name)
        is_text = column.kind == VectorKind.TEXT
        flat = lists.values.values if is_text else lists.values
        yield _Batch(
            ids=batch.column("_rowid").to_numpy(),
            ends=lists.offsets.to_numpy() if is_text else np.arange(len(lists) + 1),
            vectors=flat.to_numpy().reshape(-1, column.dim),
            hits=batch.column(HIT) if is_text else None,
        )
