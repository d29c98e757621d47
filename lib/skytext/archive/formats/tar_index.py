"""Find sidecars and link targets anywhere in a tar. To find them, read all headers of the tar.

Reading all headers is called a walk. A walk is needed in two cases. In the first case, an image or
a sidecar is a link. In the second case, an image has no sidecar in its group, and the tar has a
group with a sidecar but no image. The reader looks for such a group in the part of the tar that it
has already read, and in the last megabyte of the tar. If the first walk finds links, a second walk
finds the targets of the links. A walk reads only headers and sidecars. Skipped ranges of more than
64 KiB are not fetched.

``limits.max_group_bytes`` limits the memory for sidecars and links. Each entry counts as 512 bytes.
The contents of sidecars use at most half of the limit. If there are more sidecars, their contents
are read with range requests when they are needed. There is also a maximum number of sidecars and of
links (524,288 of each by default). Further sidecars and links are not found.
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
"""Approximate number of bytes that Python needs for one member, in addition to its data."""
_MAX_LINKS_IN_A_ROW = 40  # Linux has the same limit
_TAIL_BYTES = 1 << 20


class Place(NamedTuple):
    """The position of a member's bytes in the tar."""

    offset: int
    length: int


class _Link(NamedTuple):
    """A link.

    If several members have the name of the target, the target of a hard link is the last of these
    members before the link. If all of them follow the link, it is the last of them.

    Attributes:
        target: the normal name of the target.
        before: the offset of the link's header if the link is a hard link. None if the link is a
            symbolic link.
    """

    target: str
    before: int | None


@dataclass(frozen=True, slots=True)
class Sidecar:
    """A sidecar.

    Attributes:
        offset: the position directly after the header of the sidecar. The data begin here. The
            offset is also set for a link, which has no data. It is unique in the tar.
        content: the bytes of the sidecar, or a message that says why the bytes cannot be read.
    """

    offset: int
    content: bytes | str


_Content = bytes | str | Place | _Link | None
"""The content of a sidecar (see `Sidecar`), the position of the content, or a link. None if the
sidecar is a link that was not stored because there were too many links."""
_Visit = Callable[[Tarball, tarfile.TarInfo], None]


class TarIndex:
    """The sidecars and links in one tar. The first method that needs them starts the walks.

    The result depends only on the bytes of the tar. If the tar is damaged, the walks end at the
    position where the reader also ends.

    Attributes:
        is_made: true if the walks are complete.
    """

    def __init__(self, open_tar: Callable[[], RangedFile], limits: ReadLimits) -> None:
        """Prepare the walks.

        Args:
            open_tar: a function that opens the tar for random access.
            limits: the limits of the reader.
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
        """True if the last megabyte contains a group with a sidecar but no image.

        This check needs one request. A walk needs one request for each member of more than 64 KiB.
        So this check is much faster than a walk if the tar has no sidecars.

        Raises:
            OSError: the store did not return the bytes.
        """
        file = self._opened()
        start = max(file.size() - _TAIL_BYTES, 0) // tarfile.BLOCKSIZE * tarfile.BLOCKSIZE
        file.seek(start)
        runs = itertools.groupby(_headers_in(file.read(_TAIL_BYTES)), lambda h: key_of(h.name))
        kinds = [{kind_of(header) for header in run} for _, run in runs]
        # Ignore the first group, because its image can be located before the last megabyte.
        whole = kinds[1:] if start else kinds
        return any(Kind.SIDECAR in run and Kind.IMAGE not in run for run in whole)

    def sidecar(self, name: str, suffix: str) -> Sidecar | None:
        """Return the sidecar of an image. It can be anywhere in the tar.

        If several sidecars have the same name, return the last of them. If there is no sidecar,
        return None.

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
            OSError: the store did not return the headers or the content.
        """
        self._make()
        return self._content(header.name, self._links.get(header.offset))

    def target(self, header: tarfile.TarInfo) -> Place | None:
        """Return the position of the target file of a link.

        If the link points to another link, the function follows the links to a file. It returns
        None if the tar does not contain this file in one piece.

        Raises:
            OSError: the store did not return the headers.
        """
        self._make()
        link = self._links.get(header.offset)
        return None if link is None else self._resolve(link)

    def read(self, place: Place) -> bytes:
        """Return the bytes at a position.

        Raises:
            OSError: the store did not return the bytes.
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
        # Ignore damage here, because the reader also finds the damage and reports it.
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
            return f"{name} is a link, but the tar does not contain the target of the link"
        if not isinstance(place, Place):
            return place
        if place.length > self._limits.max_sidecar_bytes:
            return too_large(name, self._limits)
        return self.read(place)


def _headers_in(data: bytes) -> Iterator[tarfile.TarInfo]:
    """Yield the headers in a part of a tar. The part must begin at the start of a tar block."""
    for offset in range(0, len(data) - tarfile.BLOCKSIZE + 1, tarfile.BLOCKSIZE):
        block = data[offset : offset + tarfile.BLOCKSIZE]
        if block[257:262] == b"ustar":
            with contextlib.suppress(tarfile.HeaderError):
                yield tarfile.TarInfo.frombuf(block, "utf-8", "backslashreplace")


def too_large(name: str, limits: ReadLimits) -> str:
    """Return the message about a sidecar that is too large to read."""
    return f"{name} is larger than {limits.max_sidecar_bytes} bytes"
