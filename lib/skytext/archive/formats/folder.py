"""Read the image files that are directly in one folder, as a stream.

INPUT: a :class:`Shard` whose path ends with a slash. OUTPUT: a :class:`Sample` for every image
file in the folder, sorted by name.
FAN-OUT: one folder gives one sample for each image.
ON ERROR: if the store does not return an image or its sidecar, the sample has a ``fault``. If the
store reports that a file does not exist, the folder is listed again. If the new listing still
contains the file, the sample has a ``fault``. Otherwise the file was deleted, and there is no
sample. If the store does not respond for many consecutive files, the reader raises an error. It
also raises an error if the listing is incomplete.

The rule for sidecars is the same as in a tar. The sidecar of an image is the ``.json`` or ``.txt``
file that has the same name up to the last dot. If this file does not exist, the sidecar is the
``.json`` or ``.txt`` file whose name is the image's name up to the first dot. The name up to the
first dot is called the key. The names are sorted, so files with the same key follow each other.

The folder is listed again when it is read. So changes after the first listing are included. The
etag of an image is the etag of its own file. So a new or changed file does not change the etags of
other images.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from skytext.archive.ignored import HIDDEN, kind_of_file
from skytext.archive.shards import (
    Member,
    Metadata,
    ReadLimits,
    ReadOptions,
    Sample,
    Shard,
    ShardCounts,
    image_id,
)
from skytext.archive.sidecar import parse_sidecar
from skytext.archive.storage.files import is_listed, list_folder, read_range, stat_file
from skytext.archive.storage.prefetch import prefetch
from skytext.archive.storage.store import ChangedError, StoredFile, UnavailableError
from skytext.archive.suffixes import IMAGE_SUFFIXES, SIDECAR_SUFFIXES, is_hidden
from skytext.errors import Reason, SampleError, Stage

NUM_THREADS = 32
"""The number of files that are fetched in parallel from an object store."""
_AHEAD_BYTES = 32 << 20
_MAX_FAULTS_IN_A_ROW = 16


@dataclass(frozen=True)
class _File:
    """An image file and its sidecars. The keys of ``sidecars`` are suffixes."""

    member: Member
    stored: StoredFile
    sidecars: dict[str, StoredFile]


class FolderDigest:
    """A digest of the files in a folder: the names, sizes and etags of images and sidecars.

    The digest does not depend on the order in which files are added.

    Attributes:
        num_images: number of images that were added.
        num_bytes: total size of these images in bytes.
    """

    def __init__(self) -> None:
        self.num_images = 0
        self.num_bytes = 0
        self._sum = 0

    def add(self, name: str, file: StoredFile) -> None:
        """Add a file."""
        if _suffix(name) in IMAGE_SUFFIXES:
            self.num_images += 1
            self.num_bytes += file.size_bytes
        entry = f"{name}\0{file.size_bytes}\0{file.etag}".encode("utf-8", "surrogateescape")
        self._sum += int.from_bytes(hashlib.sha256(entry).digest(), "big")

    @property
    def etag(self) -> str:
        """Return the digest. It changes if a name, a size or an etag changes."""
        return f"{self._sum % (1 << 256):064x}"[:32]


def read_folder(
    shard: Shard,
    limits: ReadLimits,
    options: ReadOptions,
    counts: ShardCounts,
    is_known: Callable[[Member], bool],
) -> Iterator[Sample]:
    """Yield the images in a folder.

    Args:
        shard: the shard, from :func:`skytext.archive.discover`.
        limits: size limits. An image that is too large becomes a failed sample. A sidecar that is
            too large is not read.
        options: how to read from the store.
        counts: an object that the reader updates.
        is_known: a function that returns True if the bytes of an image are not needed.

    Raises:
        OSError: the folder cannot be listed completely, or the store did not respond for too many
            consecutive files. In this count, files that are not read and files to which the store
            refuses access are ignored.
    """
    read = _FileReader(shard, limits, options, is_known)
    files = _files(shard, limits, options, counts)
    # A local disk needs no parallel reads.
    num_threads = 1 if shard.uri.startswith("file:") else NUM_THREADS
    samples = prefetch(
        files,
        read,
        lambda file: file.stored.size_bytes,
        num_threads=num_threads,
        max_bytes=_AHEAD_BYTES,
    )
    # Stop the threads before an error reaches the caller.
    with contextlib.closing(samples):
        yield from _given(samples, counts)


def _given(samples: Iterator[tuple[_File, Sample | None]], counts: ShardCounts) -> Iterator[Sample]:
    """Yield the samples of the files. Leave out files that were deleted after the listing.

    Raises:
        OSError: the store did not respond for too many consecutive files.
    """
    num_gone = num_in_a_row = 0
    for _, sample in samples:
        if sample is None:
            num_gone += 1  # the file was deleted after the listing
            continue
        yield sample
        if isinstance(sample.fault, UnavailableError):
            num_in_a_row += 1
        elif sample.data is not None:
            num_in_a_row = 0
        if num_in_a_row == _MAX_FAULTS_IN_A_ROW:
            raise UnavailableError(
                f"{num_in_a_row} consecutive files could not be read. The error for the last file "
                f"was: {sample.fault}"
            )
    if num_gone:
        # The folder changed after it was listed, so the etag from the listing is wrong.
        counts.etag = ""


def list_folder_images(
    shard: Shard, limits: ReadLimits, options: ReadOptions, counts: ShardCounts
) -> Iterator[Member]:
    """Yield the same members as `read_folder`, but list the folder without reading its files.

    Raises:
        OSError: the folder cannot be listed completely.
    """
    for file in _files(shard, limits, options, counts):
        yield file.member


def _files(
    shard: Shard, limits: ReadLimits, options: ReadOptions, counts: ShardCounts
) -> Iterator[_File]:
    """Yield the image files in a folder.

    Raises:
        OSError: the folder cannot be listed completely, or no longer contains an image.
    """
    digest = FolderDigest()
    for group in _groups(shard, options, counts):
        for name, stored in group.items():
            digest.add(name, stored)
            if _suffix(name) in IMAGE_SUFFIXES:
                sidecars = _sidecars_of(name, group)
                counts.num_sidecars += len(sidecars)
                yield _file(shard, limits, name, stored, sidecars)
    if not digest.num_images:
        raise FileNotFoundError("the folder no longer contains images. Run the command again")
    counts.num_bytes, counts.etag = digest.num_bytes, digest.etag


def _groups(
    shard: Shard, options: ReadOptions, counts: ShardCounts
) -> Iterator[dict[str, StoredFile]]:
    """Yield one group of files for each key: its images and sidecars, sorted by name."""
    key = ""
    group: dict[str, StoredFile] = {}
    for name, stored in list_folder(shard.uri, retry_s=options.retry_s):
        if is_hidden(name):
            counts.ignore(HIDDEN)
            continue
        if _suffix(name) not in IMAGE_SUFFIXES | SIDECAR_SUFFIXES:
            counts.ignore(kind_of_file(name))
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
    # A name in the table must be valid Unicode. The uri contains the original name.
    member = name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    failure = None
    if stored.size_bytes > limits.max_member_bytes:
        failure = SampleError(
            Stage.READ,
            Reason.MEMBER_TOO_LARGE,
            f"{member} has {stored.size_bytes} bytes. The limit is {limits.max_member_bytes} bytes",
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


@dataclass(frozen=True)
class _FileReader:
    """A function object that reads an image file and its sidecars."""

    shard: Shard
    limits: ReadLimits
    options: ReadOptions
    is_known: Callable[[Member], bool]

    def __call__(self, file: _File) -> Sample | None:
        """Return the sample of the file, or None if the file was deleted."""
        member = file.member
        if self.is_known(member):
            return member.sample(self.shard, Metadata(), None)
        if not member.etag:
            why = f"{member.member} is a broken link"
            failure = SampleError(Stage.READ, Reason.SHARD_UNREADABLE, why)
            return member.sample(self.shard, Metadata(), None, failure)
        try:
            data = None if member.failure is not None else self._content(file.stored)
        except ChangedError:
            return self._changed(file)
        except FileNotFoundError:
            return None
        except OSError as err:
            return member.sample(self.shard, Metadata(), None, fault=err)
        try:
            return member.sample(self.shard, self._metadata(file), data)
        except OSError as err:
            return member.sample(self.shard, Metadata(), None, fault=err)

    def _changed(self, file: _File) -> Sample | None:
        """Read the current version of a file that was replaced after it was listed."""
        try:
            stored = stat_file(file.stored.uri, retry_s=self.options.retry_s)
        except FileNotFoundError:
            return None
        except OSError as err:
            return file.member.sample(self.shard, Metadata(), None, fault=err)
        name = file.member.member
        return self(_file(self.shard, self.limits, name, stored, file.sidecars))

    def _metadata(self, file: _File) -> Metadata:
        """Return the metadata from the sidecars of an image. Ignore deleted sidecars.

        Raises:
            OSError: the store did not return one of the sidecars.
        """
        contents: dict[str, bytes] = {}
        errors = []
        for suffix, stored in file.sidecars.items():
            try:
                content = self._sidecar(stored)
            except FileNotFoundError:
                continue
            if isinstance(content, str):
                errors.append(content)
            else:
                contents[suffix] = content
        if not contents and not errors:
            return Metadata()
        return parse_sidecar(contents.get("json"), contents.get("txt"), errors=tuple(errors))

    def _sidecar(self, stored: StoredFile) -> bytes | str:
        """Return the current content of a sidecar, or the reason why it is not read."""
        if stored.size_bytes > self.limits.max_sidecar_bytes:
            return f"{stored.uri} is larger than {self.limits.max_sidecar_bytes} bytes"
        try:
            return self._content(stored)
        except ChangedError:
            return self._sidecar(stat_file(stored.uri, retry_s=self.options.retry_s))

    def _content(self, stored: StoredFile) -> bytes:
        retry_s = self.options.retry_s
        try:
            return read_range(stored.uri, 0, stored.size_bytes, etag=stored.etag, retry_s=retry_s)
        except FileNotFoundError as err:
            if is_listed(stored.uri, retry_s=retry_s):
                raise OSError(
                    f"{stored.uri} is in the listing of the folder, but the store reports that it "
                    "does not exist. Run the command again"
                ) from err
            raise  # the file was deleted


def _suffix(name: str) -> str:
    # Use the same rule as `skytext.archive.discover`: a file with the name "json" has no suffix.
    _, dot, suffix = name.rpartition(".")
    return suffix.lower() if dot else ""
