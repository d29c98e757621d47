"""Make tar shards for tests, including damaged shards."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from skytext.archive import Shard, discover

Entry = tuple[str, bytes | str | dict[str, Any]]


def to_bytes(content: bytes | str | dict[str, Any]) -> bytes:
    if isinstance(content, dict):
        content = json.dumps(content)
    return content.encode() if isinstance(content, str) else content


def make_tar(
    entries: Iterable[Entry | tarfile.TarInfo], tar_format: int = tarfile.PAX_FORMAT
) -> bytes:
    """Return a tar of regular files and members without data. It has an end-of-archive marker."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tar_format) as tar:
        for entry in entries:
            if isinstance(entry, tarfile.TarInfo):
                tar.addfile(entry)
                continue
            name, content = entry
            data = to_bytes(content)
            header = tarfile.TarInfo(name)
            header.size = len(data)
            tar.addfile(header, io.BytesIO(data))
    return buffer.getvalue()


def link(name: str, target: str, kind: bytes = tarfile.SYMTYPE) -> tarfile.TarInfo:
    """Return the header of a link or of another member without data."""
    header = tarfile.TarInfo(name)
    header.type, header.linkname = kind, target
    return header


def write_shard(path: Path, entries: Iterable[Entry] | bytes) -> Shard:
    """Write a shard, and return the shard that `discover` finds.

    Args:
        path: the path of the file.
        entries: the members of the tar, or the bytes of the whole file.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(entries if isinstance(entries, bytes) else make_tar(entries))
    (shard,) = discover([str(path)])
    return shard
