"""Read single images again. The table stores where the bytes of each image are located."""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from skytext.archive.formats.parquet import fetch_cells
from skytext.archive.shards import ReadOptions
from skytext.archive.storage.files import read_range
from skytext.archive.storage.store import ChangedError, is_store_fault
from skytext.errors import AddressError, SourceError

Row = Mapping[str, Any]
FindMoved = Callable[[Row], Row | None]
"""A function that finds an image again after its shard has changed.

The argument is the row of the image. The result is a row with the new location of the image, or
None if the function does not find the image.
"""

_PLACE = ("uri", "member", "byte_offset", "byte_length", "row_group", "row")
_ERRORS: tuple[type[Exception], ...] = (OSError, AddressError, SourceError)


@dataclass(frozen=True, slots=True)
class Place:
    """The location of an image's bytes. The values come from the row of the image in the table.

    Attributes:
        uri: the column ``uri`` of the row.
        member: the column ``member`` of the row.
        byte_offset: the position of the first byte. None if the bytes are not stored in one piece.
        byte_length: the number of bytes. None if ``byte_offset`` is None.
        row_group: the number of the Parquet row group. None in other formats.
        row: the number of the row in its Parquet row group. None in other formats.
        etag: the column ``shard_etag`` of the row. If it is not empty, and the shard now has a
            different etag, the image is not read, and an error is raised.
    """

    uri: str
    member: str
    byte_offset: int | None = None
    byte_length: int | None = None
    row_group: int | None = None
    row: int | None = None
    etag: str = ""

    @property
    def shard_uri(self) -> str:
        """The uri of the file that contains the bytes."""
        return self.uri.removesuffix(f"#{self.member}")

    @property
    def is_cell(self) -> bool:
        """True if the image is stored in a row of a Parquet file."""
        return self.row_group is not None and self.row is not None


def fetch_image(
    uri: str,
    member: str,
    *,
    byte_offset: int | None = None,
    byte_length: int | None = None,
    row_group: int | None = None,
    row: int | None = None,
    etag: str = "",
    options: ReadOptions | None = None,
) -> bytes:
    """Return the encoded bytes of an image. The arguments are values from the image's table row.

    In a tar or a folder, the function reads one byte range. In a Parquet file, it reads the footer
    of the file, and then the image column of the row group up to the requested row.

    Args:
        uri: see `Place`.
        member: see `Place`.
        byte_offset: see `Place`.
        byte_length: see `Place`.
        row_group: see `Place`.
        row: see `Place`.
        etag: see `Place`.
        options: the options with which the image was first read.

    Raises:
        ChangedError: the shard was deleted, or its etag is no longer ``etag``.
        OSError: the store refuses access or does not respond, or the file is damaged. Or the image
            has no byte range, because it is a sparse member of a tar or has a failed row.
        AddressError: the uri is not a valid address.
        SourceError: the image column does not exist, or several columns could be the image column.
    """
    place = Place(uri, member, byte_offset, byte_length, row_group, row, etag)
    [found] = fetch_images([place], options=options, num_threads=1)
    return _bytes_or_raise(uri, found)


def _bytes_or_raise(uri: str, found: bytes | Exception) -> bytes:
    if isinstance(found, (FileNotFoundError, ChangedError)):
        raise ChangedError(
            f"{uri} was deleted or changed after it was read. Run the command again"
        ) from found
    if isinstance(found, Exception):
        raise found
    return found


def fetch_row(
    row: Row, options: ReadOptions | None = None, find_moved: FindMoved | None = None
) -> bytes:
    """Return the encoded bytes of an image in the table.

    Args:
        row: the row of the image, with the columns that `fetch_rows` needs.
        options: the options with which the image was first read.
        find_moved: see `fetch_rows`.

    Raises:
        ChangedError: for the same reasons as in `fetch_image`.
        OSError: for the same reasons as in `fetch_image`.
    """
    [found] = fetch_rows([row], options=options, num_threads=1, find_moved=find_moved)
    return _bytes_or_raise(row["uri"], found)


