"""Find the shards of the sources named on a command line.

A shard is a ``.tar`` or ``.parquet`` file, or a folder that directly contains image files. A source
may contain all kinds. Image files in the same folder as shards are read too. A Parquet file with
the same name as a tar beside it is not a shard: it is the table about the tar's images that packers
(img2dataset) write.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace

from skytext.addresses.address_parser import Location
from skytext.archive.formats.folder import FolderDigest
from skytext.archive.formats.parquet import check_columns
from skytext.archive.shards import ReadOptions, Shard
from skytext.archive.storage.files import Listing, list_files
from skytext.archive.suffixes import IMAGE_SUFFIXES, SHARD_SUFFIXES, SIDECAR_SUFFIXES
from skytext.errors import SourceError

_COMPRESSED_SUFFIXES = tuple(
    f".{name}"
    for name in (
        *("tar.gz", "tgz", "tar.bz2", "tbz2", "tbz", "tar.xz", "txz"),
        *("tar.zst", "tzst", "tar.lz4", "tar.z", "tar.br"),
    )
)


_IMAGE_SUFFIXES = tuple(f".{name}" for name in sorted(IMAGE_SUFFIXES))
_SIDECAR_SUFFIXES = tuple(f".{name}" for name in sorted(SIDECAR_SUFFIXES))
_SUFFIXES = SHARD_SUFFIXES + _COMPRESSED_SUFFIXES + _IMAGE_SUFFIXES + _SIDECAR_SUFFIXES


@dataclass(frozen=True, slots=True)
class Survey:
    """The contents of the sources.

    Attributes:
        shards: sorted by archive and path, each once.
        whole_archives: archives that were named by a folder. A shard that is missing from such an
            archive was deleted. A file or a pattern does not prove that.
    """

    shards: tuple[Shard, ...]
    whole_archives: frozenset[str]


def survey(
    sources: Sequence[str], *, archive: str | None = None, options: ReadOptions | None = None
) -> Survey:
    """Expand sources into their shards, sorted by archive and path, each shard once.

    If two sources contain the same shard, it belongs to the source with the outermost root. The
    order of the sources does not matter.

    Args:
        sources: folders (with their sub-folders), wildcard patterns or single files; local
            paths, ``file://``, ``s3://`` or ``gs://`` addresses.
        archive: the archive's name; by default the last part of each source's root, see
            :mod:`skytext.archive.shards`.
        options: how to read shards. The first Parquet file of each source is checked for an image
            column.

    Raises:
        SourceError: a source is missing, refused, unreachable, contains no shard or a compressed
            one, names image files without their folder, or has a Parquet file with no clear image
            column; or two different shards would get the same ids.
        AddressError: a source is not a valid address.
    """
    if not sources:
        raise SourceError("no source given: name a folder, a shard or an s3:// address")
    if archive is not None and (not archive or not archive.isprintable()):
        raise SourceError(f"--archive {archive!r} is not a valid name: use printable characters")
    by_uri: dict[str, Shard] = {}
    whole: set[str] = set()
    for source in sources:
        found, is_whole = _shards_of(source, archive, options or ReadOptions())
        whole.update(shard.archive for shard in found if is_whole)
        for shard in found:
            other = by_uri.get(shard.uri)
            if other is None or shard.path.count("/") > other.path.count("/"):
                by_uri[shard.uri] = shard
    shards = sorted(by_uri.values(), key=lambda shard: (shard.archive, shard.path))
    for one, two in itertools.pairwise(shards):
        if (one.archive, one.path) == (two.archive, two.path):
            raise SourceError(
                f"{one.uri} and {two.uri} would both be shard {one.path!r} of archive "
                f"{one.archive!r} and their images get the same ids: run them one after the "
                "other, each with its own --archive name"
            )
    return Survey(tuple(shards), frozenset(whole))


def discover(
    sources: Sequence[str], *, archive: str | None = None, options: ReadOptions | None = None
) -> list[Shard]:
    """Return the shards of a `survey`."""
    return list(survey(sources, archive=archive, options=options).shards)


def _shards_of(source: str, archive: str | None, options: ReadOptions) -> tuple[list[Shard], bool]:
    """Return a source's shards, and whether the source is a whole folder."""
    listing = list_files(source, _SUFFIXES, retry_s=options.retry_s)
    name = archive or _printable(listing.root.name)
    if not name:
        raise SourceError(f"{source!r} has no name that could be the archive's: give --archive")
    shards: list[Shard] = []
    compressed: list[str] = []
    folders: dict[str, FolderDigest] = {}
    for path, file in listing:
        lower = path.lower()
        if lower.endswith(_COMPRESSED_SUFFIXES):
            compressed.append(path)
        elif lower.endswith(SHARD_SUFFIXES):
            shards.append(Shard(name, file.uri, _printable(path), file.size_bytes, file.etag))
        else:
            base = path.rpartition("/")[2]
            # Keep the trailing slash: "" is the root, "/" a folder with an empty name in it.
            folder = path.removesuffix(base)
            folders.setdefault(folder, FolderDigest()).add(base, file)
    if compressed:
        raise _compressed_error(source, sorted(compressed))
    shards = _without_twins(shards)
    with_images = {path: folder for path, folder in folders.items() if folder.num_images}
    if with_images and listing.kind != "folder":
        raise SourceError(
            f"{source!r} names image files: name the folder that holds them instead; all images "
            "directly in a folder are one shard"
        )
    shards += [_folder_shard(name, listing.root, *item) for item in with_images.items()]
    if not shards:
        raise _nothing_error(source, listing, folders)
    _check_parquet(source, shards, options)
    return shards, listing.kind == "folder"


