"""Read the rows for searches from the table, or from a copy on the local disk.

A search reads about forty rows at random positions, to get the vectors of the candidates and the
fields of the hits. Lance reads each row separately. On object storage, this needs one request per
row. A copy is memory-mapped, so no request is needed to read a row. The copy contains the same
vectors as the table, so the scores are the same. With five long variants and 384 dimensions, the
copy needs 11 kB per image (docs/benchmarks.md).

The copy of a fragment is one Arrow file with the caption vectors and hit fields of the fragment. If
the table has image vectors, there is a second Arrow file with the image vectors of the fragment.
The name of an Arrow file is computed from the names of the Lance data files that contain the copied
columns. Lance never changes these data files. So if a later version has the same data files, the
Arrow file already exists. Only new data are copied.
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

# Suffix of a file that is not completely written. A process may remove such a file if it holds the
# lock of the folder.
_UNFINISHED = ".unfinished"
# With five vectors of 384 dimensions per row, a batch has 8 MB. With this size, the row ids of a
# batch are in few memory pages.
_ROWS_A_BATCH = 1024


class Rows:
    """The rows of a version, read from the table or from a copy.

    Args:
        table: the version.
    """

    def __init__(self, table: ImagesTable) -> None:
        self._table = table
        self._copies: Copies = {}

    @property
    def are_copied(self) -> bool:
        """Whether the rows are read from a copy. If not, they are read from the table."""
        return bool(self._copies)

    def use(self, copies: Copies) -> None:
        """Read the rows from copies of this version. This is safe while searches are running."""
        self._copies = copies

    def variants(self, ids: RowIds, column: VectorColumn) -> Variants:
        """Return the vectors of rows in the order of ``ids``. Rows without a vector are omitted."""
        copy = self._copies.get(column.name)
        return take_variants(self._table, ids, column) if copy is None else copy.variants(ids)

    def hits(self, ids: RowIds) -> list[HitRow]:
        """Return the hit fields of described rows, in the order of ``ids``."""
        copy = self._copies.get(self._table.text_column.name)
        if copy is not None:
            return copy.hits(ids)
        return list(read_hits(take(self._table, ids, [HIT]).column(HIT).to_pylist()))


class _Batch(NamedTuple):
    """Some rows of a memory-mapped file. The data are read from the disk when they are accessed.

    Attributes:
        ids: row ids, ascending, shape (rows,).
        ends: shape (rows + 1,). The variants of row i are ``vectors[ends[i]:ends[i + 1]]``.
        vectors: float32, shape (variants, dim).
        hits: strings, shape (rows,), see `hit_column`; None if the file contains image vectors.
    """

    ids: RowIds
    ends: NDArray[np.integer]
    vectors: Floats
    hits: pa.Array | None


class RowCopy:
    """A memory-mapped copy of some rows of one version. These rows have a vector in a column.

    Several threads may use the same object.

    Args:
        files: the files that `copy_rows` has written.
        column: the vector column in these files.
    """

    def __init__(self, files: list[Path], column: VectorColumn) -> None:
        self._dim = column.dim
        self._batches = [batch for path in files for batch in _map(path, column)]
        self._batches.sort(key=lambda batch: int(batch.ids[0]))
        self._firsts = np.array([batch.ids[0] for batch in self._batches], np.uint64)

    def variants(self, ids: RowIds) -> Variants:
        """Return the vectors of rows in the order of ``ids``. Rows without a vector are omitted."""
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
        """Return the hit fields of described rows, in the order of ``ids``."""
        places = self._places(ids)
        texts = [batch.hits[place].as_py() for _, batch, place in places if batch.hits is not None]
        return list(read_hits(texts))

    def _places(self, ids: RowIds) -> Iterator[tuple[int, _Batch, int]]:
        """Find rows in this copy. Rows that are not in this copy are omitted.

        Yields:
            The position of the row in ``ids``, the batch that contains the row, and the position of
            the row in this batch.
        """
        numbers = np.searchsorted(self._firsts, ids, side="right") - 1
        offsets = ids - self._firsts[numbers] if len(self._firsts) else ids
        places = zip(numbers.tolist(), offsets.tolist(), ids, strict=True)
        for i, (number, place, row_id) in enumerate(places):
            if number < 0:
                continue
            batch = self._batches[number]
            if place >= len(batch.ids) or batch.ids[place] != row_id:
                # Some rows that come before this row in the fragment are not in the copy, because
                # they were deleted or have no description. So search for the row id.
                place = int(batch.ids.searchsorted(row_id))
                if place == len(batch.ids) or batch.ids[place] != row_id:
                    continue
            yield i, batch, place


Copies = dict[str, RowCopy]
"""The copies of one version. The keys are the names of the vector columns."""


def copy_rows(
    table: ImagesTable, folder: Path, is_wanted: Callable[[], bool] = lambda: True
) -> Copies | None:
    """Copy the rows of a version that are not copied yet, and remove unneeded files.

    Files that the version does not need are removed. Several processes may use the same folder.
    While one process copies, the other processes wait. If a file is removed while a process has
    mapped the file, this process can still read the mapped data.

    Args:
        table: the version.
        folder: a folder on a local disk. The files of each table are in a separate sub-folder.
        is_wanted: function that is called before each batch. If the function returns False, copying
            stops.

    Returns:
        The copies; None if ``is_wanted`` returned False.

    Raises:
        OSError: the folder is not writable, or a store request failed.
    """
    own = folder / hashlib.sha256(table.location.uri.encode()).hexdigest()[:16]
    own.mkdir(parents=True, exist_ok=True)
    vectors = [column for column in (table.text_column, table.image_column) if column is not None]
    with FileLock(own / "lock"):
        # While this process waited for the lock, another process may have copied a newer version.
        # Do not delete the files of the newer version.
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
        # Map the files while the lock is held. After that, the process that copies the next version
        # may remove some of the files.
        return {
            column.name: RowCopy([path for path in files if files[path][0] == column], column)
            for column in vectors
        }


def _field_ids(table: ImagesTable, names: list[str]) -> list[int]:
    """Return the field ids of some columns and of the fields that are nested in these columns."""
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
    """Return the file name of a fragment's copy.

    The name changes if the rows or the copied columns of the fragment change. It does not change if
    other columns change. So after new image vectors are added, the captions are not copied again.
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
    """Write the file of a fragment completely or not at all.

    Return False if ``is_wanted`` returned False.
    """
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
                    # Only described images have vectors.
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
        # The file is damaged. Remove it, so that the next attempt writes it again.
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
