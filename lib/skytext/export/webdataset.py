"""Export as a WebDataset tar: consecutive files of an image share the name up to the first dot."""

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
from skytext.table.moved_images import moved_row

_PLACE = ("byte_offset", "byte_length", "row_group", "row", "shard_etag", "content_sha256")
_FETCHED_AT_ONCE = 8
_AHEAD_BYTES = 64 * 2**20
_NO_SUFFIX = "img"

Row = dict[str, Any]


def write_webdataset(table: ImagesTable, out: BinaryIO, *, with_images: bool = False) -> int:
    """Write ``ID.json`` (all fields), ``ID.txt`` (the first variant's caption), and the image.

    ``ID`` is the ``image_id``: unlike a path in a shard it is unique and has no dots.

    Args:
        table: the version to export.
        out: the output; it need not be seekable.
        with_images: fetch every image's bytes again, with one ranged read, as ``ID.jpg`` etc.

    Raises:
        JobError: an image cannot be fetched, or its shard no longer has it.
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
    """Return an image file's suffix without the dot, as WebDataset's decoders need it."""
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
                f"cannot fetch {row['uri']} again: {data} (without --with-images only the captions "
                "are exported)"
            ) from data
        yield row, data


def _fetch(location: TableLocation, row: Row) -> bytes | Exception:
    try:
        return fetch_row(row, find_moved=partial(moved_row, location))
    except (OSError, AddressError, SourceError) as error:
        return error


def _add(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    # Time 0 and no owner, so that the same table gives the same bytes.
    info = tarfile.TarInfo(name)
    info.size = len(data)
    info.mode = 0o644
    tar.addfile(info, io.BytesIO(data))
