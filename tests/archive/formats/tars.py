"""Tar shards for tests, including broken ones."""

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
    """A tar of regular files, and of members without data, with its end-of-archive marker."""
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
    """A link, or another member without data."""
    header = tarfile.TarInfo(name)
    header.type, header.linkname = kind, target
    return header


def write_shard(path: Path, entries: Iterable[Entry] | bytes) -> Shard:
    """Write a shard (entries, or the bytes of a whole file) and find it again."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(entries if isinstance(entries, bytes) else make_tar(entries))
    (shard,) = discover([str(path)])
    return shard
