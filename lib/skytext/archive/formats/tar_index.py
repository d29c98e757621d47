"""Find sidecars and link targets anywhere in a tar by a walk over its headers.

A tar without links, whose sidecars are next to their images, needs no walk. The first walk happens
if an image has no sidecar next to it and the tar has sidecars without an image next to them, in
the part read so far or in the last megabyte. A second walk happens if the tar has links: it
finds their targets. Only sidecar bytes are read; skipped ranges above 64 KiB are not fetched.

``limits.max_group_bytes`` limits memory: an entry counts as 512 bytes, and sidecar contents may
fill half of the limit. Contents of further sidecars are read by range when needed. Sidecars and
links beyond the limit (524,288 of each by default) are not found.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import tarfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

from skytext.archive.formats.tar_names import (
    Kind,
    is_link,
    key_of,
    kind_of,
    link_target,
    normal_name,
    stem_of,
    suffix_of,
)
from skytext.archive.formats.tar_stream import Jumping, Tarball
from skytext.archive.shards import ReadLimits
from skytext.archive.storage.ranged_file import RangedFile
from skytext.archive.unreadable import ShardEndError

MEMBER_OVERHEAD_BYTES = 512
"""Approximate memory that Python needs for one member without its bytes."""
_MAX_LINKS_IN_A_ROW = 40  # the limit of Linux
_TAIL_BYTES = 1 << 20


class Place(NamedTuple):
    """The position of a member's bytes in the tar."""

    offset: int
    length: int


class _Link(NamedTuple):
    """A link; a hard link names an earlier member, if there is one."""

    target: str
    before: int | None


@dataclass(frozen=True, slots=True)
class Sidecar:
    """A sidecar.

    Attributes:
        offset: where its data begin, or would begin for a link; unique in the tar.
        content: its bytes, or a sentence that says why they cannot be read.
    """

    offset: int
    content: bytes | str


_Content = bytes | str | Place | _Link | None
"""The content of a sidecar as in `Sidecar`, or its place; None for an unknown link target."""
_Visit = Callable[[Tarball, tarfile.TarInfo], None]


