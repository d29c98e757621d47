"""Export the images of a table as a WebDataset tar.

The files of one image are next to each other in the tar. The names of these files are equal up to
the first dot.
"""

from __future__ import annotations

import io
import re
import tarfile
from collections.abc import Iterator
from functools import partial
from typing import Any, BinaryIO

from skytext.archive.refetch import fetch_row
from skytext.archive.storage.prefetch import prefetch
from skytext.errors import AddressError, JobError, SourceError
from skytext.export.image_json import COLUMNS, described, rows, to_line
from skytext.table.images_dataset import ImagesTable
from skytext.table.location import TableLocation
from skytext.table.shards.moved_images import moved_row

_PLACE = ("byte_offset", "byte_length", "row_group", "row", "shard_etag", "content_sha256")
_FETCHED_AT_ONCE = 8
_AHEAD_BYTES = 64 * 2**20
_NO_SUFFIX = "img"

Row = dict[str, Any]


def write_webdataset(table: ImagesTable, out: BinaryIO, *, with_images: bool = False) -> int:
    """Write ``ID.json`` and ``ID.txt`` for each image, and optionally the image itself.

    ``ID.json`` contains all fields. ``ID.txt`` contains the caption of the first variant. ``ID`` is
    the ``image_id``, which is unique and contains no dots. A path in a shard is not used as the
    name, because a path may contain dots.

    Args:
        table: the table version to export.
        out: the output file. It can be a pipe, because seek is not used.
        with_images: if true, the bytes of every image are read from its shard and added as
            ``ID.jpg`` (or with a different suffix).

    Raises:
        JobError: an image cannot be read, or the shard does not contain the image any more.
    """
    count = 0
    with tarfile.open(fileobj=out, mode="w|", format=tarfile.PAX_FORMAT) as tar:
        for row, data in _with_bytes(table) if with_images else _without_bytes(table):
            key = row["image_id"]
            image = described(row)
            _add(tar, f"{key}.json", to_line(image))
            _add(tar, f"{key}.txt", image["captions"][0]["caption"].encode())
            if data is not None:
                _add(tar, f"{key}.{suffix(row['member'])}", data)
            count += 1
    return count


def suffix(member: str) -> str:
    """Return the lower-case suffix of an image file, without the dot.

    WebDataset chooses the decoder of a file by this suffix.
    """
    match = re.search(r"[^/\\]\.([A-Za-z0-9]{1,8})$", member)
    return match.group(1).lower() if match else _NO_SUFFIX


def _without_bytes(table: ImagesTable) -> Iterator[tuple[Row, None]]:
    return ((row, None) for row in rows(table, COLUMNS))


def _with_bytes(table: ImagesTable) -> Iterator[tuple[Row, bytes]]:
    items = rows(table, (*COLUMNS, *_PLACE))
    fetched = prefetch(
        items,
        partial(_fetch, table.location),
        lambda row: row["byte_length"] or 0,
        num_threads=_FETCHED_AT_ONCE,
        max_bytes=_AHEAD_BYTES,
    )
    for row, data in fetched:
        if isinstance(data, Exception):
            raise JobError(
                f"cannot fetch {row['uri']} again: {data} (to export only the captions, leave out "
                "--with-images)"
            ) from data
        yield row, data


def _fetch(location: TableLocation, row: Row) -> bytes | Exception:
    try:
        return fetch_row(row, find_moved=partial(moved_row, location))
    except (OSError, AddressError, SourceError) as error:
        return error


def _add(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    # The file has time 0 and no owner, so that two exports of the same table are identical.
    info = tarfile.TarInfo(name)
    info.size = len(data)
    info.mode = 0o644
    tar.addfile(info, io.BytesIO(data))
