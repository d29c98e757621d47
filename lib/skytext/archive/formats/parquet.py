"""Read the images in the rows of a Parquet shard, as a stream.

INPUT: a :class:`Shard`. OUTPUT: a :class:`Sample` for every row, in order.
FAN-OUT: one shard gives one sample for each row. If the footer is damaged, the whole shard gives
one sample.
ON ERROR: damaged bytes give failed samples. If the store does not return the bytes, the reader
raises an OSError. If a row group is damaged, the rows before the damage are read, and each later
row in the group becomes a failed sample. Other row groups are read.

The member name of a row is the ``path`` in its image struct. If there is no path, the name is
``row-{n}``, where ``n`` is the number of the row in the whole file, from 0. So ids do not depend on
the size of row groups.

The file is read page by page, with range requests. Memory contains one page of each column and one
batch of rows, but never a whole row group. The page size depends on the program that wrote the
file. It is usually 1 MiB. A value is never split between two pages.
"""

from __future__ import annotations

import contextlib
import itertools
from collections import defaultdict
from collections.abc import Collection, Iterator

import pyarrow as pa
import pyarrow.parquet as pq

from skytext.archive.formats.parquet_columns import Columns, NoImageColumnError, find_columns
from skytext.archive.formats.parquet_metadata import metadata_rows, row_metadata
from skytext.archive.shards import (
    Member,
    Metadata,
    ReadLimits,
    ReadOptions,
    Sample,
    Shard,
    ShardCounts,
    image_id,
)
from skytext.archive.storage.files import open_ranged
from skytext.archive.storage.ranged_file import RangedFile
from skytext.archive.unreadable import ShardEndError, failed_shard
from skytext.errors import Reason, SampleError, SourceError, Stage

_BATCH_BYTES = 16 << 20
_MAX_BATCH_ROWS = 256
_NAME_BATCH_ROWS = 4096
_BUFFER_BYTES = 1 << 20
_MAGIC = b"PAR1"

# The errors that pyarrow raises for damaged bytes, and for values that it cannot convert to Python.
_DAMAGE = (
    pa.ArrowException,
    OSError,
    ValueError,
    TypeError,
    LookupError,
    OverflowError,
    MemoryError,
)


def read_parquet(
    shard: Shard, limits: ReadLimits, options: ReadOptions, counts: ShardCounts
) -> Iterator[Sample]:
    """Yield the images in a Parquet shard. Damaged content does not raise an error.

    Args:
        shard: the shard, from :func:`skytext.archive.discover`.
        limits: size limits. An image larger than ``max_member_bytes`` becomes a failed sample.
        options: the name of the image column, and how to read from the store.
        counts: an object that the reader updates.

    Raises:
        OSError: the store did not return the whole file.
    """
    end: ShardEndError | None = None
    try:
        with contextlib.closing(_Shard(shard, options)) as opened:
            for group in range(opened.num_groups):
                for member, cell in zip(
                    opened.members(group), opened.cells(group, limits), strict=True
                ):
                    yield _sample(shard, limits, member, cell)
    except ShardEndError as err:
        end = err
    counts.num_bytes = shard.size_bytes
    if end is not None:
        yield failed_shard(shard, end)


def list_parquet(shard: Shard, options: ReadOptions) -> Iterator[Member]:
    """Yield the same members as `read_parquet`. The images are not read.

    Only the image paths are read. So the function does not detect image cells that are empty or too
    large.

    Raises:
        OSError: the store did not return the whole file.
    """
    end: ShardEndError | None = None
    try:
        with contextlib.closing(_Shard(shard, options)) as opened:
            for group in range(opened.num_groups):
                yield from opened.members(group)
    except ShardEndError as err:
        end = err
    if end is not None:
        yield Member.of(failed_shard(shard, end))


def fetch_cells(
    uri: str,
    row_group: int,
    rows: Collection[int],
    *,
    etag: str = "",
    options: ReadOptions | None = None,
) -> Iterator[tuple[int, bytes | None]]:
    """Yield the row number and the image of each requested row in one row group.

    The row numbers are in ascending order. If a cell is empty, its image is None. The function
    reads the footer of the file, and then the image column of the row group up to the last
    requested row.

    Raises:
        OSError: the file does not exist or is damaged. The store refuses access or does not
            respond. The file's etag is no longer ``etag``. The row group or the row does not exist.
            The image column does not exist, or several columns could be the image column.
    """
    shard = Shard("", uri, uri, 0, etag)
    try:
        with contextlib.closing(_Shard(shard, options or ReadOptions(), stat=True)) as opened:
            yield from opened.some_cells(row_group, rows)
    except ShardEndError as err:
        raise OSError(f"{uri} {err.detail}") from err


