"""Classify the members of a tar by their headers."""

from __future__ import annotations

import posixpath
import tarfile
from enum import Enum

from skytext.archive.ignored import HIDDEN, LINK, SPECIAL, kind_of_file
from skytext.archive.suffixes import IMAGE_SUFFIXES, SIDECAR_SUFFIXES, is_hidden


class Kind(Enum):
    """The kind of a tar member. The kind of a link depends on the name of the link."""

    IMAGE = 1
    SIDECAR = 2
    IGNORED = 3


def is_link(header: tarfile.TarInfo) -> bool:
    """Return true if a member is a hard or a symbolic link."""
    return header.islnk() or header.issym()


def kind_of(header: tarfile.TarInfo) -> Kind:
    """Return the kind of a member."""
    if not (header.isreg() or is_link(header)) or is_hidden(header.name):
        return Kind.IGNORED
    suffix = suffix_of(header.name)
    if suffix in IMAGE_SUFFIXES:
        return Kind.IMAGE
    return Kind.SIDECAR if suffix in SIDECAR_SUFFIXES else Kind.IGNORED


def ignored_as(header: tarfile.TarInfo) -> str | None:
    """Return the kind of an ignored member (see `skytext.archive.ignored`). None for a folder."""
    if header.isdir():
        return None
    if is_hidden(header.name):
        return HIDDEN
    if is_link(header):
        return LINK
    return kind_of_file(header.name) if header.isreg() else SPECIAL


def suffix_of(name: str) -> str:
    """Return the lower-case suffix of a member, without its dot."""
    return name.rpartition("/")[2].rpartition(".")[2].lower()


def stem_of(name: str) -> str:
    """Return a member's name up to the last dot of its base name."""
    folder, slash, base = name.rpartition("/")
    return folder + slash + base.rpartition(".")[0]


def key_of(name: str) -> str:
    """Return a member's name up to the first dot of its base name."""
    folder, slash, base = name.rpartition("/")
    return folder + slash + base.partition(".")[0]


def normal_name(name: str) -> str:
    """Return a member's name without ``.`` and ``..``, so that it can be compared with targets."""
    return posixpath.normpath(name)


def link_target(header: tarfile.TarInfo) -> str:
    """Return the target of a link as a `normal_name`.

    A hard link contains the name of the target in the tar. A symbolic link contains a path to the
    target, relative to the folder of the link.
    """
    folder = posixpath.dirname(header.name) if header.issym() else ""
    return normal_name(posixpath.join(folder, header.linkname))
