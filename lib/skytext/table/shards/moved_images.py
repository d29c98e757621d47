"""Find the new positions of images in a rewritten shard.

If a shard is rewritten, the images in the shard have new positions. If an image has not changed, a
run does not rewrite its row in the table. So the row contains the old position. The manifest of the
shard contains the new position.
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
"""Maximum age of a cached manifest.

Because of this limit, a service also reads the manifests that later runs write.
"""
_MAX_KEPT = 16

_manifests: TTLCache[tuple[TableLocation, str, str], Manifest | None] = TTLCache(_MAX_KEPT, _KEEP_S)
_lock = threading.Lock()


def moved_row(location: TableLocation, row: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return a copy of a row that contains the current position of the image.

    Args:
        location: the table.
        row: a row with the columns ``image_id``, ``archive``, ``shard``, ``content_sha256`` and
            ``shard_etag``.

    Returns:
        The row with the values of ``byte_offset``, ``row_group``, ``row`` and ``shard_etag`` from
        the manifest. None if the shard does not contain the image any more, or if the shard has no
        manifest. If the shard is a folder, ``shard_etag`` is None, because the manifest does not
        contain the etags of the files. The caller must then compare the bytes of the image with
        ``content_sha256``.

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
    # Several threads may need the same manifest. With the lock, it is read only once.
    with _lock:
        if key not in _manifests:
            _manifests[key] = read_manifest(location, archive, shard, _COLUMNS)
        return _manifests[key]