def _folder_shard(archive: str, root: Location, path: str, folder: FolderDigest) -> Shard:
    uri = replace(root, path=f"{root.prefix}{path}").uri
    # Addresses of buckets and local folders have no trailing slash.
    uri = uri if uri.endswith("/") else f"{uri}/"
    return Shard(archive, uri, _printable(path) or "./", folder.num_bytes, folder.etag)


def _without_twins(shards: list[Shard]) -> list[Shard]:
    """Leave out the Parquet files that have the same name as a tar beside them."""
    tars = {shard.path[: -len(".tar")] for shard in shards if shard.path.lower().endswith(".tar")}
    return [
        shard
        for shard in shards
        if not shard.path.lower().endswith(".parquet") or shard.path[: -len(".parquet")] not in tars
    ]


def _check_parquet(source: str, shards: list[Shard], options: ReadOptions) -> None:
    files = [shard for shard in shards if shard.path.lower().endswith(".parquet")]
    if files:
        first = min(files, key=lambda shard: shard.path)
        check_columns(source, first, options, alone=len(files) == len(shards))


def _nothing_error(source: str, listing: Listing, folders: dict[str, FolderDigest]) -> SourceError:
    formats = ", ".join((*SHARD_SUFFIXES, *_IMAGE_SUFFIXES))
    if listing.kind == "file":
        return SourceError(f"{source!r} has an unknown format: shards are {formats} files")
    if listing.num_others == 0 and not folders:
        what = "matches nothing" if listing.kind == "glob" else "is empty"
        return SourceError(
            f"{source!r} {what}: name a folder or pattern that holds {formats} files"
        )
    some = ", ".join(sorted(listing.others)) or "sidecars"
    more = ", …" if listing.num_others > len(listing.others) else ""
    return SourceError(
        f"{source!r} holds no {formats} file but {listing.num_others} others ({some}{more}): "
        "name another folder"
    )


def _compressed_error(source: str, paths: Sequence[str]) -> SourceError:
    more = f" and {len(paths) - 1} more" if len(paths) > 1 else ""
    return SourceError(
        f"{source!r}: {paths[0]}{more} is a compressed tar: unpack it to a plain .tar "
        "(gunzip, unzstd, …), because random access into a compressed one is impossible"
    )


def _printable(path: str) -> str:
    """Make a file name valid Unicode: undecodable bytes become ``\\xNN``."""
    return path.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