class TarIndex:
    """The sidecars and links of one tar; the walks run at the first request.

    The result depends on the tar's bytes alone, and ends at the same damage as the reader.

    Attributes:
        is_made: whether the walks have run.
    """

    def __init__(self, open_tar: Callable[[], RangedFile], limits: ReadLimits) -> None:
        """Prepare the walks.

        Args:
            open_tar: opens the tar for random access.
            limits: the reader's limits.
        """
        self._open = open_tar
        self._limits = limits
        self._max_entries = limits.max_group_bytes // MEMBER_OVERHEAD_BYTES
        self._room = limits.max_group_bytes // 2
        self._file: RangedFile | None = None
        self._sidecars: dict[tuple[str, str], tuple[int, _Content]] = {}
        self._links: dict[int, _Link] = {}
        self._links_by_name: dict[str, _Link] = {}
        self._places: dict[str, list[Place]] = {}
        self.is_made = False

    def close(self) -> None:
        """Close the tar."""
        if self._file is not None:
            self._file.close()

    @functools.cached_property
    def ends_in_strays(self) -> bool:
        """Whether a sidecar in the last megabyte has no image of its key next to it.

        This costs one request. A walk costs one request for each member above 64 KiB, and a tar
        without sidecars must not cost that.

        Raises:
            OSError: the store did not return the bytes.
        """
        file = self._opened()
        start = max(file.size() - _TAIL_BYTES, 0) // tarfile.BLOCKSIZE * tarfile.BLOCKSIZE
        file.seek(start)
        runs = itertools.groupby(_headers_in(file.read(_TAIL_BYTES)), lambda h: key_of(h.name))
        kinds = [{kind_of(header) for header in run} for _, run in runs]
        # The image of the first group may be before this piece.
        whole = kinds[1:] if start else kinds
        return any(Kind.SIDECAR in run and Kind.IMAGE not in run for run in whole)

    def sidecar(self, name: str, suffix: str) -> Sidecar | None:
        """Return the sidecar of an image from anywhere in the tar; the last one of several.

        Args:
            name: the image's name.
            suffix: ``json`` or ``txt``.

        Raises:
            OSError: the store did not return the headers.
        """
        self._make()
        for stem in (stem_of(name), key_of(name)):
            if (found := self._sidecars.get((stem, suffix))) is not None:
                offset, content = found
                return Sidecar(offset, self._content(f"{stem}.{suffix}", content))
        return None

    def linked_sidecar(self, header: tarfile.TarInfo) -> bytes | str:
        """Return the content of a sidecar that is a link, or the reason why it cannot be read.

        Raises:
            OSError: the store did not return it.
        """
        self._make()
        return self._content(header.name, self._links.get(header.offset))

    def target(self, header: tarfile.TarInfo) -> Place | None:
        """Return the place of the file that a link names, directly or through other links.

        None if the tar does not hold the file in one piece.

        Raises:
            OSError: the store did not return the headers.
        """
        self._make()
        link = self._links.get(header.offset)
        return None if link is None else self._resolve(link)

    def read(self, place: Place) -> bytes:
        """Return the bytes of a place.

        Raises:
            OSError: the store did not return them.
        """
        file = self._opened()
        file.seek(place.offset)
        return file.read(place.length)

    def _opened(self) -> RangedFile:
        if self._file is None:
            self._file = self._open()
        return self._file

    def _make(self) -> None:
        if self.is_made:
            return
        self._walk(self._note)
        if self._links:
            wanted = {link.target for link in self._links.values()}
            self._places = {name: [] for name in wanted}
            self._walk(self._note_place)
        self.is_made = True

    def _walk(self, visit: _Visit) -> None:
        file = self._opened()
        file.seek(0)
        tarball = Tarball(Jumping(file))
        # The reader meets the same damage and reports it.
        with contextlib.suppress(ShardEndError):
            for header in tarball.headers():
                visit(tarball, header)

    def _note(self, tarball: Tarball, header: tarfile.TarInfo) -> None:
        if is_link(header) and len(self._links) < self._max_entries:
            link = _Link(link_target(header), header.offset if header.islnk() else None)
            self._links[header.offset] = self._links_by_name[normal_name(header.name)] = link
        if kind_of(header) is Kind.SIDECAR:
            content = self._noted_content(tarball, header)
            place = (stem_of(header.name), suffix_of(header.name))
            if place in self._sidecars or len(self._sidecars) < self._max_entries:
                self._sidecars[place] = (header.offset_data, content)

    def _noted_content(self, tarball: Tarball, header: tarfile.TarInfo) -> _Content:
        if is_link(header):
            return self._links.get(header.offset)
        if header.size > self._limits.max_sidecar_bytes:
            return too_large(header.name, self._limits)
        if header.size > self._room and not header.issparse():
            tarball.skip(header)
            return Place(header.offset_data, header.size)
        self._room -= header.size
        return tarball.data(header)

    def _note_place(self, _: Tarball, header: tarfile.TarInfo) -> None:
        if not header.isreg() or header.issparse():
            return
        places = self._places.get(normal_name(header.name))
        place = Place(header.offset_data, header.size)
        if places is not None and sum(place) <= self._opened().size():
            places.append(place)

    def _resolve(self, link: _Link) -> Place | None:
        for _ in range(_MAX_LINKS_IN_A_ROW):
            places = self._places.get(link.target, ())
            if places:
                earlier = [p for p in places if link.before is None or p.offset < link.before]
                return (earlier or places)[-1]
            following = self._links_by_name.get(link.target)
            if following is None:
                return None
            link = following
        return None

    def _content(self, name: str, content: _Content) -> bytes | str:
        place = self._resolve(content) if isinstance(content, _Link) else content
        if place is None:
            return f"{name} is a link, but its target is not in this tar"
        if not isinstance(place, Place):
            return place
        if place.length > self._limits.max_sidecar_bytes:
            return too_large(name, self._limits)
        return self.read(place)


def _headers_in(data: bytes) -> Iterator[tarfile.TarInfo]:
    """Yield the tar headers in a piece of a tar that begins at a block."""
    for offset in range(0, len(data) - tarfile.BLOCKSIZE + 1, tarfile.BLOCKSIZE):
        block = data[offset : offset + tarfile.BLOCKSIZE]
        if block[257:262] == b"ustar":
            with contextlib.suppress(tarfile.HeaderError):
                yield tarfile.TarInfo.frombuf(block, "utf-8", "backslashreplace")


def too_large(name: str, limits: ReadLimits) -> str:
    """Return the message about a sidecar that is too large to read."""
    return f"{name} is larger than {limits.max_sidecar_bytes} bytes"
