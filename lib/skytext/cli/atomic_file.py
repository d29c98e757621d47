"""Write a file completely or not at all."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from skytext.errors import DISK_ERRNOS, CallError


@contextlib.contextmanager
def naming(path: Path) -> Iterator[None]:
    """Add ``path`` to disk errors without a path. A write to an open file raises such errors."""
    try:
        yield
    except OSError as error:
        if error.errno in DISK_ERRNOS and error.filename is None:
            error.filename = str(path)
        raise


@contextlib.contextmanager
def open_atomically(path: Path, *, replace: bool = True) -> Iterator[BinaryIO]:
    """Open a temporary file. At the end of the ``with`` block, it replaces the file ``path``.

    If the block fails or is interrupted, the file ``path`` does not change, and the temporary file
    is deleted.

    Args:
        path: the file to write.
        replace: true to overwrite an existing file.

    Raises:
        CallError: the folder is missing or not writable, ``path`` is a folder, or the file exists
            and ``replace`` is False.
        OSError: the disk is full or failed. The attribute ``filename`` of the error is ``path``.
    """
    if path.is_dir():
        raise CallError(f"cannot write {path}: it is a folder")
    if not replace and path.exists():
        raise CallError(f"{path} already exists: use --force to overwrite it")
    try:
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    except OSError as error:
        raise CallError(f"cannot write {path}: {error.strerror or error}") from error
    written = Path(name)
    with naming(path), contextlib.ExitStack() as undo:
        undo.callback(written.unlink, missing_ok=True)
        with os.fdopen(handle, "wb") as out:
            yield out
            out.flush()
            os.fsync(out.fileno())
        # The file from mkstemp is readable only for its owner. So set the default permissions of a
        # new file.
        umask = os.umask(0)
        os.umask(umask)
        written.chmod(0o666 & ~umask)
        written.replace(path)
        undo.pop_all()


def write_file(path: Path, content: bytes) -> None:
    """Write a file completely or not at all. An existing file is replaced.

    Raises:
        CallError: the folder is missing or not writable.
        OSError: the disk is full or failed.
    """
    with open_atomically(path) as out:
        out.write(content)
