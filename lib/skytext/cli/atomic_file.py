"""Write a file so that it is there whole or not at all."""

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
    """Name the path in an error of the disk that names none: of a write to an open file."""
    try:
        yield
    except OSError as error:
        if error.errno in DISK_ERRNOS and error.filename is None:
            error.filename = str(path)
        raise


@contextlib.contextmanager
def open_atomically(path: Path, *, replace: bool = True) -> Iterator[BinaryIO]:
    """Open a file to write, beside ``path`` and put in its place at the end.

    An interrupted or failed block leaves what was there before, and nothing else.

    Args:
        path: the file.
        replace: write over one that is there.

    Raises:
        CallError: the folder is not there or cannot be written, or the file is there.
        OSError: the disk is full or broken; the path is its ``filename``.
    """
    if path.is_dir():
        raise CallError(f"cannot write {path}: it is a folder")
    if not replace and path.exists():
        raise CallError(f"{path} is there already: --force writes over it")
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
        # mkstemp makes files for nobody else.
        umask = os.umask(0)
        os.umask(umask)
        written.chmod(0o666 & ~umask)
        written.replace(path)
        undo.pop_all()


def write_file(path: Path, content: bytes) -> None:
    """Write a file as a whole, over what was there.

    Raises:
        CallError: the folder is not there or cannot be written.
        OSError: the disk is full or broken.
    """
    with open_atomically(path) as out:
        out.write(content)
