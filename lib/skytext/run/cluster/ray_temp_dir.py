"""Find a temporary folder in which a local Ray and its workers can create Unix sockets.

Ray creates its sockets in the folder ``ray`` in ``RAY_TMPDIR``. If ``RAY_TMPDIR`` is not set, Ray
uses ``TMPDIR``. If ``TMPDIR`` is also not set, Ray uses ``/tmp``. The path of a Unix socket may
have at most 107 bytes. The names that Ray appends to the folder need 68 bytes. The workers of vLLM
create sockets in ``TMPDIR``.
"""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from skytext.errors import ConfigError, JobError

_SOCKET = "/ray/session_2026-01-01_00-00-00_000000_4194304/sockets/plasma_store"
MAX_BYTES = 107 - len(_SOCKET)
"""Maximum length of the path of the temporary folder."""
MIN_FREE_BYTES = 64 * 2**20
"""Minimum free space in bytes. If less space is free, Ray fails after half a minute, and its error
message does not contain the reason."""
_VARIABLES = ("RAY_TMPDIR", "TMPDIR")


@contextmanager
def short_temp_dir() -> Iterator[str]:
    """During the block, set ``RAY_TMPDIR`` and ``TMPDIR`` to folders that a local Ray can use.

    If a folder is already suitable, its variable is not changed. If the path of a folder is too
    long, the variable is set to a symbolic link to this folder, so files are still written to the
    folder of the user. The link is in a new private folder. If the folder ``ray`` in ``TMPDIR`` or
    ``/tmp`` is not writable, Ray uses the private folder. The private folder is deleted at the end
    of the block. But if the block raises an error and the message contains the path of the private
    folder, this folder is kept, because the user needs the logs in it.

    Yields:
        The folder in which Ray creates the folder ``ray``.

    Raises:
        ConfigError: no folder is suitable.
        JobError: the disk is full.
    """
    before = {name: os.environ.get(name) for name in _VARIABLES}
    private: list[Path] = []
    is_kept = False
    try:
        for name, folder in before.items():
            if folder and not _is_short(folder) and os.path.isdir(folder):
                _set(name, _link(folder, name, private))
        if not _serves(wanted_temp_dir()):
            if before["RAY_TMPDIR"]:
                raise ConfigError(
                    f"Ray cannot write in RAY_TMPDIR={before['RAY_TMPDIR']}. Set RAY_TMPDIR to a "
                    "writable folder"
                )
            _set("RAY_TMPDIR", str(_private(private)))
        _check_space(wanted_temp_dir())
        yield wanted_temp_dir()
    except JobError as error:
        is_kept = any(str(made) in str(error) for made in private)
        raise
    finally:
        for name, value in before.items():
            _set(name, value)
        for made in private:
            if not is_kept:
                shutil.rmtree(made, ignore_errors=True)


def wanted_temp_dir() -> str:
    """Return the folder in which Ray creates the folder ``ray``.

    If a variable is set to an empty string, Ray also uses this value.
    """
    return os.environ.get("RAY_TMPDIR", os.environ.get("TMPDIR", "/tmp"))


def _is_short(folder: str) -> bool:
    return len(os.fsencode(folder)) <= MAX_BYTES


def _serves(folder: str) -> bool:
    """Return whether Ray can create or use a folder ``ray`` inside ``folder``."""
    if not os.path.isabs(folder) or not _is_short(folder):
        return False
    return can_write(existing_part(os.path.join(folder, "ray")))


def existing_part(path: str) -> str:
    """Return the path if it exists. Otherwise return the nearest parent folder that exists."""
    path = os.path.abspath(path)
    while not os.path.exists(path):
        path = os.path.dirname(path)
    return path


def can_write(folder: str) -> bool:
    """Return whether this user can create files in a folder."""
    return os.path.isdir(folder) and os.access(folder, os.W_OK | os.X_OK)


def _check_space(folder: str) -> None:
    if shutil.disk_usage(existing_part(folder)).free < MIN_FREE_BYTES:
        raise JobError(
            f"{os.strerror(errno.ENOSPC)}: {folder}: free some space, or set RAY_TMPDIR to a "
            "folder on another disk. Then run the same command again"
        )


def _link(folder: str, name: str, private: list[Path]) -> str:
    link = _private(private) / name.lower()
    link.symlink_to(os.path.abspath(folder))
    return str(link)


def _private(made: list[Path]) -> Path:
    """Return a private folder of this user. The first call creates the folder."""
    if not made:
        made.append(_make_private())
    return made[0]


def _make_private() -> Path:
    for folder in ("/tmp", "/var/tmp", os.environ.get("XDG_RUNTIME_DIR", "")):
        try:
            made = Path(tempfile.mkdtemp(prefix="skytext-", dir=folder or "/tmp"))
        except OSError:
            continue
        if _is_short(str(made / "ray_tmpdir")):
            return made
        made.rmdir()
    raise ConfigError(
        "no folder is suitable for the sockets of Ray: set RAY_TMPDIR to a writable folder whose "
        f"path has at most {MAX_BYTES} bytes"
    )


def _set(name: str, value: str | None) -> None:
    if value is None:
        os.environ.pop(name, None)
    else:
        os.environ[name] = value
    # Python stores the path of its temporary folder here. None makes Python read the variables
    # again.
    tempfile.tempdir = None
