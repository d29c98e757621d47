"""Write a file so that it is there whole or not at all."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from skytext.errors import CallError


@contextlib.contextmanager
def open_atomically(path: Path, *, replace: bool = True) -> Iterator[BinaryIO]:
    """Open a file to write, beside ``path`` and put in its place at the end.

    An interrupted or failed block leaves what was there before, and nothing else.

    Args:
        path: the file.
        replace: write over one that is there.

    Raises:
        CallError: the folder is not there or cannot be written, or the file is there.
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
    with contextlib.ExitStack() as undo:
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


def write_text(path: Path, text: str) -> None:
    """Write a text as a whole, over what was there.

    Raises:
        CallError: the folder is not there or cannot be written.
    """
    with open_atomically(path) as out:
        out.write(text.encode())
