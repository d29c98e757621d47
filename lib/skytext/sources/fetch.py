"""Fetch one image again, from where a table says that its bytes are."""

from __future__ import annotations

from skytext.sources.base import ReadOptions
from skytext.sources.parquet import fetch_cell
from skytext.sources.storage import read_range


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
    """Return the encoded bytes of an image, given what its row in the table says.

    Of a tar and of a folder it is one ranged read; of a Parquet file its footer, and the image
    column of the row group up to the row.

    Args:
        uri: the image's ``uri``.
        member: its ``member``.
        byte_offset: where its bytes begin.
        byte_length: how many they are.
        row_group: of a Parquet row: its row group.
        row: of a Parquet row: its number in the row group.
        etag: its ``shard_etag``; where given, a shard that changed since is refused.
        options: as those it was read with.

    Raises:
        OSError: missing, refused, changed since ``etag``, damaged, or an image with no place of
            its own (a sparse member of a tar, a failed row).
        BotoCoreError: the store cannot be reached; see `READ_ERRORS`.
        ClientError: the store refuses.
        SourceError: the uri's scheme is not supported.
    """
    shard_uri = uri.removesuffix(f"#{member}")
    if row_group is not None and row is not None:
        return fetch_cell(shard_uri, row_group, row, etag=etag, options=options)
    if byte_offset is None or byte_length is None:
        raise OSError(f"{uri} is not stored in one piece: read its shard instead")
    if byte_length == 0:
        return b""
    return read_range(shard_uri, byte_offset, byte_length, etag=etag)
