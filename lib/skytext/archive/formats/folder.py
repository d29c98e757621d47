"""Read the image files that lie directly in one folder, as a stream.

INPUT: a :class:`Shard` whose path ends with a slash. OUTPUT: a :class:`Sample` for every image
file in the folder, sorted by name.
FAN-OUT: one folder, as many samples as it has images, plus one for the rest where it cannot be
listed any further.
ON ERROR: a failed sample; a file that vanishes or changes while the folder is read is one.

Sidecars belong to images as in a tar: the ``.json`` and ``.txt`` whose name equals the image's up
to the last suffix, else the one named by the part before the first dot. There is no order to
mind: files of one key lie side by side once names are sorted.

What is in the folder when it is read counts, not what was in it when it was found. Each image
carries its own file's etag, so a file that is added or changed makes no other image look changed.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from skytext.archive.shards import (
    Member,
    Metadata,
    ReadLimits,
    Sample,
    Shard,
    ShardCounts,
    image_id,
)
from skytext.archive.sidecar import parse_sidecar
from skytext.archive.storage.files import READ_ERRORS, describe_fault, list_folder, open_stream
from skytext.archive.storage.prefetch import prefetch
from skytext.archive.storage.store import StoredFile
from skytext.archive.suffixes import IMAGE_SUFFIXES, SIDECAR_SUFFIXES
from skytext.archive.unreadable import ShardEndError, failed_shard, store_end
from skytext.errors import Reason, SampleError, Stage

_NUM_THREADS = 16
_AHEAD_BYTES = 32 << 20


@dataclass(frozen=True)
class _File:
    """An image file with its sidecars, by their suffix."""

    member: Member
    stored: StoredFile
    sidecars: dict[str, StoredFile]


def read_folder(shard: Shard, limits: ReadLimits, counts: ShardCounts) -> Iterator[Sample]:
    """Yield the images of a folder; never raises for what is in it.

    Args:
        shard: the shard, as :func:`skytext.archive.discover` found it.
        limits: a larger image becomes a failure, a larger sidecar is not read.
        counts: filled while reading.
    """
    files = _files(shard, limits, counts)

    def read(file: _File) -> Sample:
        return _read(shard, limits, file)

    try:
        if shard.uri.startswith("file:"):
            yield from map(read, files)
        else:
            ahead = prefetch(
                files,
                read,
                lambda file: file.stored.size_bytes,
                num_threads=_NUM_THREADS,
                max_bytes=_AHEAD_BYTES,
            )
            for _, sample in ahead:
                yield sample
    except ShardEndError as err:
        yield failed_shard(shard, err)


def list_folder_images(shard: Shard, limits: ReadLimits) -> Iterator[Member]:
    """Yield what `read_folder` would, from the folder's listing alone."""
    try:
        for file in _files(shard, limits, ShardCounts()):
            yield file.member
    except ShardEndError as err:
        yield Member.of(failed_shard(shard, err))


def _files(shard: Shard, limits: ReadLimits, counts: ShardCounts) -> Iterator[_File]:
    """Yield the image files of a folder.

    Raises:
        ShardEndError: the folder cannot be listed, or not any further, or has no image any more.
    """
    num_images = 0
    try:
        for group in _groups(shard, counts):
            for name in group:
                if _suffix(name) in IMAGE_SUFFIXES:
                    num_images += 1
                    sidecars = _sidecars_of(name, group)
                    counts.num_sidecars += len(sidecars)
                    yield _file(shard, limits, name, group[name], sidecars)
    except READ_ERRORS as err:
        raise store_end(shard, err) from err
    if not num_images:
        raise ShardEndError(
            Reason.SHARD_UNREADABLE, "holds no image any more: its files vanished; run again"
        )


def _groups(shard: Shard, counts: ShardCounts) -> Iterator[dict[str, StoredFile]]:
    """Yield the images and sidecars of one key after the other, by their names, sorted."""
    key = ""
    group: dict[str, StoredFile] = {}
    for name, stored in list_folder(shard.uri):
        if _suffix(name) not in IMAGE_SUFFIXES | SIDECAR_SUFFIXES:
            counts.num_ignored += 1
            continue
        if name.partition(".")[0] != key:
            yield group
            key, group = name.partition(".")[0], {}
        group[name] = stored
    yield group


def _sidecars_of(name: str, group: dict[str, StoredFile]) -> dict[str, StoredFile]:
    found: dict[str, StoredFile] = {}
    for suffix in sorted(SIDECAR_SUFFIXES):
        for stem in (name.rpartition(".")[0], name.partition(".")[0]):
            for place in (f"{stem}.{suffix}", f"{stem}.{suffix.upper()}"):
                if place in group:
                    found.setdefault(suffix, group[place])
    return found


def _file(
    shard: Shard,
    limits: ReadLimits,
    name: str,
    stored: StoredFile,
    sidecars: dict[str, StoredFile],
) -> _File:
    # A name must be valid Unicode in every column it reaches; the address stays what it is.
    member = name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    failure = None
    if stored.size_bytes > limits.max_member_bytes:
        failure = SampleError(
            Stage.READ,
            Reason.MEMBER_TOO_LARGE,
            f"{member} has {stored.size_bytes} bytes, more than the limit of "
            f"{limits.max_member_bytes}",
        )
    return _File(
        Member(
            image_id=image_id(shard.archive, shard.path, member, 0),
            member=member,
            uri=stored.uri,
            etag=stored.etag,
            byte_offset=0,
            byte_length=stored.size_bytes,
            failure=failure,
        ),
        stored,
        sidecars,
    )


def _read(shard: Shard, limits: ReadLimits, file: _File) -> Sample:
    if file.member.failure is not None:
        return file.member.sample(shard, _said(limits, file), None)
    try:
        data = _content(file.stored)
    except READ_ERRORS as err:
        failure = SampleError(
            Stage.READ,
            Reason.SHARD_UNREADABLE,
            f"{file.member.member} cannot be read: {describe_fault(err)}",
        )
        return file.member.sample(shard, Metadata(), None, failure)
    return file.member.sample(shard, _said(limits, file), data)


def _said(limits: ReadLimits, file: _File) -> Metadata:
    contents: dict[str, bytes] = {}
    errors = []
    for suffix, stored in file.sidecars.items():
        if stored.size_bytes > limits.max_sidecar_bytes:
            errors.append(f"{stored.uri} is larger than {limits.max_sidecar_bytes} bytes")
            continue
        try:
            contents[suffix] = _content(stored)
        except READ_ERRORS as err:
            errors.append(f"{stored.uri} cannot be read: {describe_fault(err)}")
    if not contents and not errors:
        return Metadata()
    return parse_sidecar(contents.get("json"), contents.get("txt"), errors=tuple(errors))


def _content(stored: StoredFile) -> bytes:
    with open_stream(stored.uri, etag=stored.etag) as stream:
        data = stream.read(stored.size_bytes)
    if len(data) != stored.size_bytes:
        raise OSError(f"{len(data)} of {stored.size_bytes} bytes: it became shorter")
    return data


def _suffix(name: str) -> str:
    return name.rpartition(".")[2].lower()
