"""Find the shards of the sources named on a command line."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from skytext.errors import SourceError
from skytext.sources.base import SHARD_SUFFIXES, Shard
from skytext.sources.storage import Listing, StoredFile, list_files

_COMPRESSED_SUFFIXES = tuple(
    f".{name}"
    for name in (
        *("tar.gz", "tgz", "tar.bz2", "tbz2", "tbz", "tar.xz", "txz"),
        *("tar.zst", "tzst", "tar.lz4", "tar.z", "tar.br"),
    )
)


def discover(sources: Sequence[str], *, archive: str | None = None) -> list[Shard]:
    """Expand sources into their shards, sorted by archive and path, each shard once.

    A shard that two sources reach counts for the one whose root lies further out, whatever
    their order.

    Args:
        sources: folders (with their sub-folders), wildcard patterns or single files; local
            paths, ``file://`` or ``s3://`` addresses.
        archive: the archive's name; by default the last part of each source's root, see
            :mod:`skytext.sources.base`.

    Raises:
        SourceError: a source is missing, refused, unreachable, holds no shard or a compressed
            one, or two sources would give two different shards the same ids.
    """
    if not sources:
        raise SourceError("no source given: name a folder, a .tar file or an s3:// address")
    if archive is not None and (not archive or not archive.isprintable()):
        raise SourceError(f"--archive {archive!r} is no name: use printable characters")
    by_uri: dict[str, Shard] = {}
    for source in sources:
        for shard in _shards_of(source, archive):
            other = by_uri.get(shard.uri)
            if other is None or shard.path.count("/") > other.path.count("/"):
                by_uri[shard.uri] = shard
    shards = sorted(by_uri.values(), key=lambda shard: (shard.archive, shard.path))
    for one, two in itertools.pairwise(shards):
        if (one.archive, one.path) == (two.archive, two.path):
            raise SourceError(
                f"{one.uri} and {two.uri} would both be shard {one.path!r} of archive "
                f"{one.archive!r} and their images get the same ids: run them one after the "
                "other, each with an --archive name of its own"
            )
    return shards


def _shards_of(source: str, archive: str | None) -> list[Shard]:
    listing = list_files(source, SHARD_SUFFIXES + _COMPRESSED_SUFFIXES)
    _check(source, listing)
    name = archive or _printable(listing.root.name)
    if not name:
        raise SourceError(f"{source!r} has no name that could be the archive's: give --archive")
    return [
        Shard(name, file.uri, _printable(path), file.size_bytes, file.etag)
        for path, file in listing.files
    ]


def _check(source: str, listing: Listing) -> None:
    compressed = [
        entry for entry in listing.files if entry[0].lower().endswith(_COMPRESSED_SUFFIXES)
    ]
    if compressed:
        raise _compressed_error(source, compressed)
    if listing.files:
        return
    formats = ", ".join(SHARD_SUFFIXES)
    if listing.kind == "file":
        raise SourceError(f"{source!r} is of an unknown format: shards are {formats} files")
    if listing.num_others == 0:
        what = "matches nothing" if listing.kind == "glob" else "is empty"
        raise SourceError(f"{source!r} {what}: name a folder or pattern that holds {formats} files")
    some = ", ".join(listing.others) + (", …" if listing.num_others > len(listing.others) else "")
    raise SourceError(
        f"{source!r} holds no {formats} file but {listing.num_others} others ({some}): "
        "pack the images into WebDataset .tar shards, or name another folder"
    )


def _compressed_error(source: str, entries: Sequence[tuple[str, StoredFile]]) -> SourceError:
    more = f" and {len(entries) - 1} more" if len(entries) > 1 else ""
    return SourceError(
        f"{source!r}: {entries[0][0]}{more} is a compressed tar: unpack it to a plain .tar "
        "(gunzip, unzstd, …), because random access into a compressed one is impossible"
    )


def _printable(path: str) -> str:
    """Make a file name valid Unicode: undecodable bytes become ``\\xNN``."""
    return path.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
