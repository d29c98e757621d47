"""Find the shards in the sources that are named on the command line.

A shard is a ``.tar`` file, a ``.parquet`` file, or a folder that directly contains image files. One
source can contain shards of all these kinds. If a folder contains image files and ``.tar`` or
``.parquet`` files, all of them are read.

If a Parquet file and a tar in the same folder have the same name except for the suffix, the Parquet
file is not a shard. Tools such as img2dataset write such a Parquet file. It only contains a table
with facts about the images in the tar.
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
        shards: the shards, sorted by archive and path, without duplicates.
        whole_archives: names of the archives whose source is a folder. All shards of such an
            archive are in ``shards``. So a shard that is in the table but not in ``shards`` was
            deleted. If the source is a file or a pattern, the archive can have other shards.
    """

    shards: tuple[Shard, ...]
    whole_archives: frozenset[str]


def survey(
    sources: Sequence[str], *, archive: str | None = None, options: ReadOptions | None = None
) -> Survey:
    """Return the shards of the sources, sorted by archive and path, without duplicates.

    If two sources contain the same shard, the path of the shard is relative to the source whose
    root is the outer folder. The order of the sources does not matter.

    Args:
        sources: local paths or ``file://``, ``s3://`` or ``gs://`` addresses. Each source is a
            folder (with its sub-folders), a single file, or a wildcard pattern.
        archive: the name of the archive. If it is None, the name is the last part of the root of
            each source. See :mod:`skytext.archive.shards`.
        options: how to read shards. In each source, the first Parquet file is checked: it must have
            an image column.

    Raises:
        SourceError: a source does not exist, cannot be reached, or the store refuses access.
            A source contains no shard, or contains a compressed tar. A source names image files
            instead of their folder. A Parquet file has no image column, or several columns could be
            the image column. Images in two different shards would get the same ids.
        AddressError: a source is not a valid address.
    """
    if not sources:
        raise SourceError("no source given: give a folder, a shard or an s3:// address")
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
                f"{one.uri} and {two.uri} have the same name {one.path!r} in the archive "
                f"{one.archive!r}. Their images would get the same ids. Use a separate run for "
                "each source, and give each run a different --archive name"
            )
    return Survey(tuple(shards), frozenset(whole))


def discover(
    sources: Sequence[str], *, archive: str | None = None, options: ReadOptions | None = None
) -> list[Shard]:
    """Return the shards that `survey` finds."""
    return list(survey(sources, archive=archive, options=options).shards)


def _shards_of(source: str, archive: str | None, options: ReadOptions) -> tuple[list[Shard], bool]:
    """Return the shards in a source, and true if the source is a folder."""
    listing = list_files(source, _SUFFIXES, retry_s=options.retry_s)
    name = archive or _printable(listing.root.name)
    if not name:
        raise SourceError(
            f"the archive needs a name, and {source!r} does not contain one: give --archive"
        )
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
            # Keep the trailing slash, because it distinguishes two folders: "" is the root, and "/"
            # is a folder in the root whose name is empty.
            folder = path.removesuffix(base)
            folders.setdefault(folder, FolderDigest()).add(base, file)
    if compressed:
        raise _compressed_error(source, sorted(compressed))
    shards = _without_twins(shards)
    with_images = {path: folder for path, folder in folders.items() if folder.num_images}
    if with_images and listing.kind != "folder":
        raise SourceError(
            f"{source!r} is an image file or a pattern for image files. Give the folder that "
            "contains the image files instead. All images directly in a folder are one shard"
        )
    shards += [_folder_shard(name, listing.root, *item) for item in with_images.items()]
    if not shards:
        raise _nothing_error(source, listing, folders)
    _check_parquet(source, shards, options)
    return shards, listing.kind == "folder"


def _folder_shard(archive: str, root: Location, path: str, folder: FolderDigest) -> Shard:
    uri = replace(root, path=f"{root.prefix}{path}").uri
    # Addresses of buckets and of local folders have no trailing slash. Add one.
    uri = uri if uri.endswith("/") else f"{uri}/"
    return Shard(archive, uri, _printable(path) or "./", folder.num_bytes, folder.etag)


def _without_twins(shards: list[Shard]) -> list[Shard]:
    """Remove each Parquet file for which the folder also contains a tar with the same name."""
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
        return SourceError(f"{source!r} has an unknown format. The known types are {formats}")
    if listing.num_others == 0 and not folders:
        what = "matches nothing" if listing.kind == "glob" else "is empty"
        return SourceError(
            f"{source!r} {what}. Give a folder or a pattern with files of these types: {formats}"
        )
    some = ", ".join(sorted(listing.others)) or "sidecars"
    more = ", …" if listing.num_others > len(listing.others) else ""
    return SourceError(
        f"{source!r} contains no file of these types: {formats}. It contains "
        f"{listing.num_others} other files ({some}{more}). Give another folder"
    )


def _compressed_error(source: str, paths: Sequence[str]) -> SourceError:
    more = f" and {len(paths) - 1} more" if len(paths) > 1 else ""
    return SourceError(
        f"{source!r}: {paths[0]}{more} is a compressed tar. skytext cannot read single images "
        "from a compressed tar. Decompress the file to a plain .tar (gunzip, unzstd, …)"
    )


def _printable(path: str) -> str:
    """Make a file name valid Unicode. Undecodable bytes become ``\\xNN``."""
    return path.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
