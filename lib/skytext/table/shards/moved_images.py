"""Find the new positions of images in a rewritten shard.

If a shard is rewritten, its images have new positions. A run does not rewrite the table rows of
unchanged images, so these rows have the old positions. The shard's manifest has the new positions.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Any

import pyarrow.compute as pc
from cachetools import TTLCache

from skytext.table.location import TableLocation
from skytext.table.shards.manifest import Manifest, read_manifest

_PLACE = ("byte_offset", "row_group", "row")
_COLUMNS = ("image_id", "content_sha256", *_PLACE)
_KEEP_S = 60.0
"""Maximum age of a cached manifest, so that a service reads the manifests of later runs."""
_MAX_KEPT = 16

_manifests: TTLCache[tuple[TableLocation, str, str], Manifest | None] = TTLCache(_MAX_KEPT, _KEEP_S)
_lock = threading.Lock()


def moved_row(location: TableLocation, row: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return a row with the current position of its image.

    Args:
        location: the table.
        row: a row with the columns ``image_id``, ``archive``, ``shard``, ``content_sha256`` and
            ``shard_etag``.

    Returns:
        The row with ``byte_offset``, ``row_group``, ``row`` and ``shard_etag`` from the manifest.
        None if the shard no longer contains the image, or if the shard has no manifest. If the
        shard is a folder, ``shard_etag`` is None, because its manifest has no etags of the files.
        The reader must then compare the bytes with ``content_sha256``.

    Raises:
        JobError: a store request failed.
    """
    manifest = _manifest(location, row["archive"], row["shard"])
    if manifest is None:
        return None
    index = pc.index(manifest.members.column("image_id"), row["image_id"]).as_py()
    if index < 0:
        return None
    [member] = manifest.members.slice(index, 1).to_pylist()
    if member["content_sha256"] is None or member["content_sha256"] != row["content_sha256"]:
        return None
    etag = None if row["shard"].endswith("/") else manifest.etag
    return {**row, **{name: member[name] for name in _PLACE}, "shard_etag": etag}


def _manifest(location: TableLocation, archive: str, shard: str) -> Manifest | None:
    key = location, archive, shard
    # The lock makes sure that threads that need the same manifest read it only once.
    with _lock:
        if key not in _manifests:
            _manifests[key] = read_manifest(location, archive, shard, _COLUMNS)
        return _manifests[key]