def check_columns(source: str, shard: Shard, options: ReadOptions, *, alone: bool) -> None:
    """Check that a Parquet shard has an image column. A damaged shard raises no error here.

    Args:
        source: the name of the source, for the error message.
        shard: a Parquet shard.
        options: the options. They can contain the name of the image column.
        alone: true if the source contains only Parquet files. If it is false, a missing image
            column is not an error.

    Raises:
        SourceError: the image column does not exist, or several columns could be the image column.
    """
    try:
        file, parquet = _open(shard, options, stat=False)
    except (ShardEndError, OSError):
        return  # the reader reports this error
    try:
        find_columns(parquet.schema_arrow, options.image_column)
    except NoImageColumnError as err:
        if alone:
            raise SourceError(f"{source!r}: {shard.path}: {err}") from err
    except SourceError as err:
        raise SourceError(f"{source!r}: {shard.path}: {err}") from err
    finally:
        file.close()


_Cell = tuple[bytes | None, Metadata] | SampleError


class _Shard:
    """An open Parquet shard whose image column is known."""

    def __init__(self, shard: Shard, options: ReadOptions, *, stat: bool = False) -> None:
        self._shard = shard
        self._file, self._parquet = _open(shard, options, stat=stat)
        with contextlib.ExitStack() as undo:
            undo.callback(self.close)
            self._columns = _columns(self._parquet, options)
            self._num_rows = self._check_rows()
            undo.pop_all()
        self._occurrences: dict[str, int] = defaultdict(int)

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    @property
    def num_groups(self) -> int:
        """The number of row groups."""
        return len(self._num_rows)

    def members(self, group: int) -> Iterator[Member]:
        """Yield the members in a row group.

        The number of members is the number of rows in the footer, even if the group is damaged.
        """
        first = sum(self._num_rows[:group])
        names = self._names(group)
        for row in range(self._num_rows[group]):
            name, failure = next(names)
            name = name or f"row-{first + row}"
            occurrence = self._occurrences[name]
            self._occurrences[name] += 1
            shard = self._shard
            yield Member(
                image_id=image_id(shard.archive, shard.path, name, occurrence),
                member=name,
                uri=f"{shard.uri}#{name}",
                etag=shard.etag,
                row_group=group,
                row=row,
                failure=failure,
            )

    def cells(self, group: int, limits: ReadLimits) -> Iterator[_Cell]:
        """Yield the images in a row group.

        The number of images is the number of rows in the footer, even if the group is damaged.
        """
        left = self._num_rows[group]
        failure: BaseException = ValueError("the row group has fewer rows than the footer states")
        try:
            for batch in self._batches(group, self._columns.read):
                images = self._images(batch)
                for image, values in zip(images, metadata_rows(batch, self._columns), strict=True):
                    if left:
                        left -= 1
                        yield image, row_metadata(values, limits.max_sidecar_bytes)
        except _DAMAGE as err:
            failure = err
        if left:
            yield from itertools.repeat(self._damaged(group, failure), left)

    def some_cells(self, group: int, rows: Collection[int]) -> Iterator[tuple[int, bytes | None]]:
        """Yield the row number and the image of some rows in a row group, in ascending order."""
        wanted = sorted(set(rows))
        num_rows = self._num_rows[group] if 0 <= group < self.num_groups else 0
        if wanted and not 0 <= wanted[0] <= wanted[-1] < num_rows:
            detail = f"has no row {wanted[-1]} in row group {group}"
            raise ShardEndError(Reason.SHARD_UNREADABLE, detail)
        first, at = 0, 0
        try:
            for batch in self._batches(group, ()):
                while at < len(wanted) and wanted[at] < first + len(batch):
                    row = wanted[at]
                    yield row, self._images(batch.slice(row - first, 1))[0]
                    at += 1
                if at == len(wanted):
                    return
                first += len(batch)
        except _DAMAGE as err:
            self._raise_fault(err)
            raise ShardEndError(Reason.SHARD_UNREADABLE, f"is damaged: {err}") from err
        if at < len(wanted):
            detail = f"has no row {wanted[at]} in row group {group}"
            raise ShardEndError(Reason.SHARD_UNREADABLE, detail)

    def _names(self, group: int) -> Iterator[tuple[str, SampleError | None]]:
        """Yield the path of each row in a row group, and then an endless series of empty paths."""
        failure = None
        if self._columns.name_path is not None:
            try:
                for batch in self._parquet.iter_batches(
                    _NAME_BATCH_ROWS,
                    row_groups=[group],
                    columns=[self._columns.name_path],
                    use_threads=False,
                ):
                    paths = batch.column(0).flatten()[0].cast(pa.large_binary())
                    for path in paths.to_pylist():
                        yield (path or b"").decode("utf-8", "backslashreplace"), None
            except _DAMAGE as err:
                failure = self._damaged(group, err)
        while True:
            yield "", failure

    def _batches(self, group: int, values: tuple[str, ...]) -> Iterator[pa.RecordBatch]:
        """Yield the rows of a row group in batches, with the image column and the given columns."""
        return self._parquet.iter_batches(  # type: ignore[no-any-return]
            self._batch_rows(group),
            row_groups=[group],
            columns=[self._columns.data_path, *values],
            use_threads=False,
        )

    def _batch_rows(self, group: int) -> int:
        """Return the number of rows in a batch. The images in it have about `_BATCH_BYTES`."""
        chunks = self._parquet.metadata.row_group(group)
        num_bytes = sum(
            chunks.column(index).total_uncompressed_size
            for index in range(chunks.num_columns)
            if chunks.column(index).path_in_schema == self._columns.data_path
        )
        average: int = max(num_bytes // max(self._num_rows[group], 1), 1)
        return max(1, min(_BATCH_BYTES // average, _MAX_BATCH_ROWS))

    def _images(self, batch: pa.RecordBatch) -> list[bytes | None]:
        column = batch.column(self._columns.image)
        if self._columns.is_struct:
            # Use flatten() and not field(): only flatten() returns null for a field if the whole
            # struct is null.
            names = [field.name for field in column.type]
            column = column.flatten()[names.index("bytes")]
        if pa.types.is_dictionary(column.type):
            column = column.dictionary_decode()
        return column.to_pylist()  # type: ignore[no-any-return]

    def _damaged(self, group: int, err: BaseException) -> SampleError:
        self._raise_fault(err)
        return SampleError(
            Stage.READ,
            Reason.SHARD_UNREADABLE,
            f"row group {group} of shard {self._shard.path} is damaged: {err}",
        )

    def _raise_fault(self, err: BaseException) -> None:
        """If the store caused the error ``err``, raise the error of the store."""
        fault = self._file.fault
        if fault is not None:
            raise fault from err

    def _check_rows(self) -> list[int]:
        """Return the number of rows in each row group.

        Raises:
            ShardEndError: the footer is damaged. For a row group, the footer contains a negative
                number of rows, or a number of values that differs from the number of rows.
        """
        footer = self._parquet.metadata
        num_rows = []
        places = {self._columns.data_path, self._columns.name_path}
        for index in range(footer.num_row_groups):
            group = footer.row_group(index)
            values = {
                group.column(column).num_values
                for column in range(group.num_columns)
                if group.column(column).path_in_schema in places
            }
            if values != {group.num_rows} or group.num_rows < 0:
                raise ShardEndError(
                    Reason.SHARD_UNREADABLE,
                    f"has a damaged footer: row group {index} has {group.num_rows} rows, but "
                    f"{sorted(values)} values in column {self._columns.image!r}",
                )
            num_rows.append(group.num_rows)
        return num_rows


def _open(shard: Shard, options: ReadOptions, *, stat: bool) -> tuple[RangedFile, pq.ParquetFile]:
    size_bytes = None if stat else shard.size_bytes
    file = open_ranged(shard.uri, etag=shard.etag, size_bytes=size_bytes, retry_s=options.retry_s)
    with contextlib.ExitStack() as undo:
        undo.callback(file.close)
        try:
            parquet = pq.ParquetFile(
                pa.PythonFile(file, mode="r"),
                buffer_size=_BUFFER_BYTES,  # read column chunks in pieces of this size
                pre_buffer=False,  # do not fetch whole column chunks
                page_checksum_verification=True,
            )
            parquet.schema_arrow  # noqa: B018  # raises an error if the schema is damaged
        except _DAMAGE as err:
            if file.fault is not None:
                raise file.fault from err
            raise _unreadable(file, err) from err
        undo.pop_all()
    return file, parquet


def _unreadable(file: RangedFile, err: BaseException) -> ShardEndError:
    if file.size() == 0:
        return ShardEndError(Reason.SHARD_UNREADABLE, "is empty: it has 0 bytes")
    file.seek(0)
    if file.read(len(_MAGIC)) != _MAGIC:
        return ShardEndError(Reason.SHARD_UNREADABLE, f"is not a Parquet file: {err}")
    file.seek(max(file.size() - len(_MAGIC), 0))
    if file.read(len(_MAGIC)) != _MAGIC:
        return ShardEndError(
            Reason.SHARD_TRUNCATED,
            "cannot be read, because it has no Parquet footer: the file is truncated",
        )
    return ShardEndError(Reason.SHARD_UNREADABLE, f"has a damaged footer: {err}")


def _columns(parquet: pq.ParquetFile, options: ReadOptions) -> Columns:
    try:
        return find_columns(parquet.schema_arrow, options.image_column)
    except SourceError as err:
        raise ShardEndError(Reason.SHARD_UNREADABLE, f"cannot be read: {err}") from err


def _sample(shard: Shard, limits: ReadLimits, member: Member, cell: _Cell) -> Sample:
    if isinstance(cell, SampleError):
        return member.sample(shard, Metadata(), None, cell)
    data, values = cell
    failure = None
    if data is None:
        failure = SampleError(
            Stage.READ,
            Reason.EMPTY,
            f"{member.member} has no bytes: the image is not stored in the shard",
        )
    elif len(data) > limits.max_member_bytes:
        failure = SampleError(
            Stage.READ,
            Reason.MEMBER_TOO_LARGE,
            f"{member.member} has {len(data)} bytes. The limit is {limits.max_member_bytes} bytes",
        )
    return member.sample(shard, values, data, failure)