def fetch_rows(
    rows: Sequence[Row],
    *,
    options: ReadOptions | None = None,
    num_threads: int,
    find_moved: FindMoved | None = None,
) -> list[bytes | Exception]:
    """Read the images of some rows. Return the bytes or the error for each row, in order.

    If the shard of an image has changed, the image is read from its new location. The bytes from a
    new location are returned only if they are equal to the bytes that were captioned.

    Args:
        rows: rows with the columns ``uri``, ``member``, ``byte_offset``, ``byte_length``,
            ``row_group``, ``row`` and ``shard_etag``. If ``find_moved`` is given, the rows also
            need the column ``content_sha256``.
        options: the options with which the images were first read.
        num_threads: the number of parallel reads.
        find_moved: finds the new location of an image. If it is None, images in changed shards are
            not read.
    """
    found = list(fetch_images([_place(r) for r in rows], options=options, num_threads=num_threads))
    changed = [i for i, one in enumerate(found) if isinstance(one, ChangedError)]
    moved = {i: row for i in changed if find_moved and (row := find_moved(rows[i])) is not None}
    places = [_place(row) for row in moved.values()]
    again = fetch_images(places, options=options, num_threads=num_threads)
    for i, one in zip(moved, again, strict=True):
        if _counts(one, rows[i]["content_sha256"]):
            found[i] = one
    return found


def _place(row: Row) -> Place:
    return Place(**{name: row[name] for name in _PLACE}, etag=row["shard_etag"] or "")


def _counts(found: bytes | Exception, content_sha256: str) -> bool:
    """Return true if the new location contains the right image, or if the store caused an error."""
    if isinstance(found, Exception):
        return is_store_fault(found)
    return hashlib.sha256(found).hexdigest() == content_sha256


def fetch_images(
    places: Sequence[Place], *, options: ReadOptions | None = None, num_threads: int
) -> Iterator[bytes | Exception]:
    """Yield the encoded bytes or the error for each image, in the order of ``places``.

    Images in tars and folders are read in parallel. If consecutive images are in the same Parquet
    row group, the row group is read only once. Before the caller takes an image, at most
    ``2 * num_threads`` images are read.

    Args:
        places: the locations of the images.
        options: the options with which the images were first read.
        num_threads: the number of parallel reads.
    """
    with ThreadPoolExecutor(num_threads) as pool:
        for (is_cell, _, _), run in groupby(places, _run_of):
            if is_cell:
                yield from _cells(list(run), options)
            else:
                yield from _ranges(pool, run, 2 * num_threads, options)


def _run_of(place: Place) -> tuple[bool, str, int | None]:
    return (True, place.shard_uri, place.row_group) if place.is_cell else (False, "", None)


def _cells(places: list[Place], options: ReadOptions | None) -> Iterator[bytes | Exception]:
    first = places[0]
    wanted = {place.row: place for place in places if place.row is not None}
    found: dict[int, bytes | Exception] = {}
    try:
        cells = fetch_cells(
            first.shard_uri, first.row_group or 0, list(wanted), etag=first.etag, options=options
        )
        for row, cell in cells:
            missing = OSError(f"{wanted[row].uri}: the Parquet cell contains no image")
            found[row] = missing if cell is None else cell
            # Yield each image as soon as it and all earlier images in ``places`` are read. So
            # memory usually does not contain all images of the row group at the same time.
            while places and places[0].row in found:
                yield found.pop(places.pop(0).row or 0)
    except _ERRORS as error:
        for place in places:
            yield found.get(place.row or 0, error)
        return
    yield from (found[place.row or 0] for place in places)


def _ranges(
    pool: ThreadPoolExecutor,
    places: Iterable[Place],
    num_ahead: int,
    options: ReadOptions | None,
) -> Iterator[bytes | Exception]:
    retry_s = (options or ReadOptions()).retry_s
    waiting: deque[Future[bytes | Exception]] = deque()
    for place in places:
        waiting.append(pool.submit(_range, place, retry_s))
        if len(waiting) >= num_ahead:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()


def _range(place: Place, retry_s: float) -> bytes | Exception:
    if place.byte_offset is None or place.byte_length is None:
        return OSError(
            f"{place.uri} cannot be read alone, because its bytes are not stored as one range in "
            "the shard. Read the whole shard instead"
        )
    try:
        return read_range(
            place.shard_uri,
            place.byte_offset,
            place.byte_length,
            etag=place.etag,
            retry_s=retry_s,
        )
    except _ERRORS as error:
        return error
